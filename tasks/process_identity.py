"""Which process exactly: a pid alone is recycled, pid with start time and boot is not."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@cache
def boot_id() -> str:
    """Return what tells this boot of the machine from any other; empty where unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@cache
def host_name() -> str:
    """Return the name that tells this host from others that share a home directory."""
    return socket.gethostname()


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; ``None`` if it is gone.

    A zombie counts as gone: it does nothing any more and only waits for its parent.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return _start_time_without_proc(pid)
    # The name, in parentheses, may hold spaces and parentheses: count from the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _start_time_without_proc(pid: int) -> int | None:
    if Path("/proc/self/stat").exists():
        return None
    import psutil

    try:
        return int(psutil.Process(pid).create_time() * 100)
    except psutil.Error:
        return None


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot of one host."""

    pid: int
    start_time: int
    boot_id: str
    host: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a live process of this host; ``None`` if there is none."""
        started = start_time(pid)
        return None if started is None else cls(pid, started, boot_id(), host_name())

    @classmethod
    def of_this_process(cls) -> ProcessIdentity:
        """Return the identity of the caller."""
        identity = cls.of(os.getpid())
        if identity is None:  # pragma: no cover - a running process has a start time
            raise RuntimeError("this process has no start time; this is a bug")
        return identity

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ProcessIdentity:
        """Read what ``to_json`` wrote; raises ``KeyError``, ``ValueError`` or ``TypeError``."""
        return cls(
            int(value["pid"]), int(value["start_time"]), str(value["boot_id"]), str(value["host"])
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that locks and run files hold."""
        return {
            "pid": self.pid,
            "start_time": self.start_time,
            "boot_id": self.boot_id,
            "host": self.host,
        }

    def is_alive(self) -> bool:
        """Whether this very process still lives; on another host nobody can tell: ``True``."""
        if self.host != host_name():
            return True
        if self.boot_id != boot_id():
            return False
        return start_time(self.pid) == self.start_time


def wait_for_end(process: ProcessIdentity, *, timeout_s: float) -> bool:
    """Wait until the process has ended; whether it did within the time.

    The kernel reports the end (pidfd); nothing is polled where it can.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return not process.is_alive()
    try:
        if not process.is_alive():
            return True
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
        return bool(ready)
    finally:
        os.close(descriptor)
