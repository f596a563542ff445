"""Sends reports to the server and finds out which of them have arrived.

A Prefect server takes any list of events with a 2xx answer and then drops what does not fit its
queue; one that ends loses its queue.  So what was sent is not what is there: at most ``WINDOW``
task runs are under way, and each counts as arrived only when the server counts it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from observers.prefect_api import PrefectApi, RequestRefused
from observers.prefect_events import (
    END_TYPES,
    QUEUED_OR_LATER,
    EventBuilder,
    Stage,
    TaskRunReport,
)
from observers.report_plan import BATCH
from tasks.events import iso_utc

_log = logging.getLogger("holdfast.reporter")

WINDOW = 2_000
"""Task runs that may be under way: the server's queue holds 10,000 events, and is shared."""

STALL_S = 8.0
"""Without an arrival for so long, what is under way is sent again; then twice that, and so on.

The server's recorder writes what it holds at least every 5 s.
"""

_LONGEST_STALL_S = 120.0
_LIST_BYTES = 1 << 21
_FEW = 32


class _Batch:
    """Reports of one stage that went out together."""

    __slots__ = ("arrived", "ids", "reports", "sendings", "stage")

    def __init__(self, reports: list[TaskRunReport], ids: dict[str, None], sendings: int) -> None:
        self.stage = reports[0].stage
        self.reports = reports
        self.ids = ids
        self.sendings = sendings
        self.arrived = 0

    @property
    def under_way(self) -> int:
        return len(self.ids) - self.arrived


class ReportSender:
    """For one flow run and one thread.  Methods raise ``ServerAway`` or ``RequestRefused``.

    After such an error nothing is lost: call ``post`` again when the server may be back.
    """

    def __init__(self, api: PrefectApi, flow_run_id: str) -> None:
        self._api = api
        self._events = EventBuilder(flow_run_id)
        self.run_started_at = 0.0
        """Ends from before (an earlier attempt of the same flow run) are not this run's."""
        self.sent = 0
        """Events that the server took."""
        self.arrived = 0
        """Task runs that were found to have come as far as they were sent."""
        self._to_post: deque[_Batch] = deque()
        self._under_way: deque[_Batch] = deque()
        self._progress_at = 0.0
        self._stall_s = STALL_S
        self._complained = False

    @property
    def room(self) -> int:
        """How many more task runs may be sent now."""
        batches = (*self._to_post, *self._under_way)
        return WINDOW - sum(batch.under_way for batch in batches)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be posted or to arrive."""
        return not self._to_post and not self._under_way

    @property
    def oldest_under_way(self) -> int:
        """How many of the list that was sent first have not arrived."""
        return self._under_way[0].under_way if self._under_way else 0

    def send(self, reports: Sequence[TaskRunReport], now: float) -> None:
        """Post these reports, which are all of one stage, or keep them for the next ``post``."""
        self.keep(reports)
        self.post(now)

    def keep(self, reports: Sequence[TaskRunReport]) -> None:
        """Keep these reports for the next ``post``."""
        for part in _parts_by_size(reports):
            self._to_post.append(_Batch(part, self._ids(part), 0))

    def post(self, now: float) -> None:
        """Post what waits.  ``now`` is monotonic."""
        while self._to_post:
            batch = self._to_post[0]
            events = [self._events.event(report, batch.sendings) for report in batch.reports]
            try:
                self._api.post_events(events)
            except RequestRefused as refused:
                if not refused.is_about_content:
                    raise
                self._to_post.popleft()
                self._halve(batch, refused)
                continue
            self._to_post.popleft()
            self.sent += len(events)
            self._posted(batch, now)

    def confirm(self, now: float) -> list[TaskRunReport]:
        """Ask what has arrived and return the ends among it.  ``now`` is monotonic."""
        arrived: list[TaskRunReport] = []
        while self._under_way:
            batch = self._under_way[0]
            count = self._api.count_task_runs(self._filter(batch.stage, batch.ids))
            if count > batch.arrived:
                self.arrived += count - batch.arrived
                batch.arrived = count
                self._progressed(now)
            if batch.under_way > 0:
                break
            self._under_way.popleft()
            arrived += _ends(batch)
        if self._under_way and now - self._progress_at > self._stall_s:
            arrived += self._stalled(now)
        return arrived

    def missing_of(self, reports: list[TaskRunReport]) -> list[TaskRunReport]:
        """Return those of the reports, all of one stage, that the server has not got."""
        if not reports:
            return []
        ids = self._ids(reports)
        count = self._api.count_task_runs(self._filter(reports[0].stage, ids))
        if count >= len(ids):
            return []
        if count == 0 or len(reports) <= _FEW:
            return reports
        half = len(reports) // 2
        return self.missing_of(reports[:half]) + self.missing_of(reports[half:])

    def server_is_back(self, now: float) -> None:
        """The server was away, and may have lost its queue: do not wait long to send again."""
        self._progressed(now)

    def _posted(self, batch: _Batch, now: float) -> None:
        if not self._under_way:
            self._progressed(now)
        elif len(self._under_way) > 1:
            last = self._under_way[-1]
            # Small ones are asked about together, but never with the one that is asked about now.
            if (last.stage, last.sendings) == (batch.stage, 0) and not batch.sendings:
                ids = {**last.ids, **batch.ids}
                if len(ids) <= BATCH:
                    last.reports = last.reports + batch.reports
                    last.ids = ids
                    return
        self._under_way.append(batch)

    def _progressed(self, now: float) -> None:
        self._progress_at = now
        self._stall_s = STALL_S

    def _stalled(self, now: float) -> list[TaskRunReport]:
        """Send the oldest batch again as far as it is missing; return its ends that are there."""
        batch = self._under_way.popleft()
        self._progress_at = now
        self._stall_s = min(2 * self._stall_s, _LONGEST_STALL_S)
        if batch.stage is not Stage.ENDED:
            return []  # Its end will tell.
        try:
            missing = self.missing_of(batch.reports)
        except BaseException:
            self._under_way.appendleft(batch)
            raise
        if missing:
            self._to_post.append(_Batch(missing, self._ids(missing), batch.sendings + 1))
        keys = {report.key for report in missing}
        return [report for report in batch.reports if report.key not in keys]

    def _halve(self, batch: _Batch, refused: RequestRefused) -> None:
        """Find the report that the server does not take; the others are not its fault."""
        if len(batch.reports) == 1:
            _log.warning("%r is not reported to Prefect: %s", batch.reports[0].key, refused)
            return
        if not self._complained:
            self._complained = True
            _log.warning("the Prefect server refuses a list of events: %s", refused)
        half = len(batch.reports) // 2
        for part in (batch.reports[half:], batch.reports[:half]):
            self._to_post.appendleft(_Batch(part, self._ids(part), batch.sendings))

    def _ids(self, reports: Sequence[TaskRunReport]) -> dict[str, None]:
        return dict.fromkeys(map(self._events.id_of, reports))

    def _filter(self, stage: Stage, ids: dict[str, None]) -> dict[str, Any]:
        """Return the filter that matches a task run once it has come this far."""
        task_runs: dict[str, Any] = {"id": {"any_": list(ids)}}
        if stage is Stage.ENDED:
            task_runs["state"] = {"type": {"any_": END_TYPES}}
            task_runs["end_time"] = {"after_": iso_utc(self.run_started_at)}
        elif stage is Stage.RUNNING:
            task_runs["start_time"] = {"is_null_": False}
        elif stage is Stage.QUEUED:
            task_runs["state"] = {"name": {"any_": QUEUED_OR_LATER}}
        return task_runs


def _ends(batch: _Batch) -> list[TaskRunReport]:
    return batch.reports if batch.stage is Stage.ENDED else []


def _parts_by_size(reports: Sequence[TaskRunReport]) -> Iterator[list[TaskRunReport]]:
    """Yield the reports in lists that make no request larger than a server may take."""
    part: list[TaskRunReport] = []
    size = 0
    for report in reports:
        bytes_about = 1_500 + 64 * len(report.parents) + 6 * len(report.message)
        if part and size + bytes_about > _LIST_BYTES:
            yield part
            part, size = [], 0
        part.append(report)
        size += bytes_about
    if part:
        yield part
