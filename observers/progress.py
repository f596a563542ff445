"""Progress of a run on standard error: where its jobs stand and what it waits for."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TextIO

from observers.base import Observer
from observers.counts import RunCounts
from observers.progress_lines import LineDisplay
from observers.progress_snapshot import Snapshot, ages
from tasks.clock import Clock, SystemClock
from tasks.events import (
    Adopted,
    JobChanged,
    KeeperLost,
    KillRequested,
    ObserverFailed,
    RunEnded,
    RunPaused,
    RunStarted,
    RunUnpaused,
)
from tasks.sanitise import one_line
from tasks.spec import JobRecord
from tasks.status import CauseKind, JobStatus

TERMINAL_INTERVAL_S = 0.5
LINE_INTERVAL_S = 10.0
FIRST_REMINDER_S = 60.0
MAX_FAILURES = 20
"""How many failed jobs are named while the run goes on; the summary and the links name them all."""

_OLDEST = 3
_JOIN_S = 5.0


class Display(Protocol):
    """Where progress is shown."""

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run stands now."""

    def say(self, line: str) -> None:
        """Show one message for good."""

    def open(self) -> None:
        """Begin again after ``close``."""

    def close(self) -> None:
        """Leave the last picture and put everything back.  Idempotent."""


class Progress(Observer):
    """Shows bars on a terminal, else a line whenever something has changed.

    Drawing is done in a thread of its own, at most every ``interval_s`` seconds (0.5 on a
    terminal, and never faster there; 10 elsewhere); 0 writes a line for each change of each job.
    While nothing changes, a terminal is redrawn when an age on it changes, and lines are written
    after one minute, then two, four and so on.  ``stream`` is standard error by default: standard
    output belongs to results.

    A stream that cannot be written to any more switches the display off, not the run.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        interval_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._bars = interval_s != 0 and can_draw_bars(self._stream)
        if interval_s is None:
            interval_s = TERMINAL_INTERVAL_S if self._bars else LINE_INTERVAL_S
        self._interval_s = max(interval_s, TERMINAL_INTERVAL_S) if self._bars else interval_s
        self._each_change = interval_s == 0
        self._clock = SystemClock() if clock is None else clock
        self._lock = threading.Lock()  # counts, messages, note: written here, read by the thread
        self._counts = RunCounts()
        self._messages: deque[str] = deque()
        self._named_failures = 0
        self._run = ""
        self._note = ""
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._suspended = False
        self._resumed = threading.Event()
        self._idle = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def name(self) -> str:
        """How messages call this observer."""
        return "progress"

    def run_started(self, event: RunStarted) -> None:
        """Begin to display."""
        self._run = str(event.contents.get("name", ""))
        self._start()

    def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
        """Count them."""
        with self._lock:
            self._counts.add(jobs)
        self._start()
        self._wake()

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Count them; name the first ones that failed."""
        with self._lock:
            self._counts.change(events)
            if self._each_change:
                self._messages.extend(_change_in_words(event) for event in events)
            else:
                self._name_failures(events)
        self._wake()

    def kill_requested(self, event: KillRequested) -> None:
        """Say who asked for it."""
        if event.jobs is None:
            self._set_note(f"stopping, asked for by {event.by}: {event.reason}")
        else:
            self._say(f"killing {len(event.jobs)} jobs, asked for by {event.by}: {event.reason}")

    def run_paused(self, event: RunPaused) -> None:
        """Say so until it is unpaused."""
        self._set_note(f"paused by {event.by}" if event.by else "paused")

    def run_unpaused(self, event: RunUnpaused) -> None:
        """Take the note away."""
        self._set_note("")

    def keeper_lost(self, event: KeeperLost) -> None:
        """Say so."""
        self._say(f"the keeper died: {event.message}")

    def adopted(self, event: Adopted) -> None:
        """Say how many jobs were taken over."""
        self._say(f"took over {len(event.jobs)} running jobs")

    def observer_failed(self, event: ObserverFailed) -> None:
        """Say which one."""
        self._say(f'observer "{event.observer}" failed and is switched off: {event.error}')

    def run_ended(self, event: RunEnded) -> None:
        """Show the last state and stop."""
        self._note = event.status.value
        self.close()

    def suspend(self) -> None:
        """Leave the terminal to somebody else; returns when nothing more is drawn.

        For interactive jobs and prompts; counting goes on.
        """
        self._idle.clear()
        self._resumed.clear()
        self._suspended = True
        self._changed.set()
        if self._thread is not None:
            self._idle.wait(_JOIN_S)

    def resume(self) -> None:
        """Draw again."""
        self._suspended = False
        self._resumed.set()
        self._changed.set()

    def close(self) -> None:
        """Show the last state, end the thread and give the terminal back.  Idempotent."""
        self._ending.set()
        self._resumed.set()
        self._changed.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_JOIN_S)
            self._raise_error()

    # -- called from the scheduler's thread ----------------------------------------------------

    def _start(self) -> None:
        if self._thread is None and not self._ending.is_set():
            self._thread = threading.Thread(
                target=self._run_display, name="holdfast-progress", daemon=True
            )
            self._thread.start()

    def _wake(self) -> None:
        self._raise_error()
        self._changed.set()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _set_note(self, note: str) -> None:
        self._note = note
        self._wake()

    def _say(self, message: str) -> None:
        with self._lock:
            self._messages.append(one_line(message, 500))
        self._wake()

    def _name_failures(self, events: Sequence[JobChanged]) -> None:
        if self._named_failures > MAX_FAILURES:
            return
        for event in events:
            cause = event.cause
            if cause is None or not event.after.is_end or cause.kind in _NOT_NAMED:
                continue
            self._named_failures += 1
            if self._named_failures > MAX_FAILURES:
                self._messages.append("further failures are not named here; see failed/, killed/")
                return
            self._messages.append(_change_in_words(event))

    # -- the display's own thread --------------------------------------------------------------

    def _run_display(self) -> None:
        try:
            display = self._open_display()
            try:
                self._show_until_the_end(display)
            finally:
                display.close()
        except Exception as error:  # noqa: BLE001 - raised again in the scheduler's thread
            self._error = error
        finally:
            self._idle.set()

    def _show_until_the_end(self, display: Display) -> None:
        shown: Snapshot | None = None
        reminder_s = FIRST_REMINDER_S
        while not self._ending.is_set():
            changed = self._changed.wait(self._patience_s(shown, reminder_s))
            self._changed.clear()
            if self._suspended:
                display.close()
                self._idle.set()
                self._resumed.wait()
                display.open()
            reminder_s = FIRST_REMINDER_S if changed else reminder_s * 2
            shown = self._show(display, shown, remind=not changed)
            self._ending.wait(self._interval_s)
        self._show(display, shown, last=True)

    def _show(
        self, display: Display, shown: Snapshot | None, *, remind: bool = False, last: bool = False
    ) -> Snapshot:
        with self._lock:
            snapshot = self._snapshot()
            messages = list(self._messages)
            self._messages.clear()
        for message in messages:
            display.say(message)
        if last if self._each_change else self._is_news(snapshot, shown, remind=remind):
            display.show(snapshot)
        return snapshot

    def _is_news(self, snapshot: Snapshot, shown: Snapshot | None, *, remind: bool) -> bool:
        if shown is None:
            return snapshot.total.total > 0
        if self._bars:
            return snapshot != shown
        # On paper an age alone is no news, unless nothing else was for long.
        return remind or (snapshot.total, snapshot.note) != (shown.total, shown.note)

    def _patience_s(self, shown: Snapshot | None, reminder_s: float) -> float | None:
        """Return how long nothing need be drawn while nothing changes."""
        if self._each_change or shown is None or not shown.oldest:
            return None
        if not self._bars:
            return reminder_s
        return 1.0 if shown.oldest[-1][1].endswith(" s") else 10.0

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            run=self._run,
            total=self._counts.total,
            groups=[(name, counts.copy()) for name, counts in self._counts.groups.items()],
            oldest=ages(self._counts.oldest_running(_OLDEST), self._clock.time()),
            note=self._note,
        )

    def _open_display(self) -> Display:
        if not self._bars:
            return LineDisplay(self._stream)
        # Imported here: rich takes longer to load than a short job to run.
        from observers.progress_bars import BarDisplay

        return BarDisplay(self._stream)


_NOT_NAMED = frozenset({CauseKind.DEPENDENCY, CauseKind.CANCELLED})
"""What follows from something that is named already."""


def can_draw_bars(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that can move its cursor."""
    try:
        is_terminal = stream.isatty()
    except ValueError:  # closed
        return False
    return is_terminal and os.environ.get("TERM", "") not in ("", "dumb")


def _change_in_words(event: JobChanged) -> str:
    if event.cause is not None:
        text = f"{event.job.id} {event.after.value}: {event.cause.message}"
    elif event.after is JobStatus.RUNNING and event.attempt > 1:
        text = f"{event.job.id} running, attempt {event.attempt}"
    else:
        text = f"{event.job.id} {event.after.value}"
    return one_line(text, 500)
