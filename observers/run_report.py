"""The report of one run directory to one flow run, step by step; whoever calls owns the pace."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import NamedTuple

from observers.prefect_api import PrefectApi, PrefectConnection, PrefectError, ServerAway
from observers.prefect_events import TaskRunReport
from observers.report_cursor import CursorFile, ReportCursor
from observers.report_plan import REPORT_LIMIT, ReportPlan
from observers.report_sender import ReportSender
from observers.report_source import ReportSource
from tasks.clock import Clock, SystemClock

_log = logging.getLogger("holdfast.reporter")

FIRST_CONFIRM_S = 0.25
LONGEST_CONFIRM_S = 2.0
"""What has arrived is asked for when, at the server's pace, the oldest list should have."""

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
HURRIED_RETRY_S = 1.0


class ReportStatus(NamedTuple):
    """How far a report has come."""

    task_runs: int
    """Task runs that the run has on the server when all is told."""
    unconfirmed: int
    """Task runs that have ended and of which the server has not confirmed it."""
    arrived: int
    """Arrivals on the server since this report began; it grows while the server records."""


class RunReport:
    """Reads a run's files, sends what the plan says, asks what arrived, remembers how far it is.

    For one thread.  ``check_first``: ask what the server has before anything is sent, for a
    report that goes on after another process's.  A cursor of the same flow run is continued.
    """

    def __init__(
        self,
        directory: Path,
        flow_run_id: str,
        connection: PrefectConnection,
        *,
        limit: int = REPORT_LIMIT,
        check_first: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._check_first = check_first
        cursor = ReportCursor.read(directory)
        if cursor is None or cursor.flow_run_id != flow_run_id:
            cursor = ReportCursor(flow_run_id, connection.api_url)
        # A report that checks first trusts the server alone.
        confirmed = 0 if check_first else cursor.offset
        self.plan = ReportPlan(limit=limit, singles=cursor.singles)
        self._source = ReportSource(directory, self.plan, confirmed)
        self.api = PrefectApi(connection)
        self.sender = ReportSender(self.api, flow_run_id)
        self._cursor = CursorFile(directory, cursor)
        self._cursor_failed = False
        self._confirm_at = 0.0
        self._confirm_s = FIRST_CONFIRM_S
        self._asked_at = 0.0
        self._away_until = 0.0
        self._retry_s = FIRST_RETRY_S
        self.is_away = False
        """Whether the server did not answer, or refused, when it was last spoken to."""
        self._refusals: set[str] = set()

    def step(self, *, hurry: bool = False) -> None:
        """Do what is to be done now; with ``hurry`` nothing is held back.

        Raises ``OSError`` and ``DamagedFileError`` for the files.
        """
        self._source.read(self._clock.time())
        if hurry:
            self.plan.release()
        self.sender.run_started_at = self.plan.run_started_at
        self._save()
        if self._clock.monotonic() < self._away_until:
            return
        try:
            self._talk()
        except PrefectError as error:
            self._server_failed(error, hurry)
        else:
            self._server_answered()
        self._save()

    def wait_s(self) -> float | None:
        """Return when the next step is due without news from the run; ``None``: it is not."""
        now, monotonic = self._clock.time(), self._clock.monotonic()
        waits: list[float] = []
        if self.is_away:
            waits.append(self._away_until - monotonic)
        else:
            plan_at = self.plan.next_due_at(now)
            if plan_at is not None:
                waits.append(plan_at - now)
            if not self.sender.is_idle:
                waits.append(self._confirm_at - monotonic)
        cursor_at = None if self._cursor_failed else self._cursor.due_at()
        if cursor_at is not None:
            waits.append(cursor_at - monotonic)
        return max(0.0, min(waits)) if waits else None

    @property
    def status(self) -> ReportStatus:
        """How far it has come, as of the last step."""
        return ReportStatus(self.plan.task_runs, self.plan.unconfirmed_ends, self.sender.arrived)

    def close(self) -> None:
        """Write the cursor and let go of files and connections."""
        self._save(flush=True)
        self._source.close()
        self.api.close()

    # -- talking to the server -----------------------------------------------------------------

    def _talk(self) -> None:
        monotonic = self._clock.monotonic()
        self.sender.post(monotonic)
        self._send_due()
        if not self.sender.is_idle and monotonic >= self._confirm_at:
            arrived = self.sender.arrived
            self.plan.confirmed(self.sender.confirm(monotonic))
            self._ask_again(monotonic, self.sender.arrived - arrived)
            self.sender.post(monotonic)
            self._send_due()  # what the confirmed ones made room for

    def _send_due(self) -> None:
        now, monotonic = self._clock.time(), self._clock.monotonic()
        was_idle = self.sender.is_idle
        while reports := self._next_due(now):
            if self._check_first:
                reports = self._unknown_of(reports)
            if reports:
                self.sender.send(reports, monotonic)
        if was_idle and not self.sender.is_idle:
            self._confirm_s = FIRST_CONFIRM_S
            self._asked_at = monotonic
            self._confirm_at = monotonic + FIRST_CONFIRM_S

    def _ask_again(self, monotonic: float, arrived: int) -> None:
        """Choose when to ask next; so many arrived since the last question."""
        if arrived:
            passed_s = monotonic - self._asked_at
            self._confirm_s = passed_s / arrived * self.sender.oldest_under_way
        else:
            self._confirm_s *= 2
        self._confirm_s = min(max(self._confirm_s, FIRST_CONFIRM_S), LONGEST_CONFIRM_S)
        self._asked_at = monotonic
        self._confirm_at = monotonic + self._confirm_s

    def _next_due(self, now: float) -> list[TaskRunReport]:
        room = self.sender.room
        return self.plan.due(now, room) or self.plan.due_waiting(now, room)

    def _unknown_of(self, reports: list[TaskRunReport]) -> list[TaskRunReport]:
        """Return what the server lacks of these; the rest counts as confirmed."""
        try:
            missing = self.sender.missing_of(reports)
        except PrefectError:
            # They count as told, so they must not get lost here: the server may get them twice.
            self.sender.keep(reports)
            raise
        keys = {report.key for report in missing}
        self.plan.confirmed(report for report in reports if report.key not in keys)
        return missing

    def _server_answered(self) -> None:
        self._retry_s = FIRST_RETRY_S
        if self.is_away:
            self.is_away = False
            self.sender.server_is_back(self._clock.monotonic())
            _log.info("the Prefect server answers again; the report goes on")

    def _server_failed(self, error: PrefectError, hurry: bool) -> None:
        """Leave the server alone for a while, longer each time, at most half a minute."""
        pause_s = self._retry_s * random.uniform(0.8, 1.2)  # noqa: S311 - only to spread load
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
        if isinstance(error, ServerAway):
            if error.retry_after_s is not None:
                pause_s = min(max(pause_s, error.retry_after_s), LONGEST_RETRY_S)
            if not self.is_away:
                _log.warning(
                    "the Prefect server does not answer; the run goes on and is reported later: %s",
                    error,
                )
        elif str(error) not in self._refusals:
            self._refusals.add(str(error))
            _log.warning("the Prefect server refuses the report of the run: %s", error)
        self.is_away = True
        self._away_until = self._clock.monotonic() + min(
            pause_s, HURRIED_RETRY_S if hurry else LONGEST_RETRY_S
        )

    # -- remembering ---------------------------------------------------------------------------

    def _save(self, *, flush: bool = False) -> None:
        if self._cursor_failed:
            return
        plan, monotonic = self.plan, self._clock.monotonic()
        try:
            self._cursor.update(
                monotonic,
                offset=plan.confirmed_offset(self._source.offset),
                singles=plan.singles,
                task_runs=plan.task_runs,
                unconfirmed=plan.unconfirmed_ends,
            )
            if flush:
                self._cursor.flush(monotonic)
        except OSError as error:
            # The report itself goes on; the next one starts further back.
            self._cursor_failed = True
            _log.warning("cannot write the report's cursor: %s", error)
