"""Progress as plain lines: for pipes, files, cron and terminals that cannot move the cursor."""

from __future__ import annotations

from typing import TextIO

from observers.progress_snapshot import Snapshot
from tasks.sanitise import one_line


class LineDisplay:
    """Writes one line for each snapshot that differs from the last one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, snapshot: Snapshot) -> None:
        """Write the counts and what the run waits for."""
        parts = [f"{snapshot.run}: {snapshot.counts_in_words()}"]
        if snapshot.note:
            parts.append(snapshot.note)
        if waits_for := snapshot.waits_for():
            parts.append(f"waits for {waits_for}")
        self._stream.write(one_line("; ".join(parts), 1000) + "\n")
        self._stream.flush()

    def say(self, line: str) -> None:
        """Write one message."""
        self._stream.write(line + "\n")
        self._stream.flush()

    def open(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to put back."""
