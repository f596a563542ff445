"""What ``/proc`` tells of one process, for messages and for judging whose it is."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from backends.process_tree import Process, Snapshot, process_name, read_process
from tasks.sanitise import one_line

_SHOWN_CHARACTERS = 100


def command_line(pid: int) -> bytes:
    """Return what a process was started with, each word ended by NUL; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def command_text(pid: int) -> str:
    """Return a process's command as a person would type it, shortened; else its name."""
    words = [os.fsdecode(word) for word in command_line(pid).rstrip(b"\0").split(b"\0") if word]
    return one_line(shlex.join(words) or f"[{process_name(pid)}]", _SHOWN_CHARACTERS)


def owner_of(pid: int) -> int | None:
    """Return the user id of a process; ``None`` if it is gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def is_stopped(pid: int) -> bool:
    """Whether a process is held still by SIGSTOP or Ctrl-Z."""
    process = read_process(pid)
    return process is not None and process.state == "T"


def line_above(snapshot: Snapshot, pid: int) -> list[Process]:
    """Return the process and everything above it, from below."""
    line: list[Process] = []
    while pid in snapshot and snapshot[pid] not in line:
        line.append(snapshot[pid])
        pid = snapshot[pid].ppid
    return line
