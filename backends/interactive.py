"""The user's terminal, lent to one job at a time through a terminal of the job's own."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends.terminal_modes import Modes, make_raw, set_modes, to_wire

_log = logging.getLogger("holdfast.interactive")

_STDIN = 0
_CHUNK = 65_536
_MAX_UNSHOWN = 262_144
"""Bytes for the terminal beyond which the job has to wait until it has shown them."""

_LOOK_S = 0.25
"""How often the window's size is looked at: a handler of SIGWINCH is the main thread's alone."""

_REOPEN_S = 0.05
"""How often to look whether somebody has opened the job's terminal again."""

_MAX_REST = 4 << 20
_SHOW_REST_S = 2.0
_JOIN_S = 5.0

_process_lends = threading.Lock()
"""A process has one terminal, however many runs it has."""


def why_no_terminal() -> str | None:
    """Return why no job could be given the user's terminal; ``None`` if it could."""
    if not os.isatty(_STDIN):
        return "standard input is no terminal; start the run in one, without a redirection"
    try:
        os.ttyname(_STDIN)
    except OSError as error:
        return f"the terminal on standard input has no name here: {error.strerror}"
    if _is_in_background():
        return "the run is in the background of its terminal; bring it to the foreground (fg)"
    return None


def _is_in_background() -> bool:
    try:
        return os.tcgetpgrp(_STDIN) != os.getpgrp()
    except OSError:  # not this session's terminal, so there are no grounds
        return False


class UserTerminal:
    """Lends the terminal on standard input to a job and takes it back.

    ``lent`` is told True before the terminal changes hands, and False when it is back.
    Thread-safe.
    """

    def __init__(self, lent: Callable[[bool], None]) -> None:
        self._tell = lent
        self._lock = threading.Lock()
        self._loans: dict[int, _Loan] = {}

    def lend(self, number: int, log: Path) -> dict[str, Any]:
        """Make the terminal this job's; return what the keeper is to know about it.

        The log must not exist yet.  Raises ``OSError`` when there is no terminal to lend.
        """
        trouble = why_no_terminal()
        if trouble is not None:
            raise OSError(trouble)
        if not _process_lends.acquire(blocking=False):
            raise OSError("another run of this process has lent the terminal to a job")
        try:
            self._tell(True)
            try:
                loan = _Loan(log)
            except BaseException:
                self._tell(False)
                raise
        except BaseException:
            _process_lends.release()
            raise
        with self._lock:
            self._loans[number] = loan
        return loan.for_keeper

    def of(self, number: int) -> dict[str, Any] | None:
        """Return what the keeper is to know about a job's terminal, if the job has one."""
        with self._lock:
            loan = self._loans.get(number)
        return None if loan is None else loan.for_keeper

    def take_back(self, number: int) -> None:
        """Show and log the rest, restore the modes.  Nothing for a job without the terminal."""
        with self._lock:
            loan = self._loans.pop(number, None)
        if loan is None:
            return
        try:
            loan.end()
        finally:
            _process_lends.release()
            self._tell(False)


class _Loan:
    """One job's terminal, and the thread that copies between it and the user's."""

    def __init__(self, log: Path) -> None:
        self._open: list[int] = []
        try:
            self._prepare(log)
        except BaseException:
            self._close()
            raise
        self._thread.start()

    def _prepare(self, log: Path) -> None:
        path = os.ttyname(_STDIN)
        # Opened anew: only so it can be made non-blocking for nobody else.
        self._user = self._keep(
            os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        log_file = self._keep(os.open(log, flags, 0o666))
        ours, jobs = os.openpty()
        self._keep(ours)
        try:
            os.set_blocking(ours, False)
            slave = os.ttyname(jobs)
            _copy_window_size(self._user, ours)
            self._modes = make_raw(self._user)
            set_modes(jobs, self._modes)
        finally:
            # Held open here it would be hung up, with what is unread, when its leader ends.
            os.close(jobs)
        self.for_keeper: dict[str, Any] = {
            "job": slave,
            "user": path,
            "modes": to_wire(self._modes),
        }
        wake = os.pipe()
        self._open += wake
        self._copier = _Copier(self._user, ours, log_file, wake)
        self._thread = threading.Thread(
            target=self._copier.run, name="holdfast-terminal", daemon=True
        )

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def end(self) -> None:
        """Let the thread finish and give the terminal its modes back."""
        self._copier.end()
        self._thread.join(_JOIN_S)
        self._close()

    def _close(self) -> None:
        modes: Modes | None = getattr(self, "_modes", None)
        if modes is not None:
            try:
                set_modes(self._user, modes)
            except OSError as error:  # the window was closed
                _log.debug("the terminal's modes could not be restored: %s", error)
        while self._open:
            os.close(self._open.pop())


class _Copier:
    """Copies keys to the job, its output to the terminal and the log, and the window's size.

    ``wake`` is a pipe: its reading and its writing end.
    """

    def __init__(self, user: int, job: int, log: int, wake: tuple[int, int]) -> None:
        self._user, self._job, self._log = user, job, log
        self._woken, self._waker = wake
        self._ending = False
        self._to_user = bytearray()
        self._to_job = bytearray()
        self._user_is_there = True
        self._hung_up = False
        self._logs = True

    def end(self) -> None:
        """Copy what there is and no more: no process of the job is left to write."""
        self._ending = True
        os.write(self._waker, b".")

    def run(self) -> None:
        """Copy until ``end``."""
        try:
            while not self._ending:
                self._turn()
            self._finish()
        except Exception:  # noqa: BLE001 - the terminal is restored whatever becomes of it
            _log.exception("copying between the terminal and the job failed")

    def _turn(self) -> None:
        ready = self._wait()
        if self._hung_up or ready.get(self._job, 0) & ~select.POLLOUT:
            self._read_job()
        if ready.get(self._user, 0) & ~select.POLLOUT:
            self._read_user()
        self._to_job = self._write(self._job, self._to_job)
        self._show()
        _copy_window_size(self._user, self._job)

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        wanted = select.POLLOUT if self._to_job else 0
        if len(self._to_user) < _MAX_UNSHOWN:
            wanted |= select.POLLIN
        if wanted and not self._hung_up:
            poll.register(self._job, wanted)
        if self._user_is_there:
            # Keys stay in the terminal's own queue until the job has taken the last ones.
            wanted = (0 if self._to_job else select.POLLIN) | (
                select.POLLOUT if self._to_user else 0
            )
            poll.register(self._user, wanted)
        return dict(poll.poll((_REOPEN_S if self._hung_up else _LOOK_S) * 1000))

    def _read_job(self) -> bool:
        """Take output of the job; False if there is none."""
        try:
            data = os.read(self._job, _CHUNK)
        except BlockingIOError:
            self._hung_up = False
            return False
        except OSError:  # EIO: nobody has the job's terminal open, now
            self._hung_up = True
            return False
        self._hung_up = False
        self._write_log(data)
        if self._user_is_there:
            self._to_user += data
        return bool(data)

    def _read_user(self) -> None:
        try:
            data = os.read(self._user, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._to_job += data
        else:
            self._lose_user()

    def _lose_user(self) -> None:
        self._user_is_there = False
        self._to_user.clear()

    def _show(self) -> None:
        if self._user_is_there:
            self._to_user = self._write(self._user, self._to_user)

    def _write(self, descriptor: int, data: bytearray) -> bytearray:
        """Write what fits; return the rest."""
        while data:
            try:
                del data[: os.write(descriptor, data)]
            except BlockingIOError:
                break
            except OSError:  # gone; reading finds that out
                data.clear()
        return data

    def _write_log(self, data: bytes) -> None:
        rest = memoryview(data)
        while self._logs and rest:
            try:
                rest = rest[os.write(self._log, rest) :]
            except OSError as error:
                self._logs = False
                _log.error("the log of an interactive job cannot be written: %s", error)

    def _finish(self) -> None:
        # Bounded: a process that was allowed to stay may go on writing.
        most = len(self._to_user) + _MAX_REST
        while len(self._to_user) < most and self._read_job():
            self._show()
        give_up_at = time.monotonic() + _SHOW_REST_S
        while self._to_user and self._user_is_there and time.monotonic() < give_up_at:
            poll = select.poll()
            poll.register(self._user, select.POLLOUT)
            poll.poll(_LOOK_S * 1000)
            self._show()


def _copy_window_size(source: int, target: int) -> None:
    """Give the target the source's size; the kernel tells its processes if that is a change."""
    try:
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8))
        if size != fcntl.ioctl(target, termios.TIOCGWINSZ, bytes(8)):
            fcntl.ioctl(target, termios.TIOCSWINSZ, size)
    except OSError:  # either is gone
        pass
