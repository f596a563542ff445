"""Waiting that may be struck by an exception at any instruction: latches, futures, idle, service.

The main thread's signals are played by SIGALRM, whose handler raises; a waiter that is struck
must never leave whoever wakes it hanging.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn
from uuid import uuid4

import pytest
from support.waiting import wait_for

from flows.flow_end import FlowEnd
from flows.futures import JobFuture
from flows.idle_watch import IdleWatch
from flows.latch import Latch
from flows.service_thread import Reply, ServiceThread
from flows.stops import Stop
from tasks.errors import StateError
from tasks.job_result import JobResult
from tasks.spec import JobRecord
from tasks.status import JobStatus, RunStatus


class StruckError(BaseException):
    """What a signal's handler raises."""


def strike(number: int, frame: FrameType | None) -> NoReturn:
    raise StruckError


@contextmanager
def struck_after(delay_s: float) -> Iterator[None]:
    """Raise ``StruckError`` in the main thread after so many seconds, once."""
    # pytest-timeout has the alarm of this thread: it gets it back.
    handler = signal.signal(signal.SIGALRM, strike)
    before = signal.setitimer(signal.ITIMER_REAL, delay_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before[0]:
            signal.setitimer(signal.ITIMER_REAL, *before)


class Owner:
    """The flow run of a future that no runner made."""

    flow_run_id = uuid4()

    def __init__(self) -> None:
        self.delivered: list[JobFuture] = []
        self.seen: list[JobFuture] = []

    def deliver(self, future: JobFuture) -> None:
        self.delivered.append(future)

    def looked_at(self, future: JobFuture) -> None:
        self.seen.append(future)


PASSED = JobResult("a", JobStatus.PASSED, 0, None, 0.1, 1, None, None)


def test_a_latch_lets_its_waiter_go_when_it_opens() -> None:
    latch = Latch()
    threading.Timer(0.05, latch.open).start()
    assert latch.wait(20)


def test_a_latch_gives_up_when_its_time_is_over() -> None:
    assert Latch().wait(0.01) is False


def test_a_latch_that_is_struck_can_be_waited_for_again() -> None:
    latch = Latch()
    with struck_after(0.05), pytest.raises(StruckError):
        latch.wait()
    latch.open()
    assert latch.wait(0)


def test_a_task_that_blocks_its_loop_is_still_cancelled() -> None:
    async def blocks() -> None:
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
        threading.Timer(0.05, asyncio.current_task().cancel).start()  # type: ignore[union-attr]
        Latch().wait(20)

    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(blocks())
    assert time.monotonic() - started < 10


def test_whoever_completes_a_future_never_hangs_however_its_waiter_is_struck() -> None:
    """Strikes a waiter at many moments while another thread completes future after future."""
    chance = random.Random(7)
    owner = Owner()
    todo: list[JobFuture] = []
    completed = itertools.count()
    stop = threading.Event()
    last = 0

    def complete() -> None:
        nonlocal last
        while not stop.is_set():
            if todo:
                todo.pop().complete(PASSED)
                last = next(completed)

    worker = threading.Thread(target=complete, daemon=True)
    worker.start()
    strikes = 0
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        try:
            with struck_after(chance.uniform(1e-6, 3e-4)):
                for _ in range(200):
                    future = JobFuture(owner, JobRecord("a", "true"))
                    todo.append(future)
                    future.result()
        except StruckError:
            strikes += 1
    before = last
    todo.append(JobFuture(owner, JobRecord("a", "true")))
    wait_for(lambda: last > before, "the worker to complete one more")
    stop.set()
    worker.join(5)
    assert not worker.is_alive()
    assert strikes > 100


def test_a_future_forgets_waits_that_gave_up() -> None:
    future = JobFuture(Owner(), JobRecord("a", "true"))
    for _ in range(50):
        future.wait(0)
    assert future._wakers == []


def test_callbacks_of_an_ended_future_are_called_at_once_and_of_others_by_the_owner() -> None:
    owner = Owner()
    future = JobFuture(owner, JobRecord("a", "true"))
    called: list[str] = []
    future.add_done_callback(lambda _: called.append("early"))
    future.complete(PASSED)
    assert (called, owner.delivered) == ([], [future])
    future.call_back()
    future.add_done_callback(lambda _: called.append("late"))
    assert called == ["early", "late"]
    assert owner.seen == [], "a callback alone has not looked"


def test_idle_is_waited_for_until_the_last_has_ended() -> None:
    idle = IdleWatch()
    idle.wait()
    idle.expect(3)
    threading.Timer(0.03, idle.expect, [-1]).start()
    threading.Timer(0.06, idle.expect, [-2]).start()
    idle.wait()
    assert idle.is_idle


def test_a_struck_wait_for_idle_harms_nobody() -> None:
    idle = IdleWatch()
    idle.expect(1)
    with struck_after(0.05), pytest.raises(StruckError):
        idle.wait()
    threading.Timer(0.03, idle.expect, [-1]).start()
    idle.wait()


def test_idle_is_awaited_without_keeping_the_loop() -> None:
    idle = IdleWatch()
    idle.expect(1)

    async def waits() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            for ticks in range(5):  # noqa: B007
                await asyncio.sleep(0)
            idle.expect(-1)

        ticking = asyncio.create_task(tick())
        await idle.wait_async()
        await ticking
        return ticks

    assert asyncio.run(waits()) == 4


def test_a_service_thread_answers_and_raises_and_goes_on() -> None:
    service = ServiceThread("test-service")
    assert service.call(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        service.call(lambda: 1 / 0)
    service.post(lambda: 1 / 0)
    assert service.call(lambda: threading.current_thread().name) == "test-service"
    service.stop()
    with pytest.raises(StateError, match="left its task runner"):
        service.call(lambda: 3)


def test_a_call_that_is_struck_is_done_all_the_same() -> None:
    service = ServiceThread("test-service")
    go = threading.Event()
    done: list[int] = []
    with struck_after(0.05), pytest.raises(StruckError):
        service.call(lambda: done.append(int(go.wait(20))))
    go.set()
    assert service.call(lambda: list(done)) == [1]
    service.stop()


def test_a_reply_is_waited_for_again_after_a_strike_that_came_just_too_late() -> None:
    reply: Reply[int] = Reply()
    reply.give(5)
    assert reply._latch.wait(0), "the latch is passed, and then the exception strikes"
    assert reply.wait() == 5


class FakeRun:
    """A run whose jobs end when they are killed, or never."""

    def __init__(self) -> None:
        self.kills: list[tuple[str, float | None]] = []
        self.forced: list[str] = []
        self.finished = False
        self.gone = threading.Event()
        self.needs_kills = 1
        self.verdict: RunStatus | None = None

    def finish(self) -> None:
        self.finished = True

    def cancel(self, by: str, reason: str, grace_s: float | None) -> None:
        self.kills.append((by, grace_s))
        if len(self.kills) >= self.needs_kills:
            self.gone.set()

    def end(self, verdict: object, ended: object) -> None:
        self.gone.wait(20)
        self.verdict = verdict()  # type: ignore[operator]
        ended()  # type: ignore[operator]

    def force_cancelled(self, message: str) -> None:
        self.forced.append(message)


def ending(run: FakeRun) -> FlowEnd:
    return FlowEnd(
        run,  # type: ignore[arg-type]
        ServiceThread("test-end"),
        lambda reason: None,
        lambda verdict: None,
    )


def test_the_first_strike_kills_gracefully_and_is_raised_when_all_is_done() -> None:
    run = FakeRun()
    end = ending(run)
    with struck_after(0.1), pytest.raises(StruckError):
        end.wait(RunStatus.COMPLETED, None)
    assert (end.is_over, run.finished) == (True, True)
    assert run.kills == [("flow", None)]


def test_a_keyboard_interrupt_that_strikes_makes_the_run_cancelled() -> None:
    run = FakeRun()
    end = ending(run)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    with struck_after(0.1):
        signal.signal(signal.SIGALRM, interrupt)
        with pytest.raises(KeyboardInterrupt):
            end.wait(RunStatus.COMPLETED, None)
    assert run.verdict is RunStatus.CANCELLED
    assert run.forced == ["cancelled: stopped by SIGINT"]


def test_the_second_stop_by_a_signal_kills_at_once() -> None:
    run = FakeRun()
    run.needs_kills = 2
    end = ending(run)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    with struck_after(0.1):
        signal.signal(signal.SIGALRM, interrupt)
        with pytest.raises(KeyboardInterrupt):
            end.cancel(Stop("SIGINT", "stopped by SIGINT", is_cancel=True))
    assert run.kills == [("SIGINT", None), ("SIGINT", 0.0)]


def test_everybody_who_asks_for_the_end_waits_for_the_same_one() -> None:
    run = FakeRun()
    end = ending(run)
    others = [threading.Thread(target=end.wait, args=(RunStatus.COMPLETED, None)) for _ in range(3)]
    for other in others:
        other.start()
    end.cancel(Stop("cancel", "enough", is_cancel=True))
    for other in others:
        other.join(10)
    assert not any(other.is_alive() for other in others)
    assert run.verdict is RunStatus.CANCELLED
    assert len(run.forced) == 1
