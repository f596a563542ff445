"""SIGKILL at random moments of a busy run: never an orphan, never a torn account."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.driver import Driver
from support.hard_programs import Marked, marked_program
from support.local_run import LocalRun
from support.waiting import wait_for

from backends.completion_spool import read_spool
from backends.sweep import sweep_run
from tasks.status import CauseKind, JobStatus

SEED = 20_451


def moments(count: int, in_sample: int) -> list[Any]:
    """Seeded delays in seconds; all but the first few are for ``make soak``."""
    chance = random.Random(SEED)
    delays = [round(chance.uniform(0.0, 0.4), 4) for _ in range(count)]
    return [
        delay if index < in_sample else pytest.param(delay, marks=pytest.mark.soak)
        for index, delay in enumerate(delays)
    ]


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Marked]:
    with marked_program(tmp_path) as marked:
        yield marked


def busy_jobs(hard: Marked) -> list[dict[str, Any]]:
    """A mix of what ends by itself, leaves something behind, and has to be ended."""
    program = str(hard.path)
    return [
        {"command": ["/bin/true"]},
        {"command": [program, "holds-stdout"], "grace_s": 0.1},
        {"command": "exit 3"},
        {"command": [program, "bare-double-fork"], "timeout_s": 0.05, "grace_s": 0.1},
        {"command": [program, "ignores-sigterm"], "timeout_s": 0.1, "grace_s": 0.1},
        {"command": "sleep 0.01"},
    ]


@pytest.mark.parametrize("delay_s", moments(50, in_sample=6))
def test_the_driver_may_die_at_any_moment(delay_s: float, hard: Marked, tmp_path: Path) -> None:
    settle = f"cp {tmp_path}/run/.completions.jsonl {tmp_path}/seen-by-settle"
    context = {"settle_command": ["/bin/sh", "-c", settle]}
    with Driver(tmp_path, busy_jobs(hard), churn=6, context=context) as driver:
        time.sleep(delay_s)  # the moment itself, not a wait for anything
        driver.kill()
        driver.wait_until_keeper_is_gone()
        assert hard.gone()
    spool = driver.run / ".completions.jsonl"
    attempts = [entry["number"] for entry in read_spool(spool)]
    assert len(attempts) == len(set(attempts))
    assert all(json.loads(line) for line in spool.read_bytes().splitlines())
    # Every job that has a log was started, and of every such job the end is known.
    started = {
        int(log.parent.name.removeprefix("job-")) for log in driver.run.glob("jobs/*/log.txt")
    }
    assert started <= set(attempts)
    assert (tmp_path / "seen-by-settle").read_bytes() == spool.read_bytes()


@pytest.mark.parametrize("delay_s", moments(20, in_sample=4))
def test_the_keeper_may_die_at_any_moment(delay_s: float, hard: Marked, tmp_path: Path) -> None:
    with LocalRun(tmp_path) as run:
        launched = [run.launch(**fields) for fields in busy_jobs(hard) * 3]
        time.sleep(delay_s)  # the moment itself, not a wait for anything
        os.kill(run.keeper.identity.pid, signal.SIGKILL)
        done = {number: run.completions.of(number) for number in launched}
        wait_for(lambda: run.lost, "the loss is told")
        assert hard.gone()
        for number, completion in done.items():
            if completion.cause is not None and completion.cause.kind is CauseKind.LOST_NODE:
                run.again(number, 2)
                again = run.completions.of(number, 2)
                assert again.cause is None or again.cause.kind is not CauseKind.LOST_NODE
        assert run.run("true").status is JobStatus.PASSED
        assert len(run.lost) == 1
    assert hard.gone()


@pytest.mark.parametrize("delay_s", moments(20, in_sample=2))
def test_both_may_die_at_any_moment(delay_s: float, hard: Marked, tmp_path: Path) -> None:
    with Driver(tmp_path, busy_jobs(hard), churn=6) as driver:
        time.sleep(delay_s)  # the moment itself, not a wait for anything
        os.kill(driver.keeper.pid, signal.SIGKILL)
        driver.kill()
        driver.wait_until_keeper_is_gone()
        # The driver may have been about to replace its keeper.
        file = driver.keeper_file
        sweep_run(file.number, "run", directory=driver.run, grace_s=0.1)
        wait_for(hard.gone, "a keeper that was just being started ends its jobs")
        (driver.run / ".completions.jsonl").stat()
