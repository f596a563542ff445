"""What can go wrong with a checkpoint, each with the exit code of the command line."""

from __future__ import annotations

from tasks.errors import BusyError, HoldfastError


class CheckpointError(HoldfastError):
    """The store cannot do what was asked; nothing that was committed is lost."""


class CheckpointFullError(CheckpointError):
    """No space is left where the store lies."""


class CheckpointRefusedError(CheckpointError):
    """The directory cannot hold, or does not hold, a checkpoint that this version may use."""

    exit_code = 2


class CheckpointBusyError(BusyError):
    """Somebody else holds the store, or the writer's file."""
