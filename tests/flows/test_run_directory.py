"""Run directories: unique, in the order of time, and told by ``run.json``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows import run_directory
from flows.run_directory import RunFile, create_run_directory
from tasks.status import RunStatus

MAKER = """
import sys
from pathlib import Path
from flows.run_directory import RunFile, create_run_directory
for _ in range(int(sys.argv[2])):
    new = create_run_directory(Path(sys.argv[1]), "smoke", lambda run: RunFile(run, "smoke"))
    print(new.name)
"""


def test_directories_made_by_eight_processes_at_once_are_all_different_and_in_order(
    tmp_path: Path,
) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKER, str(tmp_path / "runs"), "125"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    made = [maker.communicate()[0].split() for maker in makers]
    assert all(maker.returncode == 0 for maker in makers)
    assert all(names == sorted(names) for names in made)
    everything = [name for names in made for name in names]
    assert len(set(everything)) == 1000
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(everything)


def test_two_starts_in_the_same_microsecond_get_different_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory.time, "time", lambda: 1_800_000_000.25)
    made = [
        create_run_directory(tmp_path, "smoke", lambda run: RunFile(run, "smoke")) for _ in range(3)
    ]
    names = [directory.name for directory in made]
    assert [RunFile.read(directory).run for directory in made] == names
    stem = "2027-01-15_08-00-00-250000_smoke"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_run_json_reads_back_what_was_written(tmp_path: Path) -> None:
    file = RunFile(run="r", name="smoke", started_at=1.5, parameters={"n": 3}, number=7)
    file.write(tmp_path)
    assert RunFile.read(tmp_path) == file
    ended = file.ended(RunStatus.FAILED, {"failed": 1}, 2.5)
    ended.write(tmp_path)
    assert RunFile.read(tmp_path) == ended


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run": 1}', b"\xff\xfe"])
def test_a_folder_with_a_broken_run_json_is_no_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    assert RunFile.read(tmp_path) is None
