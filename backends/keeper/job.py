"""A job as the keeper knows it: what was asked for, and how it went."""

from __future__ import annotations

import json
import os
import signal as signals
from typing import TYPE_CHECKING, Any

from backends.keeper.protocol import ProtocolError

_ENCODER = json.JSONEncoder(separators=(",", ":"))

if TYPE_CHECKING:
    from backends.keeper.deadlines import Deadline


class LaunchRequest:
    """One attempt of one job, as the driver asks for it."""

    __slots__ = (
        "allow_leftovers",
        "attempt",
        "command",
        "cwd",
        "environment",
        "grace_s",
        "id",
        "number",
        "terminal",
        "timeout_s",
    )

    def __init__(self, fields: list[Any]) -> None:
        """Read the fields in the order of ``to_wire``; raises ``ProtocolError``."""
        try:
            (
                self.number,
                self.attempt,
                self.id,
                self.command,
                self.cwd,
                self.environment,
                self.timeout_s,
                self.grace_s,
                self.allow_leftovers,
                *terminal,
            ) = fields
            self.terminal: dict[str, Any] | None = terminal[0] if terminal else None
            """Of an interactive job: its own (``job``), the user's, and the latter's modes."""
            well_formed = (
                type(self.number) is int
                and type(self.attempt) is int
                and type(self.id) is str
                and type(self.command) is list
                and type(self.cwd) is str
                and type(self.environment) is dict
                and (self.timeout_s is None or type(self.timeout_s) in (int, float))
                and type(self.grace_s) in (int, float)
                and (not terminal or (len(terminal) == 1 and is_terminal(terminal[0])))
            )
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"no launch request: {error}") from error
        if not well_formed:
            raise ProtocolError(f"no launch request: {fields!r:.200}")

    @staticmethod
    def to_wire(
        *,
        number: int,
        attempt: int,
        job_id: str,
        command: list[str],
        cwd: str,
        environment: dict[str, str],
        timeout_s: float | None,
        grace_s: float,
        allow_leftovers: bool,
        terminal: dict[str, Any] | None = None,
    ) -> list[object]:
        """Return the request as it travels: a list, since names would double its size."""
        return [
            number,
            attempt,
            job_id,
            command,
            cwd,
            environment,
            timeout_s,
            grace_s,
            allow_leftovers,
            *(() if terminal is None else (terminal,)),
        ]


def is_terminal(value: object) -> bool:
    """Whether this says which terminal a job has, and which one its user."""
    return (
        isinstance(value, dict)
        and type(value.get("job")) is str
        and type(value.get("user")) is str
        and type(value.get("modes")) is list
    )


class KeptJob:
    """One attempt that was started, until its last process is gone."""

    __slots__ = (
        "cpu_s",
        "deadline",
        "exit_code",
        "killed",
        "leader_is_running",
        "leftovers_killed",
        "max_rss_bytes",
        "oom_kills_before",
        "out_of_memory",
        "pid",
        "request",
        "runtime_s",
        "signal",
        "started",
        "started_at",
        "stuck",
    )

    def __init__(
        self,
        request: LaunchRequest,
        pid: int,
        *,
        started: float,
        started_at: float,
        oom_kills_before: int,
    ) -> None:
        self.request = request
        self.pid = pid
        self.started = started
        """By the monotonic clock."""
        self.started_at = started_at
        """Seconds since the epoch."""
        self.oom_kills_before = oom_kills_before
        self.leader_is_running = True
        self.deadline: Deadline | None = None
        self.killed: str | None = None
        """Why the keeper ended it: ``timeout``, ``request``, ``control`` or ``driver_lost``."""
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.runtime_s: float | None = None
        self.cpu_s: float | None = None
        self.max_rss_bytes: int | None = None
        self.out_of_memory = False
        self.leftovers_killed = 0
        self.stuck: list[str] = []

    def leader_ended(self, status: int, cpu_s: float, max_rss_bytes: int, now: float) -> None:
        """Note how the first process ended; ``status`` is what ``wait`` returned."""
        self.leader_is_running = False
        # Negative for a signal, as everywhere in Python.
        code = os.waitstatus_to_exitcode(status)
        self.exit_code, self.signal = (code, None) if code >= 0 else (None, -code)
        self.runtime_s = now - self.started
        self.cpu_s = cpu_s
        self.max_rss_bytes = max_rss_bytes

    @property
    def died_like_out_of_memory(self) -> bool:
        """Whether it ended as the kernel ends what takes too much memory, itself or by a shell."""
        return self.signal == signals.SIGKILL or self.exit_code == 128 + signals.SIGKILL

    def completion(self, ended_at: float) -> bytes:
        """Return the line of the spool."""
        entry: dict[str, object] = {
            "number": self.request.number,
            "attempt": self.request.attempt,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "runtime_s": None if self.runtime_s is None else round(self.runtime_s, 6),
            "cpu_s": None if self.cpu_s is None else round(self.cpu_s, 6),
            "max_rss_bytes": self.max_rss_bytes,
            "leftovers_killed": self.leftovers_killed,
            "ended_at": ended_at,
        }
        if self.killed is not None:
            entry["killed"] = self.killed
        if self.out_of_memory:
            entry["out_of_memory"] = True
        if self.stuck:
            entry["stuck"] = self.stuck
        return _line(entry)


def launch_error(request: LaunchRequest, message: str, ended_at: float) -> bytes:
    """Return the line of the spool for an attempt that could not be started."""
    return _without_process(request, "launch_error", message, ended_at)


def never_started(request: LaunchRequest, killed: str, ended_at: float) -> bytes:
    """Return the line of the spool for an attempt that was killed before it was started."""
    return _without_process(request, "killed", killed, ended_at)


def _without_process(request: LaunchRequest, key: str, value: str, ended_at: float) -> bytes:
    return _line(
        {
            "number": request.number,
            "attempt": request.attempt,
            key: value,
            "ended_at": ended_at,
        }
    )


def _line(entry: dict[str, object]) -> bytes:
    return _ENCODER.encode(entry).encode("ascii")
