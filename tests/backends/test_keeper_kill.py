"""Nothing of a job survives its end, however hard its processes are to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.driver import Driver
from support.hard_programs import (
    HARD_PROGRAMS,
    HardProgram,
    Marked,
    marked_program,
    zombies_below,
)
from support.local_run import LocalRun

from backends.sweep import strays_of_run, sweep_run
from tasks.status import CauseKind, JobStatus

GRACE_S = 0.3
OBEYED_WITHIN_S = 1.0
INSISTED_WITHIN_S = GRACE_S + 1.0

programs = pytest.mark.parametrize("program", HARD_PROGRAMS, ids=str)


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Marked]:
    with marked_program(tmp_path) as marked:
        yield marked


@pytest.fixture(scope="module")
def bystanders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Marked]]:
    """A run in the same folder, and a process of this user in a session of its own."""
    folder = tmp_path_factory.mktemp("neighbour")
    with marked_program(folder) as neighbour, marked_program(folder) as stranger:
        process = subprocess.Popen([stranger.path, "new-session"], start_new_session=True)
        with LocalRun(folder, "neighbour") as run:
            run.launch((str(neighbour.path), "sleepers", "2"))
            neighbour.wait_for(3)
            stranger.wait_for(3)
            yield [neighbour, stranger]
        stranger.end()
        process.wait()


@pytest.fixture(autouse=True)
def _nobody_else_is_touched(bystanders: list[Marked]) -> Iterator[None]:
    yield
    assert [len(marked.pids()) for marked in bystanders] == [3, 3]


def command(hard: Marked, program: HardProgram) -> tuple[str, ...]:
    return (str(hard.path), program.mode, program.argument)


def bound_s(program: HardProgram) -> float:
    return OBEYED_WITHIN_S if program.obeys_sigterm else INSISTED_WITHIN_S


# -- each program, on each way to its end ----------------------------------------------------


@programs
def test_a_killed_job_completes_when_no_process_of_it_is_left(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/members.py: if self._number is not None: -> if False:"""
    with LocalRun(tmp_path) as run:
        number = run.launch(command(hard, program), grace_s=GRACE_S)
        hard.wait_for(program.processes)
        asked_at = time.monotonic()
        run.backend.kill([number])
        done = run.completions.of(number)
        assert hard.gone()
        assert zombies_below(run.keeper.identity.pid) == []
        assert run.completions.arrived_at[number, 1] - asked_at < bound_s(program)
    assert (done.status, done.cause) == (JobStatus.KILLED, None)


@programs
def test_a_job_over_its_time_limit_is_ended_as_a_whole(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/keeper/jobs.py: self.kill([job.request.number], None, "timeout") -> 0"""
    with LocalRun(tmp_path) as run:
        done = run.run(command(hard, program), grace_s=GRACE_S, timeout_s=0.5)
        assert hard.gone()
    assert done.cause is not None
    assert done.cause.kind is CauseKind.TIMEOUT
    assert done.end.runtime_s is not None
    assert done.end.runtime_s < 0.5 + bound_s(program)


@programs
def test_closing_the_backend_leaves_nothing(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/local.py: self._wait_until_closed() -> None"""
    with LocalRun(tmp_path) as run:
        number = run.launch(command(hard, program), grace_s=GRACE_S)
        hard.wait_for(program.processes)
        keeper = run.keeper.identity
        run.backend.close()
        assert hard.gone()
        assert run.completions.of(number, timeout_s=0).status is JobStatus.KILLED
    assert not keeper.is_alive()


@programs
def test_a_driver_that_gets_sigkill_takes_its_jobs_along(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/keeper/loop.py: self._end("the driver died", "driver_lost") -> None"""
    jobs = [{"command": command(hard, program), "grace_s": GRACE_S}]
    with Driver(tmp_path, jobs) as driver:
        hard.wait_for(program.processes)
        killed_at = time.monotonic()
        driver.kill()
        driver.wait_until_keeper_is_gone()
        assert hard.gone()
        assert time.monotonic() - killed_at < bound_s(program) + 1.0
    (entry,) = map(json.loads, (driver.run / ".completions.jsonl").read_text().splitlines())
    assert entry["killed"] == "driver_lost"


@programs
def test_a_keeper_that_gets_sigkill_takes_its_jobs_along(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/local.py: message = self._end_without(line) -> message = "" """
    with LocalRun(tmp_path) as run:
        number = run.launch(command(hard, program), grace_s=GRACE_S)
        hard.wait_for(program.processes)
        os.kill(run.keeper.identity.pid, signal.SIGKILL)
        done = run.completions.of(number)
        assert hard.gone()
        assert done.status is JobStatus.KILLED
        assert done.cause is not None
        assert done.cause.kind is CauseKind.LOST_NODE
        assert len(run.lost) == 1
        # The run goes on under a new keeper.
        assert run.run("exit 0").status is JobStatus.PASSED


@programs
def test_what_outlived_driver_and_keeper_is_found_by_the_runs_number(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/sweep.py: killer.begin(WHOLE_RUN, None -> killer.begin(1, None"""
    if program.mode == "shed":
        pytest.skip("who sheds number, session and parents is found by a live keeper alone")
    jobs = [{"command": command(hard, program), "grace_s": GRACE_S}]
    with Driver(tmp_path, jobs) as driver:
        hard.wait_for(program.processes)
        os.kill(driver.keeper.pid, signal.SIGSTOP)
        driver.kill()
        os.kill(driver.keeper.pid, signal.SIGKILL)
        driver.wait_until_keeper_is_gone()
        hard.wait_for(program.processes)
        file = driver.keeper_file
        assert strays_of_run(file.number, "run", directory=driver.run)
        sweep = sweep_run(
            file.number,
            "run",
            directory=driver.run,
            since=file.identity.start_time,
            boot_id=file.identity.boot_id,
            cgroup=file.cgroup,
            grace_s=GRACE_S,
        )
        assert hard.gone()
        assert sweep.stuck == ()
        assert sweep.ended >= program.processes
        assert strays_of_run(file.number, "run", directory=driver.run) == []
