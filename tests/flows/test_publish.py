from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.experiments import run_jobs, write_suite

from flows.publish import Published, collect, manifest_facts, publish
from tasks.errors import HoldfastError, UnknownError
from tasks.experiment_graph import experiment_jobs
from tasks.experiment_suite import load_suite

AT = 1_800_000_000.0
STAMP = "2027-01-15_08-00-00"
FACTS = {"run": "r", "requested": ["echo"], "configuration": {"n": 2, "seed": 42}}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    adapters = {
        "near": "write({'value': [case + 0.25 for case in cases]}, version='1.2')",
        "broken": "sys.exit(3)",
    }
    suite = load_suite(write_suite(folder, adapters))
    directory = folder / "run"
    directory.mkdir()
    codes = run_jobs(experiment_jobs(suite, n=2, directory=directory))
    assert codes["echo.compare"] == 0
    return directory


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "run")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def other_file_system(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Let renames out of the source's folder fail as they do between file systems."""
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.parent == source and not str(target).startswith(str(source)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)


def test_a_run_publishes_under_its_time_in_utc(run: Path, results: Path) -> None:
    path = publish(run, results, FACTS, at=AT)
    assert path == results / STAMP
    assert sorted(contents(path)) == [
        "echo/broken.json",
        "echo/near.json",
        "echo/reference.json",
        "echo/summary.md",
        "manifest.json",
    ]
    assert os.listdir(results) == [STAMP]


def test_what_is_published_is_byte_for_byte_what_the_jobs_wrote(run: Path, results: Path) -> None:
    written = contents(run / "publication")
    path = publish(run, results, FACTS, at=AT)
    assert path is not None
    published = contents(path)
    del published["manifest.json"]
    assert published == written


def test_across_file_systems_the_same_is_published(
    run: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = contents(run / "publication")
    other_file_system(monkeypatch, run)
    path = publish(run, results, FACTS, at=AT)
    assert path == results / STAMP
    published = contents(path)
    del published["manifest.json"]
    assert published == written
    assert os.listdir(results) == [STAMP]
    assert not (run / "publication").exists()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no second file system")
def test_a_real_second_file_system_is_no_obstacle(run: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if os.stat(folder).st_dev == run.stat().st_dev:
            pytest.skip("the test's folder lies there already")
        path = publish(run, Path(folder, "results"), FACTS, at=AT)
        assert path is not None
        assert collect(path).manifest["completed"] == ["echo"]
        assert os.listdir(path.parent) == [STAMP]


def test_a_second_set_in_the_same_second_gets_a_suffix_and_overwrites_nothing(
    run: Path, template: Path, results: Path, tmp_path: Path
) -> None:
    first = publish(run, results, FACTS, at=AT)
    assert first is not None
    before = contents(first)
    second = publish(shutil.copytree(template, tmp_path / "run2"), results, FACTS, at=AT)
    third = publish(shutil.copytree(template, tmp_path / "run3"), results, FACTS, at=AT)
    assert (second, third) == (results / f"{STAMP}-2", results / f"{STAMP}-3")
    assert contents(first) == before


def test_many_that_publish_at_once_all_get_a_place_of_their_own(
    template: Path, results: Path, tmp_path: Path
) -> None:
    runs = [shutil.copytree(template, tmp_path / f"run{index}") for index in range(8)]
    barrier = threading.Barrier(len(runs))
    paths: list[Path | None] = []

    def start(run: Path) -> None:
        barrier.wait()
        paths.append(publish(run, results, {**FACTS, "run": run.name}, at=AT))

    threads = [threading.Thread(target=start, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == len(runs)
    published = {json.loads((path / "manifest.json").read_text())["run"] for path in paths if path}
    assert published == {run.name for run in runs}


def test_a_run_that_completed_nothing_publishes_nothing(tmp_path: Path, results: Path) -> None:
    (tmp_path / "run").mkdir()
    assert publish(tmp_path / "run", results, FACTS) is None
    (tmp_path / "run" / "publication").mkdir()
    assert publish(tmp_path / "run", results, FACTS) is None
    assert not results.exists()


def full_disk(*arguments: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["Path.rename", "shutil.copytree", "os.fsync"])
def test_a_full_disk_leaves_nothing_visible_and_publishing_can_be_repeated(
    run: Path, results: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    with monkeypatch.context() as patch:
        if broken == "shutil.copytree":
            other_file_system(patch, run)
        owner: Any = {"Path": Path, "shutil": shutil, "os": os}[broken.partition(".")[0]]
        patch.setattr(owner, broken.partition(".")[2], full_disk)
        with pytest.raises(HoldfastError, match="No space left") as error:
            publish(run, results, FACTS, at=AT)
    assert str(run / "publication") in str(error.value)
    assert not results.exists() or os.listdir(results) == []
    assert publish(run, results, FACTS, at=AT) == results / STAMP


_KILLED_WHILE_PUBLISHING = """
import os, signal, sys
from pathlib import Path
import flows.publish

run, results, moment = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
calls = 0

def count(event, arguments):
    global calls
    if event in ("os.rename", "open", "os.mkdir", "os.listdir", "shutil.copyfile", "os.rmdir"):
        words = " ".join(map(str, arguments))
        if str(run) in words or str(results) in words:
            calls += 1
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
if sys.argv[4] == "copy":
    import errno
    rename = Path.rename
    def refuse(self, target):
        if self.parent == run:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)
    Path.rename = refuse
flows.publish.publish(run, results, {"requested": ["echo"]}, at=1.8e9)
"""


@pytest.mark.parametrize("way", ["rename", "copy"])
def test_a_kill_at_any_moment_publishes_all_or_nothing(
    template: Path, tmp_path: Path, way: str
) -> None:
    """Sabotage: rename before the copy is complete, or write the manifest after the rename."""
    seen = set()
    for moment in range(1, 200, 3):
        run = shutil.copytree(template, tmp_path / f"run{moment}")
        results = tmp_path / f"results{moment}"
        words = [sys.executable, "-c", _KILLED_WHILE_PUBLISHING, str(run), str(results)]
        done = subprocess.run([*words, str(moment), way], timeout=120)
        visible = [name for name in _names(results) if not name.startswith(".")]
        seen.add(bool(visible))
        for name in visible:
            assert len(contents(results / name)) == 5
            assert collect(results / name).manifest["completed"] == ["echo"]
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if not visible:
            # The next attempt publishes one complete set, whatever the first left behind.
            assert publish(run, results, FACTS, at=AT) == results / STAMP
            assert len(contents(results / STAMP)) == 5
    else:
        pytest.fail("publishing never came to its end")
    assert seen == {True, False}


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def test_the_manifest_says_what_was_asked_for_and_what_came_of_it(run: Path, results: Path) -> None:
    facts = {**FACTS, "requested": ["echo", "lost"], "versions": {"python": "3"}, "git": None}
    path = publish(run, results, facts, at=AT)
    assert path is not None
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["requested"] == ["echo", "lost"]
    assert manifest["completed"] == ["echo"]
    assert manifest["missing"] == ["lost"]
    assert manifest["failed"] == {"echo.broken": "the adapter exited with code 3"}
    assert manifest["configuration"] == {"n": 2, "seed": 42}
    assert manifest["versions"] == {"python": "3", "near": "1.2"}
    assert manifest["git"] is None
    assert manifest["machine"]["cpus"] == os.cpu_count()
    assert manifest["published_at"] == "2027-01-15T08:00:00.000000Z"


def test_the_facts_of_a_manifest_come_from_the_run(tmp_path: Path) -> None:
    run = {"run": "x", "versions": {"python": "3.11"}, "git": {"commit": "abc"}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    facts = manifest_facts(tmp_path, ["echo"], {"n": 1})
    assert facts == {
        "run": tmp_path.name,
        "configuration": {"n": 1},
        "versions": {"python": "3.11"},
        "git": {"commit": "abc"},
        "requested": ["echo"],
    }


def test_results_read_the_same_before_and_after_they_are_published(
    run: Path, results: Path
) -> None:
    before = collect(run)
    path = publish(run, results, FACTS)
    assert path is not None
    after = collect(path)
    assert after.experiments == before.experiments
    assert next(iter(after.experiments["echo"])) == "reference"
    assert after.failures == {"echo.broken": "the adapter exited with code 3"}
    assert (before.manifest == {}) is not (after.manifest == {})


def test_results_as_json_hold_every_document(run: Path) -> None:
    found: Published = collect(run)
    value = json.loads(json.dumps(found.to_json()))
    libraries = [document["candidate_library"] for document in value["experiments"]["echo"]]
    assert libraries == ["reference", "broken", "near"]


def test_where_there_are_no_results_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownError, match="there are no results in"):
        collect(tmp_path)
    with pytest.raises(UnknownError, match="there are no results in"):
        collect(tmp_path / "absent")


def _truncate(path: Path) -> None:
    os.truncate(path, 10)


def _empty_object(path: Path) -> None:
    path.write_text("{}")


def _list(path: Path) -> None:
    path.write_text("[]")


@pytest.mark.parametrize("damage", [_truncate, _empty_object, _list])
def test_a_damaged_document_is_named(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "publication/echo/near.json")
    with pytest.raises(HoldfastError, match="echo"):
        collect(run)
