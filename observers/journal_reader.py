"""Reads ``events.jsonl``: all of it, or what is appended while a run goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from observers.file_tail import FileTail
from observers.journal import JOURNAL_FILE, JOURNAL_VERSION
from observers.json_lines import DamagedFileError, JsonObject, parse_json_line, read_json_lines

_BLOCK_BYTES = 1 << 18

Entry = JsonObject
"""One line of the journal, as ``journal_entry`` of its event returns it."""


def journal_path(place: Path) -> Path:
    """Return the journal's file for a run's directory, or ``place`` if it is the file itself."""
    return place / JOURNAL_FILE if place.is_dir() else place


def read_journal(place: Path) -> Iterator[Entry]:
    """Yield the entries of a run's journal, given its directory or the file, oldest first.

    A torn end, as a power cut leaves it, is ignored.  Raises ``OSError`` where there is no
    journal, ``DamagedFileError`` for damage that whole lines follow and for a version of the
    format that this Holdfast does not know.
    """
    path = journal_path(place)
    for number, entry in enumerate(read_json_lines(path)):
        if number == 0:
            _check_version(path, entry)
        yield entry


class JournalTail:
    """Follows the journal of a run, from byte ``offset`` on, whole lines only.

    For the reporter and for live displays: ``read`` in a loop, or ``follow``.  ``wake`` and
    ``stop`` may be called from any thread, the rest belongs to one.
    """

    def __init__(self, place: Path, offset: int = 0) -> None:
        self._tail = FileTail(journal_path(place), offset)
        self._lines: deque[bytes] = deque()
        self.offset = offset
        """The byte after the last entry that was handed out: where another tail may go on."""

    def read(self, limit: int | None = None) -> list[Entry]:
        """Return the entries that are there and were not handed out yet, at most ``limit``.

        Never waits; an empty list means: nothing new.  Raises as ``read_journal`` does.
        """
        entries: list[Entry] = []
        while (limit is None or len(entries) < limit) and self._fill():
            line = self._lines.popleft()
            entry = parse_json_line(line)
            if entry is None:
                raise DamagedFileError(
                    f'"{self._tail.path}", byte {self.offset}: no JSON object; '
                    "restore the file or remove that line"
                )
            if self.offset == 0:
                _check_version(self._tail.path, entry)
            self.offset += len(line)
            entries.append(entry)
        return entries

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until there may be something to read; ``False`` when the time is over."""
        return bool(self._lines) or self._tail.wait(timeout_s)

    def follow(self, is_over: Callable[[], bool] = lambda: False) -> Iterator[list[Entry]]:
        """Yield what is there, then what comes, in batches; ends with ``run_ended``.

        It also ends after ``stop``, and when ``is_over`` says so while nothing new is there: a
        driver that was killed writes no last line.
        """
        ending = False
        while True:
            entries = self.read()
            if entries:
                yield entries
                if entries[-1]["event"] == "run_ended":
                    return
            elif ending:
                return
            else:
                # Once more after the question: lines may have come before its answer was yes.
                ending = self._tail.is_stopped or is_over()
                if not ending:
                    self.wait(1.0)

    def wake(self) -> None:
        """Have a waiting ``wait`` return now."""
        self._tail.wake()

    def stop(self) -> None:
        """Have ``wait`` return and ``follow`` end when it has handed out what is there."""
        self._tail.stop()

    def close(self) -> None:
        """Let go of the file.  Idempotent."""
        self._tail.close()

    def _fill(self) -> bool:
        """Have the next whole line ready; return whether there is one."""
        size = _BLOCK_BYTES
        while not self._lines:
            data = self._tail.read(size)
            if not data:
                return False
            whole = data.rfind(b"\n") + 1
            # What is torn now is read again: its writer may be dead and its successor cuts it off.
            self._tail.give_back(len(data) - whole)
            self._lines.extend(data[:whole].splitlines(keepends=True))
            if not whole and len(data) < size:
                return False
            size *= 2
        return True


def _check_version(path: Path, first: Entry) -> None:
    version = first.get("v")
    if version != JOURNAL_VERSION:
        raise DamagedFileError(
            f'journal "{path}" has version {version!r}; this Holdfast reads version '
            f"{JOURNAL_VERSION}; use the Holdfast that wrote it"
        )
