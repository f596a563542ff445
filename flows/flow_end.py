"""How the run of a flow run comes to its end, whatever strikes on the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from flows.flow_run_session import FlowRunSession
from flows.prefect_private import supervisor_decides
from flows.run_summary import RunSummary
from flows.service_thread import Reply, ServiceThread
from flows.stops import Stop, stop_by
from tasks.status import RunStatus

_log = logging.getLogger("holdfast.task_runner")

_PATIENCE_IN_STRIKES = 3


class FlowEnd:
    """Ends a run once; everybody who asks for the end waits for the same one.

    ``give_up`` is called in the service thread with the reason when no more jobs can come, and
    ``over`` when everything has ended.
    """

    def __init__(
        self,
        run: FlowRunSession,
        service: ServiceThread,
        give_up: Callable[[str], None],
        over: Callable[[RunStatus], None],
    ) -> None:
        self._run = run
        self._service = service
        self._give_up = give_up
        self._on_over = over
        self._verdict: RunStatus | None = None
        self._replies: list[Reply[None]] = []
        self._forced = False
        self.stop: Stop | None = None
        """Why the jobs were killed, first reason first; ``None`` while they are not."""
        self.cancelled = ""
        """Why the flow run is to end Cancelled, whatever the flow says; empty if it is not."""
        self.is_over = False
        """Whether no process of the run is left and all of it is written."""
        self.summary: RunSummary | None = None
        """What became of the run; ``None`` before its end, or if there was none."""

    @property
    def has_begun(self) -> bool:
        """Whether no job can be added any more."""
        return self._verdict is not None

    def cancel(self, stop: Stop) -> None:
        """Kill every job; when the last process is gone, force the flow run into Cancelled.

        Returns then.  Where Prefect's supervisor will run the flow run again, its state stays.
        """
        self.wait(RunStatus.CANCELLED, stop)
        if not self.cancelled:
            self._note_cancel(stop)
        if self.cancelled and not self._forced:
            self._force()

    def wait(self, verdict: RunStatus, stop: Stop | None) -> None:
        """End the run, with ``stop`` by killing what runs, and wait until nothing is left.

        The first exception that strikes the wait kills the jobs gracefully, the second (the
        first, where a signal is why they are being killed) at once, the third is let through.
        The others are raised when all is done, the first of them.
        """
        if self.is_over:
            return
        reply: Reply[None] = Reply()
        self._service.post(lambda: self._begin(verdict, stop, reply))
        strikes: list[BaseException] = []
        while not reply.answered:
            try:
                reply.wait_for_it()
            except BaseException as error:
                strikes.append(error)
                if len(strikes) == _PATIENCE_IN_STRIKES:
                    raise
                self._service.post(partial(self._strike, stop_by(error)))
        reply.wait()
        if strikes:
            raise strikes[0]

    def cancel_from_outside(self, stop: Stop) -> None:
        """The run is being cancelled by another way than the flow; to be called in its thread."""
        if self.stop is None and not self.is_over:
            self.stop = stop
            self._note_cancel(stop)
            self._begin(RunStatus.CANCELLED, None, Reply())

    # -- in the service thread -------------------------------------------------------------

    def _begin(self, verdict: RunStatus, stop: Stop | None, reply: Reply[None]) -> None:
        if self.is_over:
            reply.give(None)
            return
        self._replies.append(reply)
        if stop is not None:
            self._kill(stop)
        if self.has_begun:
            return
        self._verdict = verdict
        self._give_up(self.stop.reason if self.stop is not None else "the flow is over")
        self._run.finish()
        threading.Thread(target=self._finish, name="holdfast-end", daemon=True).start()

    def _kill(self, stop: Stop) -> None:
        self.stop = self.stop or stop
        if stop.is_cancel:
            self._note_cancel(stop)
        self._run.cancel(stop.by, stop.reason, stop.grace_s)

    def _strike(self, stop: Stop) -> None:
        """An exception came while the run was being ended."""
        if self.stop is not None and self.stop.is_cancel:
            stop = replace(stop, reason=f"{stop.by} came again: killing at once", grace_s=0.0)
        elif stop.is_cancel:
            self.stop = stop  # from now on it is this that kills the jobs
        self._kill(stop)

    def _note_cancel(self, stop: Stop) -> None:
        if not supervisor_decides():
            self.cancelled = self.cancelled or f"cancelled: {stop.reason}"

    # -- in a thread of its own, so that a second stop gets through ------------------------

    def _finish(self) -> None:
        failure: BaseException | None = None
        try:
            self.summary = self._run.end(self._final_verdict, self._force_if_cancelled)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the end must hear it
            _log.exception("the run could not be ended")
            failure = error
        self._service.post(lambda: self._end(failure))

    def _final_verdict(self) -> RunStatus:
        return RunStatus.CANCELLED if self.cancelled else self._verdict or RunStatus.CRASHED

    def _force_if_cancelled(self) -> None:
        if self.cancelled:
            self._force()

    def _force(self) -> None:
        self._forced = True
        self._run.force_cancelled(self.cancelled)

    def _end(self, failure: BaseException | None) -> None:
        self.is_over = True
        self._on_over(self._final_verdict())
        for reply in self._replies:
            if failure is None:
                reply.give(None)
            else:
                reply.fail(failure)
        self._replies.clear()
