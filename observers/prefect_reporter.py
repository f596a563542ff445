"""Tells a Prefect server about a run, without any job ever waiting for it.

The reporter is a function of the journal, the list of jobs and a cursor, all on disk: the hooks
only wake its thread, which reads what was written.  So it may be attached late, lose its server
for a while, or die with the driver; whoever comes next goes on from the cursor, and ``sync``
sends what is missing after the fact.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from observers.base import Observer
from observers.prefect_api import PrefectConnection
from observers.report_plan import REPORT_LIMIT
from observers.run_report import ReportStatus, RunReport
from tasks.events import JobChanged, RunEnded, RunStarted
from tasks.spec import JobRecord

_log = logging.getLogger("holdfast.reporter")

PASS_S = 0.5
"""The journal is looked at at most so often, however busy the run is."""
CLOSE_S = 2.0
WAIT_S = 10.0
_LOOK_S = 0.25


class PrefectReporter(Observer):
    """Reports the run whose journal lies in ``directory``; comes after the journal.

    Does nothing, and costs nothing, before ``attach``.  Its thread is a daemon and keeps no
    process alive; it raises into nobody's way: what it cannot do is logged.
    """

    remembers: ClassVar[bool] = True

    def __init__(self, directory: Path | None = None, *, limit: int = REPORT_LIMIT) -> None:
        self._directory = directory
        self._limit = limit
        self._flow_run_id = ""
        self._connection: PrefectConnection | None = None
        self._ephemeral = False
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._skip = threading.Event()
        self._stopping = False
        # Guards the two below, which the thread writes and ``finish`` reads.
        self._progress = threading.Condition()
        self._status = ReportStatus(0, 0, 0)
        self._caught_up = False
        self.cpu_s = 0.0
        """Processor time that the report has cost this process so far."""
        self.steps = 0
        """How often the thread was up."""

    @property
    def name(self) -> str:
        """How messages call this observer."""
        return "Prefect reporter"

    @property
    def status(self) -> ReportStatus:
        """How far the report has come."""
        return self._status

    @property
    def is_attached(self) -> bool:
        """Whether there is a server to report to."""
        return self._thread is not None

    def attach(
        self,
        flow_run_id: str,
        api_url: str,
        headers: Mapping[str, str] | None = None,
        *,
        directory: Path | None = None,
        verify: bool | str = True,
        ephemeral: bool = False,
    ) -> None:
        """Report to this flow run on this server from now on, and all that was before.

        ``headers`` carry the authorization.  ``verify``: ``False`` takes any certificate, a path
        names those to trust.  ``ephemeral``: the server ends with this process, so ``finish``
        must wait for it.  Returns at once.  Raises ``RuntimeError`` when called twice or without
        a directory.
        """
        if directory is not None:
            self._directory = directory
        if self._directory is None or self._thread is not None:
            raise RuntimeError("a reporter is attached once, to a run with a directory")
        self._flow_run_id = flow_run_id
        self._connection = PrefectConnection(api_url, dict(headers or {}), verify)
        self._ephemeral = ephemeral
        self._thread = threading.Thread(target=self._report, name="prefect-reporter", daemon=True)
        self._thread.start()

    # -- the run's side: wake the thread, nothing else -------------------------------------------

    def run_started(self, event: RunStarted) -> None:
        """Wake the thread."""
        self._wake.set()

    def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
        """Wake the thread."""
        self._wake.set()

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Wake the thread."""
        self._wake.set()

    def run_ended(self, event: RunEnded) -> None:
        """Wake the thread."""
        self._wake.set()

    def finish(self, wait_s: float = WAIT_S) -> int:
        """The run has ended: wait until the server has all of it, at most ``wait_s``.

        An ephemeral server loses what it has not stored, so there the waiting goes on as long as
        task runs still arrive, and ends ``wait_s`` after the last one.  ``skip``, also a
        KeyboardInterrupt, ends it.  Returns how many task runs are missing on the server, having
        logged how to send them.  0 without a server.
        """
        if self._thread is None:
            return 0
        self._hurry.set()
        self._wake.set()
        try:
            self._wait_for_arrival(wait_s)
        except KeyboardInterrupt:
            self.skip()
        missing = self._status.unconfirmed
        if missing and self._directory is not None and self._connection is not None:
            _log.warning(
                "%d of %d task runs have not arrived on the Prefect server at %s; send them with: "
                "python -m flows.run sync %s",
                missing,
                self._status.task_runs,
                self._connection.api_url,
                self._directory.name,
            )
        return missing

    def skip(self) -> None:
        """Have ``finish`` return now.  Safe to call from a signal handler."""
        self._skip.set()

    def close(self) -> None:
        """End the thread; what it holds is on disk.  Idempotent."""
        self._stopping = True
        self._hurry.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)

    def _wait_for_arrival(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        arrived = self._status.arrived
        while not self._skip.is_set():
            with self._progress:
                status, caught_up = self._status, self._caught_up
                if caught_up and not status.unconfirmed:
                    return
                now = time.monotonic()
                if self._ephemeral and status.arrived > arrived:
                    arrived = status.arrived
                    deadline = now + wait_s
                if now >= deadline:
                    return
                # Short, since ``skip`` may come from a signal handler and cannot notify.
                self._progress.wait(min(_LOOK_S, deadline - now))

    # -- the thread's side ---------------------------------------------------------------------

    def _report(self) -> None:
        try:
            self._report_until_stopped()
        except Exception:  # noqa: BLE001 - a report is never worth a run
            _log.exception("the report to Prefect was given up; the run goes on without it")
        finally:
            with self._progress:
                self._caught_up = True
                self._progress.notify_all()

    def _report_until_stopped(self) -> None:
        if self._directory is None or self._connection is None:
            raise RuntimeError("the thread runs before attach; this is a bug")
        report = RunReport(self._directory, self._flow_run_id, self._connection, limit=self._limit)
        try:
            while not self._stopping:
                self._wake.clear()
                hurry = self._hurry.is_set()
                report.step(hurry=hurry)
                self._show(report.status, hurry)
                self._pause(report.wait_s())
        finally:
            report.close()

    def _show(self, status: ReportStatus, caught_up: bool) -> None:
        self.steps += 1
        self.cpu_s = time.thread_time()
        with self._progress:
            self._status, self._caught_up = status, caught_up
            self._progress.notify_all()

    def _pause(self, wait_s: float | None) -> None:
        """Wait for news or until the next step is due, and in any case for a moment."""
        begin = time.monotonic()
        self._hurry.wait(PASS_S)
        if wait_s is not None:
            wait_s = max(0.0, wait_s - (time.monotonic() - begin))
        self._wake.wait(wait_s)
