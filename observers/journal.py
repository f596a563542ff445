"""The journal: every event of a run as one line of ``events.jsonl``, the one truth about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, ClassVar

from observers.append_file import AppendFile
from observers.base import Observer
from tasks.events import (
    Adopted,
    JobChanged,
    JobEnd,
    KeeperLost,
    KillRequested,
    ObserverFailed,
    RunEnded,
    RunEvent,
    RunPaused,
    RunStarted,
    RunUnpaused,
    iso_utc,
)
from tasks.status import Cause

JOURNAL_FILE = "events.jsonl"

JOURNAL_VERSION = 1
"""What ``"v"`` says on the first line; a reader refuses a version that it does not know."""


class Journal(Observer):
    """Writes ``events.jsonl`` in the run's directory, one write for each batch of events.

    A batch is handed to the operating system before the next observer sees it, so that whatever
    kills the driver, a reader finds what the other observers have shown.  It is synced to the
    disk when the run ends: after a power cut the last seconds of a run that was going on may be
    missing, a torn last line among them; a run that ended is complete.

    A write that fails (a full disk) raises ``AppendError``; the run is then stopped.
    """

    essential: ClassVar[bool] = True
    remembers: ClassVar[bool] = True

    def __init__(self, directory: Path) -> None:
        self._file = AppendFile(directory / JOURNAL_FILE)
        self._time = _TimeText()

    @property
    def name(self) -> str:
        """How messages call this observer."""
        return "journal"

    @property
    def path(self) -> Path:
        """Where the journal lies."""
        return self._file.path

    def run_started(self, event: RunStarted) -> None:
        """Write the line."""
        self._write(event)

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Write one line for each."""
        time_text = self._time.text
        self._append("".join([_job_status_line(event, time_text(event.at)) for event in events]))

    def kill_requested(self, event: KillRequested) -> None:
        """Write the line."""
        self._write(event)

    def run_paused(self, event: RunPaused) -> None:
        """Write the line."""
        self._write(event)

    def run_unpaused(self, event: RunUnpaused) -> None:
        """Write the line."""
        self._write(event)

    def keeper_lost(self, event: KeeperLost) -> None:
        """Write the line."""
        self._write(event)

    def adopted(self, event: Adopted) -> None:
        """Write the line."""
        self._write(event)

    def observer_failed(self, event: ObserverFailed) -> None:
        """Write the line."""
        self._write(event)

    def run_ended(self, event: RunEnded) -> None:
        """Write the line and sync the whole journal to the disk."""
        self._write(event)
        self._file.sync()

    def close(self) -> None:
        """Sync and close the file."""
        self._file.close()

    def _write(self, event: RunEvent) -> None:
        self._append(_line(event.journal_entry()))

    def _append(self, lines: str) -> None:
        if not self._file.is_open and self._file.open():
            lines = f'{{"v":{JOURNAL_VERSION},{lines[1:]}'
        self._file.append(lines)


class _TimeText:
    """``iso_utc``, faster for times that lie in the same second, as those of a batch do."""

    __slots__ = ("_at", "_second", "_second_text", "_text")

    def __init__(self) -> None:
        self._at = self._second = -1.0
        self._text = self._second_text = ""

    def text(self, at: float) -> str:
        if at == self._at:
            return self._text
        second = at // 1
        micros = round((at - second) * 1e6)
        if micros == 1_000_000:
            return iso_utc(at)
        if second != self._second:
            self._second = second
            self._second_text = iso_utc(second)[:-7]
        self._at = at
        self._text = text = f"{self._second_text}{micros:06d}Z"
        return text


def _job_status_line(event: JobChanged, at: str) -> str:
    """Return what ``json.dumps(event.journal_entry())`` would, at a third of its cost.

    It is written for each change of each job: ``_value_`` is ``value`` without a descriptor, and
    the keys are never built.
    """
    cause = event.cause
    line = (
        f'{{"at":"{at}","event":"job_status","job":{quoted(event.job.id)},'
        f'"from":"{event.before._value_}","to":"{event.after._value_}",'
        f'"attempt":{event.attempt},"backend":{quoted(event.backend)},'
        f'"cause":{"null" if cause is None else _cause_json(cause)}'
    )
    return line + "}\n" if event.end is None else line + _end_json(event.end)


def _end_json(end: JobEnd) -> str:
    """Return the rest of a line that tells of an end."""
    return (
        f',"exit_code":{_number(end.exit_code)},"signal":{_number(end.signal)},'
        f'"skipped":{"true" if end.skipped else "false"},"runtime_s":{_number(end.runtime_s)},'
        f'"cpu_s":{_number(end.cpu_s)},"max_rss_bytes":{_number(end.max_rss_bytes)},'
        f'"leftovers_killed":{end.leftovers_killed}}}\n'
    )


def _number(value: float | None) -> str:
    # JSON has no infinity and no NaN: both minus themselves are not 0.
    return str(value) if value is not None and value - value == 0 else "null"


def _cause_json(cause: Cause) -> str:
    return json.dumps(cause.to_json(), separators=(",", ":"), default=_plain)


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":"), default=_plain) + "\n"


def _plain(value: object) -> object:
    """Return what JSON can say of a value that it has no form for."""
    return dict(value) if isinstance(value, Mapping) else str(value)
