"""Nothing survives a stop: every hard program on every path, from the outside.

Each of these fails when one line of the kill is broken; ``tests/sabotage.py`` does that.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine, RunOnDisk
from support.hard_programs import HARD_PROGRAMS, HardProgram, Marked, marked_program
from support.stop_paths import STOP_PATHS, Started, StopPath
from support.waiting import wait_for

GRACE_S = 0.5
BUSY_S = 1.5
"""What a machine that runs other tests at the same time may add to the bounds."""


def cases() -> Iterator[Any]:
    """Every program on every path; each program on two of them is the sample for every day."""
    for index, program in enumerate(HARD_PROGRAMS):
        for number, path in enumerate(STOP_PATHS):
            is_sample = (number - 2 * index) % len(STOP_PATHS) < 2
            marks = () if is_sample else (pytest.mark.soak,)
            yield pytest.param(program, path, id=f"{program}-{path}", marks=marks)


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Marked]:
    with marked_program(tmp_path) as marked:
        yield marked


@pytest.fixture
def neighbour(cli: CommandLine) -> Iterator[Marked]:
    """Another run in the same folder, which must not notice anything."""
    with marked_program(cli.place) as marked:
        job = {"id": "a", "command": [str(marked.path), "new-session"]}
        cli.write("neighbour.json", json.dumps({"name": "neighbour", "jobs": [job]}))
        process = cli.start("jobs", "neighbour.json", "--offline", "-q")
        marked.wait_for(3)
        yield marked
        assert len(marked.pids()) == 3
        process.terminate()
        process.communicate(timeout=30)
        assert marked.gone()


def start(cli: CommandLine, hard: Marked, program: HardProgram, path: StopPath) -> Started:
    job = {
        "id": "hard",
        "command": [str(hard.path), program.mode, program.argument],
        "grace_s": GRACE_S,
        **path.job,
    }
    jobs: list[dict[str, object]] = [job, {"id": "after", "command": "true", "needs": ["hard"]}]
    if path.name == "fail-fast":
        # Fails when the tree is complete, which the test says by making the file.
        jobs.append({"id": "fails", "command": "until [ -e go ]; do sleep 0.05; done; exit 1"})
    cli.write("hard.json", json.dumps({"name": "hard", "max_parallel": 3, "jobs": jobs}))
    before = runs_in(cli)
    process = cli.start("jobs", "hard.json", "--offline", "-q", *path.options)
    new = wait_for(lambda: runs_in(cli) - before, "the run directory")
    run = RunOnDisk(new.pop())
    if path.name != "timeout":
        hard.wait_for(program.processes)
    cli.write("go", "")
    return Started(cli, process, run)


@pytest.mark.parametrize(("program", "path"), list(cases()))
def test_nothing_of_a_run_survives(
    program: HardProgram, path: StopPath, cli: CommandLine, hard: Marked, neighbour: Marked
) -> None:
    """Sabotage: backends/tree_killer.py: return self._insist(ending, alive, -> return (1, alive,"""
    started = start(cli, hard, program, path)
    begin = time.monotonic()
    path.stop(started)
    if path.needs_a_look:
        assert status_in_list(cli, started.run) == "crashed"
    wait_for(hard.gone, f"the end of {program} by {path}", 30)
    took_s = time.monotonic() - begin
    limit_s = float(str(path.job.get("timeout_s", 0)))
    grace_s = 0 if program.obeys_sigterm or path.kills_at_once else GRACE_S
    # The other paths start a Python or a second keeper before they stop anything.
    if path.name not in ("both-killed", "cancel", "keeper-killed"):
        assert took_s <= limit_s + grace_s + 1.0 + BUSY_S
    started.process.communicate(timeout=30)
    wait_for(lambda: started.run.file()["status"] == path.status, f"status {path.status}", 30)
    assert status_in_list(cli, started.run) == path.status
    assert_consistent(started.run)
    wait_for(lambda: not processes_of(started.run), "keeper and settling to end", 30)


def test_a_thousand_sleepers_in_a_hundred_jobs_are_gone_within_a_second(
    cli: CommandLine, hard: Marked
) -> None:
    """Sabotage: backends/tree_killer.py: send_group_signal(ending.leader, signal.SIGTERM) -> 0"""
    jobs = [
        {"id": f"tree-{index}", "command": [str(hard.path), "sleepers", "9"], "grace_s": 30}
        for index in range(100)
    ]
    cli.write("many.json", json.dumps({"name": "many", "max_parallel": 100, "jobs": jobs}))
    process = cli.start("jobs", "many.json", "--offline", "-q")
    hard.wait_for(1_000)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    wait_for(hard.gone, "the end of 1,000 sleepers", 60)
    took_s = time.monotonic() - begin
    process.communicate(timeout=60)
    assert took_s <= 1.0 + BUSY_S
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("victim", "seed"),
    [
        pytest.param(victim, seed, marks=() if seed < sample else (pytest.mark.soak,))
        for victim, count, sample in (("driver", 50, 7), ("keeper", 20, 3))
        for seed in range(count)
    ],
)
def test_a_kill_at_a_random_moment_leaves_no_orphan_and_the_next_start_works(
    victim: str, seed: int, cli: CommandLine, hard: Marked
) -> None:
    """Sabotage: backends/keeper/loop.py: self._end("the driver died", "driver_lost") -> None"""
    rng = random.Random(f"{victim}-{seed}")
    jobs: list[dict[str, object]] = [
        {"id": f"quick-{index}", "command": "true"} for index in range(40)
    ]
    for index, program in enumerate(rng.sample(HARD_PROGRAMS, 3)):
        command = [str(hard.path), program.mode, program.argument]
        jobs.insert(
            rng.randrange(40), {"id": f"hard-{index}", "command": command, "grace_s": GRACE_S}
        )
    cli.write("random.json", json.dumps({"name": "random", "max_parallel": 4, "jobs": jobs}))
    process = cli.start("jobs", "random.json", "--offline", "-q")
    run = cli.only_run()
    moment = rng.randrange(40)
    if victim == "driver":
        wait_for(lambda: len(run.events()) >= moment, "the moment", 30)
        process.kill()
    else:
        wait_for((run.directory / ".keeper.json").exists, "a keeper")
        wait_for(lambda: len(run.events()) >= moment, "the moment", 30)
        os.kill(Started(cli, process, run).keeper_pid, signal.SIGKILL)
        # A new keeper ran the rest, whose trees wait for an end of their own.
        wait_for(lambda: len(run.events()) > moment, "the run to go on", 30)
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    # The next start needs no repair, waits for a dying keeper, and meets none of the old jobs.
    cli.write(
        "random.json", json.dumps({"name": "random", "jobs": [{"id": "a", "command": "true"}]})
    )
    again = cli.run("jobs", "random.json", "--offline", "-q")
    assert again.code == 0, again
    assert hard.gone()
    expected = "crashed" if victim == "driver" else "cancelled"
    assert status_in_list(cli, run) == expected
    assert_consistent(run)


def runs_in(cli: CommandLine) -> set[Path]:
    """The run directories; a hidden folder is a run that is being made."""
    return {path for path in cli.runs.iterdir() if not path.name.startswith(".")}


def status_in_list(cli: CommandLine, run: RunOnDisk) -> str:
    return {each["run"]: each["status"] for each in cli.run("list", "--json").json()}[run.name]


def assert_consistent(run: RunOnDisk) -> None:
    """Links, results and journal tell the same, and no job is left without an end."""
    statuses = run.statuses()
    assert {job: each["status"] for job, each in run.jobs().items()} == statuses
    folders = {"passing": "passed", "failed": "failed", "killed": "killed"}
    linked = {job: folders[where] for where, jobs in run.links().items() for job in jobs}
    assert linked == statuses


def processes_of(run: RunOnDisk) -> list[str]:
    """Processes whose command line names the run's directory or name: keeper, settle."""
    found = subprocess.run(
        ["pgrep", "-f", run.name], capture_output=True, text=True, check=False
    ).stdout.split()
    return [pid for pid in found if pid != str(os.getpid())]
