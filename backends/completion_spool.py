"""The driver's side of the keeper's spool: lines of facts, and the completions they mean."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backends.base import Completion
from backends.judge import cause_of_exit
from tasks.events import JobEnd
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus

SPOOL_NAME = ".completions.jsonl"

_READ_BYTES = 1 << 20


class SpoolReader:
    """Reads a spool as it grows, from ``offset`` on; a torn end waits for its rest."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.offset = offset
        """Where the next unread byte is in the file."""
        self._torn = b""

    def read(self) -> list[dict[str, Any]]:
        """Return the entries that are new since the last call."""
        received = b""
        while part := os.pread(self._descriptor, _READ_BYTES, self.offset):
            self.offset += len(part)
            received += part
        return self._entries(received)

    def continue_with(self, text: str) -> list[dict[str, Any]]:
        """Return the entries of text that the file had no room for."""
        return self._entries(text.encode())

    def _entries(self, received: bytes) -> list[dict[str, Any]]:
        if not received:
            return []
        *lines, self._torn = (self._torn + received).split(b"\n")
        try:
            # One call for all of them: parsing is most of the work here.
            entries: list[dict[str, Any]] = json.loads(b"[" + b",".join(lines) + b"]")
        except ValueError:
            entries = list(_whole_entries(lines))
        return entries

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _whole_entries(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """Skip what a keeper that was killed while it wrote left torn."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def read_spool(path: Path) -> list[dict[str, Any]]:
    """Return all complete entries of a spool; an empty list where there is none."""
    try:
        reader = SpoolReader(path)
    except FileNotFoundError:
        return []
    try:
        return reader.read()
    finally:
        reader.close()


def completion_of(entry: Mapping[str, Any], job: JobRecord, log: str) -> Completion:
    """Return what an entry means; declared checks of a job that exited with 0 are still due."""
    end = JobEnd(
        exit_code=entry.get("exit_code"),
        signal=entry.get("signal"),
        runtime_s=entry.get("runtime_s"),
        cpu_s=entry.get("cpu_s"),
        max_rss_bytes=entry.get("max_rss_bytes"),
        leftovers_killed=entry.get("leftovers_killed", 0),
    )
    status, cause = _verdict(entry, end, job, log)
    return Completion(
        entry["number"], entry["attempt"], status, end, _with_stuck(cause, entry), entry["ended_at"]
    )


def _verdict(
    entry: Mapping[str, Any], end: JobEnd, job: JobRecord, log: str
) -> tuple[JobStatus, Cause | None]:
    error = entry.get("launch_error")
    if error is not None:
        return JobStatus.FAILED, Cause(CauseKind.LAUNCH_ERROR, error)
    killed = entry.get("killed")
    if killed is not None:
        return JobStatus.KILLED, _cause_of_kill(killed, job, log)
    cause = cause_of_exit(end, log, out_of_memory=bool(entry.get("out_of_memory")))
    return (JobStatus.PASSED, None) if cause is None else (JobStatus.FAILED, cause)


def _cause_of_kill(killed: str, job: JobRecord, log: str) -> Cause | None:
    context: dict[str, object] = {"log": log}
    if killed == "timeout":
        message = f"ran longer than its time limit of {job.timeout_s:g} s"
        return Cause(CauseKind.TIMEOUT, message, {**context, "timeout_s": job.timeout_s})
    if killed == "driver_lost":
        return Cause(CauseKind.DRIVER_LOST, "the process that led the run died", context)
    if killed == "control":
        message = "ended through the keeper's own socket"
        return Cause(CauseKind.CANCELLED, message, {**context, "by": "keeper"})
    return None  # the driver asked for it and knows why


def _with_stuck(cause: Cause | None, entry: Mapping[str, Any]) -> Cause | None:
    """Name in the cause those who outlived SIGKILL."""
    stuck = entry.get("stuck")
    if not stuck:
        return cause
    processes = ", ".join(stuck)
    note = f"left alone, since not even SIGKILL ended them: {processes}"
    if cause is None:
        cause = Cause(CauseKind.CANCELLED, "killed")
    return Cause(cause.kind, f"{cause.message}; {note}", {**cause.context, "stuck": list(stuck)})
