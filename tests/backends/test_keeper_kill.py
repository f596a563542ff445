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
    PYTHON_DOUBLE_FORK_WITHOUT_ENVIRONMENT,
    PYTHON_FORKS_ON_SIGTERM,
    HardProgram,
    Marked,
    marked_program,
    marked_python,
    python_environment,
    wait_until_ready,
    zombies_below,
)
from support.local_run import LocalRun
from support.waiting import wait_for

from backends.sweep import strays_of_run, sweep_run
from tasks.status import CauseKind, JobStatus

GRACE_S = 0.3
OBEYED_WITHIN_S = 1.0
INSISTED_WITHIN_S = GRACE_S + 1.0

every_program = pytest.mark.parametrize("program", HARD_PROGRAMS, ids=str)


def some_programs(path: int) -> pytest.MarkDecorator:
    """Each program on one of the five further paths to its end; ``make soak`` runs them all."""
    chosen = [
        program if index % 5 == path else pytest.param(program, marks=pytest.mark.soak)
        for index, program in enumerate(HARD_PROGRAMS)
    ]
    return pytest.mark.parametrize("program", chosen, ids=str)


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


@every_program
def test_a_killed_job_completes_when_no_process_of_it_is_left(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/tree_killer.py: return self._insist(ending, alive, -> return (1, alive,"""
    with LocalRun(tmp_path) as run:
        number = run.launch(command(hard, program), grace_s=GRACE_S)
        wait_until_ready(run.job_directory(number) / "log.txt")
        asked_at = time.monotonic()
        run.backend.kill([number])
        done = run.completions.of(number)
        assert hard.gone()
        assert zombies_below(run.keeper.identity.pid) == []
        assert run.completions.arrived_at[number, 1] - asked_at < bound_s(program)
    assert (done.status, done.cause) == (JobStatus.KILLED, None)


@some_programs(path=0)
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


@some_programs(path=1)
def test_closing_the_backend_leaves_nothing(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/local.py: self._wait_until_closed() -> None"""
    with LocalRun(tmp_path) as run:
        number = run.launch(command(hard, program), grace_s=GRACE_S)
        wait_until_ready(run.job_directory(number) / "log.txt")
        keeper = run.keeper.identity
        run.backend.close()
        assert hard.gone()
        assert run.completions.of(number, timeout_s=0).status is JobStatus.KILLED
    assert not keeper.is_alive()


@some_programs(path=2)
def test_a_driver_that_gets_sigkill_takes_its_jobs_along(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/keeper/loop.py: self._end("the driver died", "driver_lost") -> None"""
    jobs = [{"command": command(hard, program), "grace_s": GRACE_S}]
    with Driver(tmp_path, jobs) as driver:
        wait_until_ready(driver.run / "jobs" / "job-1" / "log.txt")
        killed_at = time.monotonic()
        driver.kill()
        driver.wait_until_keeper_is_gone()
        assert hard.gone()
        assert time.monotonic() - killed_at < bound_s(program) + 1.0
    (entry,) = map(json.loads, (driver.run / ".completions.jsonl").read_text().splitlines())
    assert entry["killed"] == "driver_lost"


@some_programs(path=3)
def test_a_keeper_that_gets_sigkill_takes_its_jobs_along(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/local.py: message = self._end_without(line) -> message = "" """
    with LocalRun(tmp_path) as run:
        number = run.launch(command(hard, program), grace_s=GRACE_S)
        wait_until_ready(run.job_directory(number) / "log.txt")
        os.kill(run.keeper.identity.pid, signal.SIGKILL)
        done = run.completions.of(number)
        assert hard.gone()
        assert done.status is JobStatus.KILLED
        assert done.cause is not None
        assert done.cause.kind is CauseKind.LOST_NODE
        assert len(run.lost) == 1
        # The run goes on under a new keeper.
        assert run.run("exit 0").status is JobStatus.PASSED


@some_programs(path=4)
def test_what_outlived_driver_and_keeper_is_found_by_the_runs_number(
    program: HardProgram, hard: Marked, tmp_path: Path
) -> None:
    """Sabotage: backends/sweep.py: killer.begin(WHOLE_RUN, None -> killer.begin(2, None"""
    if program.mode == "shed":
        pytest.skip("who sheds number, session and parents is found by a live keeper alone")
    jobs = [{"command": command(hard, program), "grace_s": GRACE_S}]
    with Driver(tmp_path, jobs) as driver:
        wait_until_ready(driver.run / "jobs" / "job-1" / "log.txt")
        os.kill(driver.keeper.pid, signal.SIGSTOP)
        driver.kill()
        os.kill(driver.keeper.pid, signal.SIGKILL)
        driver.wait_until_keeper_is_gone()
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
        assert sweep.ended >= min(program.processes, 2)
        assert strays_of_run(file.number, "run", directory=driver.run) == []


# -- one mechanism at a time -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "processes"),
    [(PYTHON_FORKS_ON_SIGTERM, 2), (PYTHON_DOUBLE_FORK_WITHOUT_ENVIRONMENT, 2)],
    ids=["forks-on-sigterm", "double-fork-without-environment"],
)
def test_programs_in_python_are_ended_as_well(code: str, processes: int, tmp_path: Path) -> None:
    with marked_python(tmp_path) as python, LocalRun(tmp_path) as run:
        command_line = (str(python.path), "-c", code)
        number = run.launch(command_line, env=python_environment(), grace_s=GRACE_S)
        python.wait_for(processes)
        run.backend.kill([number])
        assert run.completions.of(number).status is JobStatus.KILLED
        assert python.gone()


def test_who_shed_number_and_session_is_found_by_descent(hard: Marked, tmp_path: Path) -> None:
    """Sabotage: backends/members.py: pid = process.ppid -> pid = 0"""
    with LocalRun(tmp_path) as run:
        number = run.launch((str(hard.path), "shed"))
        wait_until_ready(run.job_directory(number) / "log.txt")
        run.backend.kill([number])
        run.completions.of(number)
        assert hard.gone()


def test_the_stopped_are_woken_to_obey(hard: Marked, tmp_path: Path) -> None:
    """Sabotage: backends/tree_killer.py: send_signal(identity, signal.SIGCONT) -> 0"""
    with LocalRun(tmp_path) as run:
        number = run.launch((str(hard.path), "stopped"), grace_s=30.0)
        wait_until_ready(run.job_directory(number) / "log.txt")
        run.backend.kill([number])
        assert run.completions.of(number, timeout_s=10).end.signal == signal.SIGTERM
        assert hard.gone()


def test_whoever_ends_in_order_is_left_to_it_until_the_grace_is_over(tmp_path: Path) -> None:
    """Sabotage: backends/tree_killer.py: ending.is_late(process) -> False"""
    (tmp_path / "tidy.sh").write_text(f"sleep 0.4; echo tidied > {tmp_path}/tidied\n")
    trap = f"trap 'setsid -w sh {tmp_path}/tidy.sh; exit 0' TERM; echo ready; sleep 60 & wait"
    with LocalRun(tmp_path) as run:
        number = run.launch(trap, grace_s=10.0)
        wait_for(lambda: run.log(number), "the trap is set")
        run.backend.kill([number])
        done = run.completions.of(number)
    assert (tmp_path / "tidied").exists()
    assert (done.status, done.end.exit_code) == (JobStatus.KILLED, 0)


def test_nobody_is_asked_twice(tmp_path: Path) -> None:
    """Sabotage: backends/tree_killer.py: .pgrp == ending.group -> .pgrp == ending.leader"""
    # The leader obeys at once; the other one counts what it gets.
    counts = f"trap 'echo TERM >> {tmp_path}/count' TERM; echo ready; while :; do sleep 0.05; done"
    (tmp_path / "counts.sh").write_text(counts + "\n")
    with LocalRun(tmp_path) as run:
        number = run.launch(f"sh {tmp_path}/counts.sh & exec sleep 60", grace_s=0.8)
        wait_for(lambda: run.log(number), "the trap is set")
        run.backend.kill([number])
        run.completions.of(number)
    assert (tmp_path / "count").read_text() == "TERM\n"
