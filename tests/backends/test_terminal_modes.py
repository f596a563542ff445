"""A raw terminal gets its modes back; one that somebody else has set since is left alone."""

from __future__ import annotations

import json
import os
import pty
import termios
from collections.abc import Iterator

import pytest

from backends.terminal_modes import make_raw, restore, to_wire


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = pty.openpty()
    yield theirs
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize("canonical", [True, False])
def test_a_raw_terminal_is_restored_from_what_travelled_as_json(
    terminal: int, canonical: bool
) -> None:
    before = termios.tcgetattr(terminal)
    if not canonical:
        before[3] &= ~termios.ICANON
        termios.tcsetattr(terminal, termios.TCSANOW, before)
        before = termios.tcgetattr(terminal)
    wire = json.loads(json.dumps(to_wire(make_raw(terminal))))
    assert termios.tcgetattr(terminal) != before
    restore(os.ttyname(terminal), wire)
    assert termios.tcgetattr(terminal) == before


def test_a_terminal_whose_modes_a_shell_has_set_since_is_left_alone(terminal: int) -> None:
    wire = to_wire(make_raw(terminal))
    shells = termios.tcgetattr(terminal)
    shells[3] |= termios.ISIG
    termios.tcsetattr(terminal, termios.TCSANOW, shells)
    shells = termios.tcgetattr(terminal)
    restore(os.ttyname(terminal), wire)
    assert termios.tcgetattr(terminal) == shells


@pytest.mark.parametrize("wire", [[], [1, 2], [0, 0, 0, 0, 0, 0, ["x"]], [0, 0, 0, 0, 0, 0, [999]]])
def test_modes_that_are_none_are_refused(terminal: int, wire: list[object]) -> None:
    make_raw(terminal)
    with pytest.raises((ValueError, TypeError)):
        restore(os.ttyname(terminal), wire)


def test_a_terminal_that_is_gone_is_told(terminal: int) -> None:
    with pytest.raises(OSError, match="No such file"):
        restore("/dev/pts/no-such-terminal", to_wire(make_raw(terminal)))
