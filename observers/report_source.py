"""Feeds a report's plan from a run's directory: the list of jobs and the journal, as they grow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from observers.job_list import JOB_LIST_FILE
from observers.journal_reader import JournalTail
from observers.json_lines import JsonObject, parse_json_line
from observers.report_plan import ReportPlan

_log = logging.getLogger("holdfast.reporter")

_ENTRIES = 2_000
_BLOCK_BYTES = 1 << 20


class ReportSource:
    """Reads what is new on disk into ``plan``.  For one thread.

    Ends in the journal before byte ``confirmed`` are taken as known to the server.
    """

    def __init__(self, directory: Path, plan: ReportPlan, confirmed: int = 0) -> None:
        self._plan = plan
        self._confirmed = confirmed
        self._jobs = _JobListTail(directory / JOB_LIST_FILE)
        self._journal = JournalTail(directory)
        self._complained = False

    @property
    def offset(self) -> int:
        """How many bytes of the journal have been read."""
        return self._journal.offset

    def read(self, now: float) -> None:
        """Take in all that is there.  Raises ``OSError`` and ``DamagedFileError``."""
        while True:
            begin = self._journal.offset
            # One by one up to the confirmed place, which lies between two entries.
            entries = self._journal.read(1 if begin < self._confirmed else _ENTRIES)
            # After the journal: each job is in the list before its first event is in the journal.
            self._read_jobs(now)
            for entry in entries:
                try:
                    self._plan.apply(
                        entry, begin, confirmed=self._journal.offset <= self._confirmed
                    )
                except (KeyError, ValueError, TypeError) as error:
                    self._complain(entry, error)
            if not entries:
                return

    def close(self) -> None:
        """Let go of the files."""
        self._jobs.close()
        self._journal.close()

    def _read_jobs(self, now: float) -> None:
        count = self._jobs.look()
        if not count:
            return
        self._plan.grow(count)
        for line in self._jobs.take():
            try:
                self._plan.add_job(line, now)
            except (KeyError, ValueError, TypeError) as error:
                self._complain(line, error)

    def _complain(self, line: JsonObject, error: Exception) -> None:
        if not self._complained:
            _log.warning("a line is not reported to Prefect (%r): %.500s", error, line)
            self._complained = True


class _JobListTail:
    """Hands out new lines of the list of jobs, and before that how many there are.

    How many jobs a run has decides how each of them is told, and the list of a million jobs is
    better read twice than kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._offset = 0
        self._end = 0
        self._head_seen = False

    def look(self) -> int:
        """Return how many jobs are new; ``take`` hands out exactly those."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return 0
        lines, position = 0, self._offset
        while block := os.pread(self._descriptor, _BLOCK_BYTES, position):
            newest = block.rfind(b"\n")
            if newest >= 0:
                lines += block.count(b"\n")
                self._end = position + newest + 1
            position += len(block)
        return lines - (0 if self._head_seen or not lines else 1)

    def take(self) -> Iterator[JsonObject]:
        """Yield the jobs that ``look`` counted."""
        rest = b""
        while self._offset < self._end:
            size = min(_BLOCK_BYTES, self._end - self._offset)
            block = os.pread(self._descriptor, size, self._offset)
            if not block:
                return
            self._offset += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                value = parse_json_line(line + b"\n")
                if not self._head_seen:
                    self._head_seen = True
                elif value is not None:
                    yield value

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
