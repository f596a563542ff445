"""How far a run has been reported, on disk, so that whoever comes next goes on from there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

from tasks.atomic_file import write_json_atomically

CURSOR_FILE = ".prefect.json"

EVERY_S = 2.0
"""How often the cursor is written while a run is reported."""

_VERSION = 1


@dataclass(frozen=True, slots=True)
class ReportCursor:
    """Where the report of a run to one flow run stands.

    It may lag behind what the server has, never run ahead of it: sending again is harmless.
    Credentials are not in it.
    """

    flow_run_id: str
    api_url: str
    offset: int = 0
    """The server has confirmed every end that lies before this byte of the journal."""
    singles: int = 0
    """So many jobs, the first ones of the run, are told one by one."""
    task_runs: int = 0
    """Task runs that the run has on the server when all is told."""
    unconfirmed: int = 0
    """Task runs that ended and of which the server has not confirmed it."""

    @classmethod
    def read(cls, directory: Path) -> ReportCursor | None:
        """Return the cursor of a run's directory; ``None`` where there is none to trust."""
        try:
            value = json.loads((directory / CURSOR_FILE).read_bytes())
            if value.pop("v") != _VERSION:
                return None
            UUID(value["flow_run_id"])
            cursor = cls(**value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        numbers = (cursor.offset, cursor.singles, cursor.task_runs, cursor.unconfirmed)
        sound = all(type(number) is int and number >= 0 for number in numbers)
        return cursor if sound and isinstance(cursor.api_url, str) else None

    def write(self, directory: Path) -> None:
        """Replace the cursor in one step.  Raises ``OSError``, a full disk included."""
        write_json_atomically(directory / CURSOR_FILE, {"v": _VERSION, **asdict(self)})


class CursorFile:
    """Keeps the cursor on disk up to date, without writing it for each small step.

    Times are monotonic.  Methods raise ``OSError`` where it cannot be written.
    """

    def __init__(self, directory: Path, cursor: ReportCursor) -> None:
        self._directory = directory
        self._cursor = cursor
        self._written: ReportCursor | None = None
        self._written_at = 0.0

    def update(
        self, now: float, *, offset: int, singles: int, task_runs: int, unconfirmed: int
    ) -> None:
        """Take the new position; write it unless that was done a moment ago."""
        self._cursor = replace(
            self._cursor,
            offset=offset,
            singles=singles,
            task_runs=task_runs,
            unconfirmed=unconfirmed,
        )
        # Which jobs are told one by one must be on disk before the first of them is.
        first = self._written is None or self._written.singles != singles
        if first or now >= self._written_at + EVERY_S:
            self.flush(now)

    def due_at(self) -> float | None:
        """Return when there is something to write; ``None`` if there is not."""
        return None if self._cursor == self._written else self._written_at + EVERY_S

    def flush(self, now: float) -> None:
        """Write the cursor if it changed."""
        if self._cursor != self._written:
            self._cursor.write(self._directory)
            self._written, self._written_at = self._cursor, now
