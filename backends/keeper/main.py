"""The keeper's start: what a process needs to outlive its driver and whatever is sent to it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback

from backends.keeper.loop import Keeper, log

_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

PROCESS_NAME = "holdfast-keeper"


def main() -> None:
    """Serve one run; the only argument is the descriptor of the driver's connection."""
    first = socket.socket(fileno=int(sys.argv[1]))
    first.set_inheritable(False)
    wake_up = _listen_to_signals()
    _become_subreaper()
    try:
        Keeper(first, wake_up).run()
    except Exception:  # noqa: BLE001 - whatever it is, the log says it
        # The driver sees the keeper die and ends the jobs by their number.
        log(f"the keeper failed; this is a bug\n{traceback.format_exc()}")
        raise SystemExit(70) from None


def _listen_to_signals() -> socket.socket:
    """Ignore what is meant for terminals and groups; turn the rest into bytes on a socket."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    wake_up, written = socket.socketpair()
    wake_up.setblocking(False)
    written.setblocking(False)
    signal.set_wakeup_fd(written.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return wake_up


def _become_subreaper() -> None:
    """Be handed the orphans of the jobs; without Linux they are found by other marks only."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        log(f"cannot become a subreaper: {os.strerror(ctypes.get_errno())}")
    prctl(_PR_SET_NAME, PROCESS_NAME.encode(), 0, 0, 0)
