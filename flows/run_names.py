"""Names for the runs of flows: allowed ones, and no two alike at the same time in a process."""

from __future__ import annotations

import itertools
import re
import threading

from tasks.errors import InputError
from tasks.spec import NAME_PATTERN

_LONGEST = 90
"""Leaves room for a number behind a name."""

_lock = threading.Lock()
_in_use: set[str] = set()


def run_name_of(flow_name: str) -> str:
    """Return the name of a flow's runs: its own, in lower case, other characters as ``-``."""
    name = re.sub(r"[^a-z0-9._-]+", "-", flow_name.lower()).strip("-.")[:_LONGEST]
    return name or "flow"


def checked_run_name(name: str) -> str:
    """Return the name; raises ``InputError`` if it is not allowed."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InputError(
            [f'run_name "{name}": write 1 to 100 of a-z 0-9 . _ -, no "." or "-" first']
        )
    return name


def claim_run_name(name: str) -> str:
    """Return the name, or with a number behind it where this process has a run of that name.

    Two subflows of one flow may run side by side; a second run of the name from elsewhere is
    refused by the name's lock.  The claim lasts until ``give_back``.
    """
    with _lock:
        for count in itertools.count(1):
            claimed = name if count == 1 else f"{name}-{count}"
            if claimed not in _in_use:
                _in_use.add(claimed)
                return claimed
    raise AssertionError("unreachable")


def give_back_run_name(name: str) -> None:
    """The run of that name has ended."""
    with _lock:
        _in_use.discard(name)
