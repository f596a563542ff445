"""The modes of the user's terminal: raw while a job has it, and as they were afterwards."""

from __future__ import annotations

import os
import termios
import tty
from typing import Any

Modes = list[Any]
"""As ``termios`` has them: four sets of flags, two speeds, the control characters."""

_LOCAL_FLAGS = 3


def make_raw(terminal: int) -> Modes:
    """Hand every key through as it is, Ctrl-C too; return the modes that were; ``OSError``."""
    try:
        before: Modes = termios.tcgetattr(terminal)
        tty.setraw(terminal, termios.TCSANOW)
    except termios.error as error:
        raise OSError(*error.args) from error
    return before


def set_modes(terminal: int, modes: Modes) -> None:
    """Set all modes; raises ``OSError`` where the terminal is gone."""
    try:
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
    except termios.error as error:
        raise OSError(*error.args) from error


def to_wire(modes: Modes) -> Modes:
    """Return the modes as JSON can carry them."""
    *flags, characters = modes
    return [*flags, [each if isinstance(each, int) else each[0] for each in characters]]


def restore(path: str, wire: Modes) -> None:
    """Give a terminal its modes back if it is still raw; raises ``OSError``, ``ValueError``.

    A shell that noticed first has set modes of its own; none keeps Ctrl-C from being a signal.
    """
    *flags, characters = wire
    modes: Modes = [*flags, [bytes((each,)) for each in characters]]
    if not modes[_LOCAL_FLAGS] & termios.ICANON:
        # Here ``termios`` wants numbers for these two.
        for index in (termios.VMIN, termios.VTIME):
            modes[-1][index] = characters[index]
    terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not termios.tcgetattr(terminal)[_LOCAL_FLAGS] & termios.ISIG:
            set_modes(terminal, modes)
    except (termios.error, TypeError, IndexError) as error:
        raise ValueError(f"{path!r} took no modes: {error}") from error
    finally:
        os.close(terminal)
