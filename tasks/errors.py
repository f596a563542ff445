"""Errors that a person sees, each with the exit code of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class HoldfastError(Exception):
    """Something Holdfast says to its user; the message states the fact and what to do."""

    exit_code: ClassVar[int] = 70


class InputError(HoldfastError):
    """Bad usage or bad input: every problem found, and nothing was started."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[str, ...]]]:
        # Prefect stores the exceptions of flows: it must survive the way there and back.
        return type(self), (self.problems,)


class BusyError(HoldfastError):
    """Another run holds the name."""

    exit_code = 3


class UnknownError(HoldfastError):
    """No such run or job."""

    exit_code = 4


class StateError(HoldfastError):
    """The run is not in a state for this."""

    exit_code = 5
