"""A run started on a terminal of its own, with somebody who reads and types there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

from support.command_line import CommandLine
from support.waiting import wait_for


class Screen:
    """The far side of a terminal that a command runs on."""

    def __init__(
        self, cli: CommandLine, *arguments: str, columns: int = 91, rows: int = 33
    ) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, rows)
        self.modes_before = self.modes()
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.run", *arguments],
            cwd=cli.place,
            env={**cli.environment, "TERM": "xterm"},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            # Its controlling terminal, as in a shell: else Ctrl-C could not be a signal.
            preexec_fn=self._take_terminal,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _take_terminal(self) -> None:
        os.setsid()
        fcntl.ioctl(self._theirs, termios.TIOCSCTTY, 0)

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65_536)
            except OSError:
                return
            if not piece:
                return
            self.shown += piece

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def wait_for(self, text: bytes) -> None:
        wait_for(lambda: text in self.shown, f"{text!r} on the terminal, not {self.shown!r}")

    def wait_for_end(self) -> int:
        return self.process.wait(30)

    def wait_until_restored(self) -> None:
        wait_for(lambda: self.modes() == self.modes_before, "the terminal's modes to be restored")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        os.close(self._theirs)
        self._reader.join(5)
        os.close(self._ours)


@contextlib.contextmanager
def on_screen(cli: CommandLine, *arguments: str) -> Iterator[Screen]:
    """Run a command on a terminal until the block ends."""
    screen = Screen(cli, *arguments)
    try:
        yield screen
    finally:
        screen.close()
