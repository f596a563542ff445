"""``doctor`` looks at the folders of runs and checkpoints."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support.examined import Examined, examined, of_level

from flows.diagnosis.examination import in_time
from flows.diagnosis.finding import Finding, Level
from flows.diagnosis.places import check_places, judge_room
from flows.diagnosis.runs import check_runs
from tasks.checkpoint.file_systems import MountTable

__all__ = ["examined"]


def mounts(place: Examined, *lines: str) -> MountTable:
    """A mount table with a disk at the root and what the lines add, as ``TYPE PATH``."""
    table = place.place / "mountinfo"
    entries = ["ext4 /", *lines]
    table.write_text(
        "".join(
            f"{number} 1 8:1 / {path} rw - {kind} device-{number} rw\n"
            for number, (kind, path) in enumerate(each.split() for each in entries)
        )
    )
    return MountTable(table)


def about(subject: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


def test_folders_on_a_local_disk_are_told_with_their_room(examined: Examined) -> None:
    examination = examined.examination(mounts=mounts(examined))
    found = list(check_places(examination))
    assert of_level(Level.PROBLEM, found) == []
    kind, room = about("runs", found)
    assert "ext4 (device-0 on /)" in kind.message
    assert "free" in room.message
    assert "jobs" in room.message


def test_the_look_leaves_nothing_in_the_folder_of_runs(examined: Examined) -> None:
    list(check_places(examined.examination()))
    assert list(examined.runs.iterdir()) == []


def test_the_look_does_not_make_a_folder_that_does_not_exist(examined: Examined) -> None:
    missing = examined.place / "not" / "yet"
    found = list(check_places(examined.examination(runs=missing)))
    assert of_level(Level.PROBLEM, found) == []
    assert not missing.parent.exists()


def test_a_network_file_system_is_told_for_runs_and_checkpoint(examined: Examined) -> None:
    table = mounts(examined, f"nfs4 {examined.runs}")
    examination = examined.examination(mounts=table)
    found = of_level(Level.WARNING, list(check_places(examination)))
    assert [finding.subject for finding in found] == ["runs", "checkpoint"]
    assert all("nfs4" in finding.message for finding in found)
    assert "live files lie in" in found[1].message


def test_a_checkpoint_without_any_local_disk_for_its_live_file_is_a_problem(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = mounts(examined, f"nfs4 {examined.place}", "nfs4 /var/tmp", "nfs4 /tmp")
    found = of_level(Level.PROBLEM, list(check_places(examined.examination(mounts=table))))
    assert [finding.subject for finding in found] == ["checkpoint"]
    assert "no local disk" in found[0].message


def test_a_folder_in_memory_is_told(examined: Examined) -> None:
    examination = examined.examination(mounts=mounts(examined, f"tmpfs {examined.runs}"))
    found = of_level(Level.WARNING, list(check_places(examination)))
    assert [finding.subject for finding in found] == ["runs", "checkpoint"]
    assert "in memory" in found[0].message


def test_a_file_system_behind_a_link_is_the_one_that_counts(examined: Examined) -> None:
    far = examined.place / "far"
    far.mkdir()
    link = examined.place / "link"
    link.symlink_to(far)
    examination = examined.examination(runs=link, mounts=mounts(examined, f"nfs {far}"))
    kind, _ = about("runs", list(check_places(examination)))
    assert kind.level is Level.WARNING


def test_a_file_in_the_place_of_the_folder_is_a_problem(examined: Examined) -> None:
    file = examined.place / "file"
    file.touch()
    found = of_level(Level.PROBLEM, list(check_places(examined.examination(runs=file))))
    assert [finding.subject for finding in found] == ["runs"]
    assert "is no folder" in found[0].message


def test_a_folder_in_which_nothing_can_be_made_is_a_problem(examined: Examined) -> None:
    # /proc takes no folders, not even from root.
    found = of_level(Level.PROBLEM, list(check_places(examined.examination(runs=Path("/proc")))))
    assert "cannot make folders" in found[0].message


def room(free_bytes: int, free_inodes: int, inodes: int = 10**9) -> Level:
    sizes = (4096, 4096, 10**9, 0, free_bytes // 4096, inodes, 0, free_inodes, 0, 255)
    return judge_room("runs", Path("/runs"), os.statvfs_result(sizes)).level


def test_little_room_is_a_warning_and_hardly_any_a_problem() -> None:
    assert room(10 << 30, 10**6) is Level.OK
    assert room(900 << 20, 10**6) is Level.WARNING
    assert room(90 << 20, 10**6) is Level.PROBLEM
    assert room(10 << 30, 10_000) is Level.WARNING
    assert room(10 << 30, 900) is Level.PROBLEM


def test_a_file_system_that_states_no_inodes_has_enough_of_them() -> None:
    assert room(10 << 30, 0, inodes=0) is Level.OK


def test_a_folder_that_does_not_answer_is_a_problem_and_no_run_in_it_is_looked_at(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(type(Path())):  # type: ignore[misc]
        """A path whose server never answers."""

        def resolve(self, strict: bool = False) -> Path:
            never.wait()
            return super().resolve(strict)

        def exists(self, **_: object) -> bool:
            never.wait()
            return True

    never = threading.Event()
    monkeypatch.setattr("flows.diagnosis.examination.ANSWER_WITHIN_S", 0.05)
    examination = examined.examination(runs=Dead(examined.runs))
    try:
        found = of_level(Level.PROBLEM, list(check_places(examination)))
        assert [finding.subject for finding in found] == ["runs"]
        assert "does not answer" in found[0].message
        assert [finding.level for finding in check_runs(examination)] == [Level.WARNING]
    finally:
        never.set()


def test_what_a_probe_raises_is_raised_and_not_taken_for_silence() -> None:
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 // 0)
