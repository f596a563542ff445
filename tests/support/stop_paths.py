"""The ways in which a run can end before its jobs do, as a person or fate takes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from support.command_line import CommandLine, RunOnDisk
from support.waiting import wait_for


@dataclass(frozen=True)
class Started:
    """A run that goes on: the command line, its process and its directory."""

    cli: CommandLine
    process: subprocess.Popen[str]
    run: RunOnDisk

    @property
    def keeper_pid(self) -> int:
        return int(json.loads((self.run.directory / ".keeper.json").read_text())["pid"])

    def attempts(self, job: str) -> int:
        """How many attempts of the job have begun."""
        events = (event for event in self.run.events() if event.get("job") == job)
        return max((event["attempt"] for event in events if event["to"] == "running"), default=0)

    def kill_was_requested(self) -> bool:
        return any(event["event"] == "kill_requested" for event in self.run.events())


@dataclass(frozen=True)
class StopPath:
    """One way to the end; ``stop`` takes it, ``options`` and ``job`` prepare it."""

    name: str
    stop: Callable[[Started], None]
    options: tuple[str, ...] = ()
    job: dict[str, object] = field(default_factory=dict)
    """Fields of the job with the hard program."""
    kills_at_once: bool = False
    """Whether nothing is given time to obey."""
    status: str = "cancelled"
    needs_a_look: bool = False
    """Whether only the next command that looks at the run ends it."""

    def __str__(self) -> str:
        return self.name


def _signal(*numbers: signal.Signals) -> Callable[[Started], None]:
    def stop(started: Started) -> None:
        started.process.send_signal(numbers[0])
        for number in numbers[1:]:
            wait_for(started.kill_was_requested, "the first signal to be seen")
            started.process.send_signal(number)

    return stop


def _cancel(started: Started) -> None:
    done = started.cli.run("cancel", started.run.name)
    assert done.code == 0, done


def _nothing(started: Started) -> None:
    """What ends the run lies in the run."""


def _kill_driver(started: Started) -> None:
    started.process.kill()


def _kill_group(started: Started) -> None:
    os.killpg(started.process.pid, signal.SIGKILL)


def _kill_keeper(started: Started) -> None:
    """The job is lost with its keeper and runs again under the next one, which a signal ends."""
    os.kill(started.keeper_pid, signal.SIGKILL)
    wait_for(lambda: started.attempts("hard") == 2, "the second attempt")
    started.process.send_signal(signal.SIGINT)


def _kill_both(started: Started) -> None:
    # Stopped first: neither must get to see the other's death.
    keeper = started.keeper_pid
    os.kill(keeper, signal.SIGSTOP)
    started.process.kill()
    os.kill(keeper, signal.SIGKILL)
    started.process.wait()


STOP_PATHS = (
    StopPath("sigint", _signal(signal.SIGINT)),
    StopPath("sigint-twice", _signal(signal.SIGINT, signal.SIGINT), kills_at_once=True),
    StopPath("sigint-then-killed", _signal(signal.SIGINT, signal.SIGKILL)),
    StopPath("sigterm", _signal(signal.SIGTERM)),
    StopPath("sighup", _signal(signal.SIGHUP)),
    StopPath("cancel", _cancel),
    StopPath("timeout", _nothing, job={"timeout_s": 1.0}, status="failed"),
    StopPath("fail-fast", _nothing, ("--fail-fast",), status="failed"),
    StopPath("driver-killed", _kill_driver, status="crashed"),
    StopPath("group-killed", _kill_group, status="crashed"),
    StopPath("keeper-killed", _kill_keeper),
    StopPath("both-killed", _kill_both, status="crashed", needs_a_look=True),
)
