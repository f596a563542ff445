"""One link for each job, in the folder of its status, never dangling."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.job_events import (
    FAILED,
    KILLED,
    PASSED,
    START,
    Q,
    R,
    S,
    a_job,
    changed,
    in_batches,
    way,
)

from observers.dispatch import Observers
from observers.status_links import FOLDERS, StatusLinks
from tasks.events import JobChanged, RunStarted


def links_in(directory: Path) -> dict[str, str]:
    """Return the folder of each job's link; fails where a job has two or one dangles."""
    found: dict[str, str] = {}
    for folder in FOLDERS.values():
        for link in (directory / folder).iterdir():
            assert link.name not in found, f"{link.name} is in {found[link.name]} and {folder}"
            assert link.is_symlink()
            assert os.readlink(link) == f"../jobs/{link.name}"
            assert link.resolve(strict=True) == (directory / "jobs" / link.name).resolve()
            found[link.name] = folder
    return found


@pytest.mark.parametrize("end", [PASSED, FAILED, KILLED])
def test_the_link_of_a_job_moves_with_its_status(tmp_path: Path, end: object) -> None:
    links = StatusLinks(tmp_path)
    links.run_started(RunStarted(START, {}))
    assert links_in(tmp_path) == {}
    seen = []
    for event in way(a_job(), S, Q, R, Q, R, end):  # type: ignore[arg-type]
        links.jobs_changed([event])
        seen.append(links_in(tmp_path).get("test-1"))
    assert seen == [None, "running", None, "running", FOLDERS[end]]  # type: ignore[index]
    links.close()


def test_the_four_folders_are_there_from_the_start(tmp_path: Path) -> None:
    links = StatusLinks(tmp_path)
    links.run_started(RunStarted(START, {}))
    links.close()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("running", "passing", "failed", "killed", "jobs")
    }


def test_a_link_is_moved_not_made_anew(tmp_path: Path) -> None:
    # Sabotage: unlink and symlink in place of rename gives the link another inode, and a moment
    # in which the job is nowhere.
    links = StatusLinks(tmp_path)
    links.jobs_changed(way(a_job(), S, Q, R))
    inode = (tmp_path / "running" / "test-1").lstat().st_ino
    links.jobs_changed([changed(a_job(), R, PASSED)])
    assert (tmp_path / "passing" / "test-1").lstat().st_ino == inode
    links.close()


def test_a_job_that_starts_and_ends_in_one_batch_gets_only_its_last_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = os.symlink
    monkeypatch.setattr(os, "symlink", lambda *a, **k: (made.append(a[1]), real(*a, **k)))
    monkeypatch.setattr(os, "rename", lambda *a, **k: pytest.fail("a link was moved"))
    links = StatusLinks(tmp_path)
    links.jobs_changed([*way(a_job("a"), S, Q, R, PASSED), *way(a_job("b"), S, Q, R, FAILED)])
    links.close()
    assert made == ["a", "b"]
    assert links_in(tmp_path) == {"a": "passing", "b": "failed"}


def test_a_job_that_never_ran_has_a_directory_for_its_link_to_point_to(tmp_path: Path) -> None:
    links = StatusLinks(tmp_path)
    links.jobs_changed([changed(a_job("skipped"), S, KILLED, attempt=0)])
    links.close()
    assert links_in(tmp_path) == {"skipped": "killed"}
    assert list((tmp_path / "jobs" / "skipped").iterdir()) == []


def test_a_directory_that_the_backend_has_made_is_left_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "jobs" / "test-1" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("hello")
    links = StatusLinks(tmp_path)
    links.jobs_changed(way(a_job(), S, Q, R))
    links.close()
    assert (tmp_path / "running" / "test-1" / "log.txt").read_text() == "hello"


def test_another_driver_moves_the_links_that_a_dead_one_left(tmp_path: Path) -> None:
    first = StatusLinks(tmp_path)
    first.jobs_changed([*way(a_job("a"), S, Q, R), *way(a_job("b"), S, Q, R)])
    first.close()
    second = StatusLinks(tmp_path)
    second.jobs_changed([changed(a_job("a"), R, KILLED), changed(a_job("b"), R, R)])
    second.close()
    assert links_in(tmp_path) == {"a": "killed", "b": "running"}


def test_links_are_put_where_the_journal_says_after_a_crash_between_the_two(tmp_path: Path) -> None:
    first = StatusLinks(tmp_path)
    first.jobs_changed([event for name in "abc" for event in way(a_job(name), S, Q, R)])
    first.close()
    repaired = StatusLinks(tmp_path)
    repaired.run_started(RunStarted(START, {}))
    repaired.set_all({"a": PASSED, "b": R, "c": Q, "d": KILLED})
    repaired.jobs_changed([changed(a_job("b"), R, FAILED)])
    repaired.close()
    assert links_in(tmp_path) == {"a": "passing", "b": "failed", "d": "killed"}


def test_closing_lets_go_of_every_folder(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    links = StatusLinks(tmp_path)
    links.run_started(RunStarted(START, {}))
    links.set_all({"a": PASSED})
    links.close()
    links.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_run_directory_that_vanished_switches_the_links_off_and_nothing_else(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    links = Observers([StatusLinks(directory)])
    links.run_started(RunStarted(START, {}))
    directory.rename(tmp_path / "moved")
    links.jobs_changed(way(a_job("a"), S, Q, R))
    assert links_in(tmp_path / "moved") == {"a": "running"}, "open folders follow a rename"
    (tmp_path / "moved" / "running" / "a").unlink()
    (tmp_path / "moved" / "running").rmdir()
    links.jobs_changed(way(a_job("b"), S, Q, R))
    assert list(links.failed) == ["status links"]
    assert links.essential_failure is None
    links.close()


ways = st.lists(
    st.sampled_from(
        [(Q,), (Q, R), (Q, R, PASSED), (Q, R, FAILED), (KILLED,), (Q, KILLED), (Q, R, Q, R, PASSED)]
    ),
    min_size=1,
    max_size=8,
)


@given(ways=ways, sizes=st.lists(st.integers(0, 5), max_size=12), data=st.data())
def test_in_whatever_batches_they_come_each_link_is_where_its_job_is(
    ways: list[tuple[object, ...]], sizes: list[int], data: st.DataObject
) -> None:
    waiting = [way(a_job(f"j{number}"), S, *steps) for number, steps in enumerate(ways)]  # type: ignore[arg-type]
    events: list[JobChanged] = []
    while any(waiting):
        events.append(data.draw(st.sampled_from([each for each in waiting if each])).pop(0))
    with TemporaryDirectory() as folder:
        links = StatusLinks(Path(folder))
        links.run_started(RunStarted(START, {}))
        expected: dict[str, str] = {}
        for batch in in_batches(events, *sizes):
            links.jobs_changed(batch)
            expected.update((event.job.id, FOLDERS.get(event.after, "")) for event in batch)
            assert links_in(Path(folder)) == {job: at for job, at in expected.items() if at}
        links.close()
