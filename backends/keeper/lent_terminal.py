"""The terminal that a dead driver had lent to an interactive job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backends.keeper.job import LaunchRequest


class LentTerminal:
    """What is known of the user's terminal; the driver restores it as long as it lives."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._terminal: dict[str, Any] | None = None

    def lent_to(self, requests: Sequence[LaunchRequest]) -> None:
        """Note the terminal of an interactive job that is about to start."""
        # An interactive job travels with few others, if any: looking is cheap.
        for request in requests:
            if request.terminal is not None:
                self._terminal = request.terminal

    def restore(self) -> None:
        """Give the terminal its modes back, where a job had it at all."""
        terminal, self._terminal = self._terminal, None
        if terminal is None:
            return
        # Imported here: next to no run has interactive jobs.
        from backends.terminal_modes import restore

        try:
            restore(terminal["user"], terminal["modes"])
        except (OSError, ValueError, TypeError, IndexError, OverflowError) as error:
            self._log(f"the terminal could not be restored: {error}")
