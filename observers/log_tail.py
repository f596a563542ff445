"""The last lines of a job's log, harmless to show and bounded whatever the log holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tasks.sanitise import one_line

_TAIL_BYTES = 16_384


def last_lines(path: Path, count: int, limit: int = 200) -> list[str]:
    """Return the last ``count`` lines that say something, each of at most ``limit`` characters.

    Reads at most 16 KiB, whatever the size of the file; what could steer a terminal is dropped,
    bytes that are no UTF-8 read as U+FFFD.  Returns nothing where there is no regular file that
    can be read.
    """
    lines: list[str] = []
    for line in reversed(_tail(path).decode("utf-8", "replace").split("\n")):
        if len(lines) == count:
            break
        # A carriage return starts the line anew on a terminal: a bar ends in its last state.
        text = one_line(line.rstrip("\r").rpartition("\r")[2], limit)
        if text:
            lines.append(text)
    return lines[::-1]


def _tail(path: Path) -> bytes:
    # A job may put a pipe or a link under the name of its log; neither is waited for or followed.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return b""
        return os.pread(descriptor, _TAIL_BYTES, max(0, about.st_size - _TAIL_BYTES))
    finally:
        os.close(descriptor)
