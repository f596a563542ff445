"""Runs a program on a real terminal and returns what it wrote there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from support.python_path import PYTHON_PATH

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class TerminalOutput:
    """What a program wrote to its terminal, and to a pipe if it had one."""

    text: str
    stdout: bytes
    exit_code: int

    @property
    def lines(self) -> list[str]:
        """Every line of every frame, without escape sequences."""
        return [line for line in re.split(r"[\r\n]+", _ESCAPES.sub("", self.text)) if line]


def run_on_terminal(
    command: Sequence[str],
    *,
    columns: int = 80,
    rows: int = 24,
    environment: Mapping[str, str] | None = None,
    pipe_stdout: bool = False,
) -> TerminalOutput:
    """Run the command with a terminal of this size on stdin, stderr and (or a pipe) stdout."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
    }
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=subprocess.PIPE if pipe_stdout else theirs,
        stderr=theirs,
        env={
            **inherited,
            "PYTHONPATH": PYTHON_PATH,
            "TERM": "xterm-256color",
            "PYTHONUTF8": "1",
            **({} if environment is None else environment),
        },
    )
    os.close(theirs)
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # EIO: the last process let go of the terminal
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(ours)
    stdout, _ = process.communicate(timeout=60)
    return TerminalOutput(
        b"".join(pieces).decode("utf-8", "replace"), stdout or b"", process.returncode
    )
