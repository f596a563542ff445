"""Stop signals reach the run whatever the main thread does and whichever thread they strike."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from support.waiting import wait_for

from flows.stop_signals import StopSignals


@pytest.fixture
def seen() -> list[tuple[str, bool]]:
    return []


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_the_first_signal_is_told_from_the_ones_after_it(seen: list[tuple[str, bool]]) -> None:
    with StopSignals(lambda name, again: seen.append((name, again))) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: len(seen) == 1, "the first")
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: len(seen) == 2, "the second")
    assert seen == [("SIGTERM", False), ("SIGINT", True)]
    assert signals.first is signal.SIGTERM


def test_a_signal_that_strikes_another_thread_is_seen_while_the_main_thread_waits(
    seen: list[tuple[str, bool]],
) -> None:
    """Sabotage: flows/stop_signals.py: if number in _SIGNALS: -> if number in ():"""
    over = threading.Event()

    def stop(name: str, again: bool) -> None:
        seen.append((name, again))
        over.set()

    with StopSignals(stop):
        striker = threading.Thread(
            target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        )
        striker.start()
        assert over.wait(20)
        striker.join()
    assert seen == [("SIGTERM", False)]


def test_an_ignored_signal_stays_ignored(seen: list[tuple[str, bool]]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(lambda name, again: seen.append((name, again))):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            wait_for(lambda: seen, "the signal after it")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [("SIGTERM", False)]


def test_in_another_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    def enter() -> None:
        with StopSignals(print):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]
