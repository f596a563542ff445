"""``logs``: what jobs wrote, then and now."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from flows.commands.options import places
from flows.history import PastRun, find_run
from flows.run_directory import RunFile
from observers.journal_reader import read_journal
from tasks.errors import UnknownError

_LOOK_EVERY_S = 0.2
_BLOCK_BYTES = 1 << 16


@click.command("logs")
@click.argument("run", metavar="RUN")
@click.argument("job", metavar="[JOB]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option(
    "--attempt", type=click.IntRange(min=1), metavar="N", help="An earlier attempt's log."
)
@places
def command(
    run: str, job: str | None, runs: Path, as_json: bool, follow: bool, attempt: int | None
) -> None:
    """Print the log of a job, or of all jobs of a run, byte for byte."""
    past = find_run(runs, run)
    out = sys.stdout.buffer
    if job is None:
        jobs = _JobLogs(past)
        while True:
            # Read the status first: what is written after it is found by the last look.
            over = not follow or _is_over(past)
            jobs.copy_news(out)
            if over:
                return
            time.sleep(_LOOK_EVERY_S)
    _check_job(past, job)
    name = "log.txt" if attempt is None else f"log.{attempt}.txt"
    path = past.directory / "jobs" / job / name
    if attempt is not None and not path.exists():
        raise UnknownError(f'job "{job}" has no log of attempt {attempt}')
    log = _Log(path)
    while True:
        over = not follow or _is_over(past) or _has_ended(past, job)
        log.copy_news(out)
        out.flush()
        if over:
            return
        time.sleep(_LOOK_EVERY_S)


class _Log:
    """A log file that grows, and that a retry replaces by a new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None

    def copy_news(self, out: BinaryIO) -> bool:
        """Copy what was written since the last time; whether there was any."""
        if self._stream is None:
            try:
                self._stream = self._path.open("rb")
            except OSError:
                return False
        copied = False
        while block := self._stream.read(_BLOCK_BYTES):
            out.write(block)
            copied = True
        if self._was_replaced():
            self._stream.close()
            self._stream = None
            return self.copy_news(out) or copied
        return copied

    def _was_replaced(self) -> bool:
        assert self._stream is not None
        try:
            now = self._path.stat().st_ino
        except OSError:
            return False
        import os

        return now != os.fstat(self._stream.fileno()).st_ino


class _JobLogs:
    """The logs of all jobs of a run, each piece under a line that names its job."""

    def __init__(self, past: PastRun) -> None:
        self._past = past
        self._logs: dict[str, _Log] = {}
        self._last = ""

    def copy_news(self, out: BinaryIO) -> None:
        for job in _started_jobs(self._past):
            if job not in self._logs:
                self._logs[job] = _Log(self._past.directory / "jobs" / job / "log.txt")
        for job, log in self._logs.items():
            log.copy_news(_Headed(out, self, job))  # type: ignore[arg-type]
        out.flush()

    def head(self, out: BinaryIO, job: str) -> None:
        if self._last != job:
            out.write(f"==> {job} <==\n".encode())
            self._last = job


class _Headed:
    """Writes the job's line before its first piece."""

    def __init__(self, out: BinaryIO, logs: _JobLogs, job: str) -> None:
        self._out, self._logs, self._job = out, logs, job

    def write(self, block: bytes) -> int:
        self._logs.head(self._out, self._job)
        return self._out.write(block)


def _started_jobs(past: PastRun) -> Iterator[str]:
    for entry in read_journal(past.directory / "events.jsonl"):
        if entry["event"] == "job_status" and entry["to"] == "running":
            yield entry["job"]


def _check_job(past: PastRun, job: str) -> None:
    entries = read_journal(past.directory / "events.jsonl")
    known = {entry["job"] for entry in entries if entry["event"] == "job_status"}
    if job not in known:
        from difflib import get_close_matches

        near = get_close_matches(job, known, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise UnknownError(f'run {past.file.run} has no job "{job}"{hint}')


def _is_over(past: PastRun) -> bool:
    file = RunFile.read(past.directory)
    return file is None or file.status.is_end


def _has_ended(past: PastRun, job: str) -> bool:
    status = "scheduled"
    for entry in read_journal(past.directory / "events.jsonl"):
        if entry["event"] == "job_status" and entry["job"] == job:
            status = entry["to"]
    return status in ("passed", "failed", "killed")
