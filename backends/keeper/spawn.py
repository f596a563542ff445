"""Starting the first process of a job, and telling why one could not be started."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from collections.abc import Callable
from typing import Any

from backends.keeper.job import LaunchRequest
from backends.process_tree import HAS_PROC
from tasks.process_number import carried_number, run_number_of

_TEMPORARY = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.EINTR}
)
"""Errors that pass: too many processes or descriptors, a program that is just being written."""

_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_NOFOLLOW

# A process starts with every signal at its default, whatever the keeper and Python ignore.
DEFAULT_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class LaunchError(Exception):
    """This job cannot be started; the message names what failed."""


class NotNowError(Exception):
    """The machine has no room for another process at this moment; the message says of what."""


class Spawner:
    """Starts jobs in sessions of their own, with their number, straight into their logs."""

    def __init__(
        self, *, run_number: int, jobs_directory: str, environment: dict[str, str]
    ) -> None:
        self._jobs_directory = jobs_directory
        self.environment = environment
        self._run_number = run_number
        self._own_limit, self._hard_limit = resource.getrlimit(resource.RLIMIT_RSS)
        self.outer_run = run_number_of(self._own_limit)
        """The run that this keeper is a job of, if it is one; its number is kept."""
        # Elsewhere than on Linux the limit is one, and is enforced.
        self.carries_number = HAS_PROC and self.outer_run is None and self._can_carry()

    def _can_carry(self) -> bool:
        try:
            self._carry(carried_number(self._run_number, 0))
        except (ValueError, OSError):  # a hard limit below the number
            return False
        self._carry(self._own_limit)
        return True

    def _carry(self, limit: int) -> None:
        resource.setrlimit(resource.RLIMIT_RSS, (limit, self._hard_limit))

    def without_number(self) -> None:
        """Put the keeper's own limit back, for what is no job."""
        if self.carries_number:
            self._carry(self._own_limit)

    def start(self, request: LaunchRequest) -> int:
        """Start the job and return the pid; raises ``LaunchError`` or ``NotNowError``."""
        directory = f"{self._jobs_directory}/{request.id}"
        self._make_directory(request.id, directory)
        self._enter(request.cwd)
        environment = {**self.environment, **request.environment}
        if self.carries_number:
            self._carry(carried_number(self._run_number, request.number))
        log = f"{directory}/log.txt"
        program = _program(request.command, environment)
        try:
            return os.posix_spawn(
                program,
                request.command,
                environment,
                file_actions=_standard_streams(request, log),
                setsid=True,
                setsigmask=(),
                setsigdef=DEFAULT_SIGNALS,
            )
        except OSError as error:
            if error.errno in _TEMPORARY:
                if request.terminal is None:
                    _remove_empty(log)
                raise NotNowError(os.strerror(error.errno or 0)) from error
            raise LaunchError(_why(error, program, log)) from error
        except (ValueError, TypeError) as error:  # a NUL or an unpaired surrogate
            raise LaunchError(f"the command or its environment is malformed: {error}") from error

    def _make_directory(self, job_id: str, directory: str) -> None:
        if "/" in job_id or job_id in ("", ".", ".."):
            raise LaunchError(f'"{job_id}" is no name for a directory')
        try:
            os.mkdir(directory)  # noqa: PTH102
        except FileExistsError:
            # Made by the driver or an earlier attempt; a link could lead out of the run.
            if not stat.S_ISDIR(os.lstat(directory).st_mode):
                raise LaunchError(f'"{directory}" is not a directory; remove it') from None
        except OSError as error:
            raise LaunchError(
                f'cannot make the job\'s directory "{directory}": {error.strerror}'
            ) from error

    def _enter(self, cwd: str) -> None:
        try:
            # Each time: a directory that was removed and made again is another one.
            os.chdir(cwd)
        except OSError as error:
            raise LaunchError(f'cannot work in "{cwd}": {error.strerror}') from error


def _standard_streams(request: LaunchRequest, log: str) -> tuple[tuple[Any, ...], ...]:
    """Return how to open them: nothing to read and the log, or a terminal that is also logged."""
    if request.terminal is None:
        return (
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, _LOG_FLAGS, 0o666),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        )
    # The first terminal that the leader of a session opens becomes the session's own.
    return (
        (os.POSIX_SPAWN_OPEN, 0, request.terminal["job"], os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    )


def _remove_empty(log: str) -> None:
    """Let the next try make its log anew; only a log that nothing was written to is removed."""
    try:
        if os.lstat(log).st_size == 0:
            os.unlink(log)  # noqa: PTH108
    except OSError:
        pass


def _program(command: list[str], environment: dict[str, str]) -> str:
    """Return the file to execute, found in the job's own PATH where the name has no slash."""
    name = command[0]
    if "/" in name:
        return name
    path = environment.get("PATH", os.defpath)
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112
            return candidate
    raise LaunchError(f'there is no program "{name}" in PATH "{path}"')


def _why(error: OSError, program: str, log: str) -> str:
    """Say which of log and program it was: the error of a spawn names neither."""
    log_trouble = _log_trouble(log, created=error.errno != errno.EEXIST)
    if log_trouble is not None:
        return log_trouble
    explain = _EXPLANATIONS.get(error.errno or 0)
    if explain is not None:
        return explain(program)
    return f'cannot start "{program}": {error.strerror}'


def _log_trouble(log: str, *, created: bool) -> str | None:
    try:
        if not created or not stat.S_ISREG(os.lstat(log).st_mode):
            return f'cannot write the log "{log}": something of that name is there already'
        os.close(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        # The log is opened before the program: without one, that is what failed.
        return _cannot_create(log)
    except OSError as error:
        return f'cannot write the log "{log}": {error.strerror}'
    return None


def _cannot_create(log: str) -> str | None:
    try:
        os.close(os.open(log, _LOG_FLAGS | os.O_CLOEXEC, 0o666))
    except OSError as error:
        return f'cannot write the log "{log}": {error.strerror}'
    return None


def _missing(program: str) -> str:
    if os.path.exists(program):  # noqa: PTH110
        return (
            f'cannot start "{program}": the interpreter that its first line names, or its '
            "loader, does not exist"
        )
    return f'there is no program "{program}"'


def _not_executable(program: str) -> str:
    if os.path.isdir(program):  # noqa: PTH112
        return f'cannot start "{program}": it is a directory'
    return f'cannot start "{program}": permission denied; is it executable? (chmod +x)'


_EXPLANATIONS: dict[int, Callable[[str], str]] = {
    errno.ENOENT: _missing,
    errno.EACCES: _not_executable,
    errno.ENOEXEC: lambda program: (
        f'cannot start "{program}": it is neither a binary of this machine nor a script that '
        'begins with "#!"'
    ),
    errno.E2BIG: lambda program: (
        f'cannot start "{program}": its command and environment together are too long for the '
        "kernel; hand long lists over in a file"
    ),
}
