"""A sweep ends what carries a run's marks, and nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hard_programs import Marked, marked_program
from support.local_run import LocalRun

from backends.run_cgroup import RunCgroup
from backends.sweep import Sweep, strays_of_run, sweep_run
from tasks.process_identity import boot_id
from tasks.run_context import new_run_number
from tasks.status import CauseKind, JobStatus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Marked]:
    with marked_program(tmp_path) as marked:
        yield marked


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LocalRun]:
    with LocalRun(tmp_path) as made:
        yield made


def test_after_a_reboot_there_is_nobody_to_end(run: LocalRun, hard: Marked) -> None:
    """Sabotage: backends/sweep.py: if boot_id and boot_id != this_boot(): -> if False:"""
    run.launch((str(hard.path), "sleepers"))
    hard.wait_for(2)
    number = run.context.number
    assert sweep_run(number, "run", boot_id=f"not {boot_id()}") == Sweep(0, ())
    assert len(hard.pids()) == 2


def test_who_started_before_the_keeper_is_spared(run: LocalRun, hard: Marked) -> None:
    run.launch((str(hard.path), "sleepers"))
    hard.wait_for(2)
    since = run.keeper.identity.start_time
    number = run.context.number
    assert sweep_run(number, "run", directory=run.directory, since=since + 10**6) == Sweep(0, ())
    assert len(strays_of_run(number, "run", directory=run.directory, since=since)) == 2


def test_a_run_without_processes_is_swept_at_once(tmp_path: Path) -> None:
    assert sweep_run(new_run_number(), "run", directory=tmp_path, grace_s=60.0) == Sweep(0, ())


def test_a_sweep_by_name_alone_finds_the_carriers_of_the_name(hard: Marked) -> None:
    name = f"2026-01-01_00-00-00-000000_{os.getpid()}"
    process = subprocess.Popen([hard.path, "new-session"], env={"HOLDFAST_RUN": name})
    hard.wait_for(3)
    swept = sweep_run(new_run_number(), name, grace_s=5.0)
    assert process.wait(timeout=10) == -signal.SIGTERM
    assert swept.ended == 3
    assert hard.gone()


def test_whoever_sweeps_from_inside_the_run_survives_it(run: LocalRun, hard: Marked) -> None:
    """Sabotage: backends/sweep.py: since=since, never=mine) -> since=since)"""
    victim = run.launch((str(hard.path), "bare-double-fork"), grace_s=0.1)
    hard.wait_for(2)
    code = (
        "import sys; from pathlib import Path; from backends.sweep import sweep_run; "
        "print(sweep_run(int(sys.argv[1]), 'run', directory=Path(sys.argv[2]), "
        "cgroup=sys.argv[3] or None, grace_s=0.2))"
    )
    arguments = (str(run.context.number), str(run.directory), run.keeper.cgroup or "")
    done = run.run((sys.executable, "-c", code, *arguments), env={"PYTHONPATH": str(ROOT)})
    assert done.status is JobStatus.PASSED, run.log(2)
    assert hard.gone()
    cause = run.completions.of(victim).cause
    assert cause is not None
    assert cause.kind is CauseKind.SIGNAL


@pytest.mark.parametrize("name", ["holdfast-1", "system.slice", ""])
def test_a_cgroup_of_another_name_is_not_taken_for_the_runs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "cgroup.procs").touch()
    assert RunCgroup.of_run(str(tmp_path / name), 2) is None


def test_a_folder_that_is_no_cgroup_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "holdfast-2").mkdir()
    assert RunCgroup.of_run(str(tmp_path / "holdfast-2"), 2) is None
    (tmp_path / "holdfast-2" / "cgroup.procs").touch()
    assert RunCgroup.of_run(str(tmp_path / "holdfast-2"), 2) is not None
