"""A run that a person started in a terminal: the run leads, Prefect follows.

No job waits for Prefect.  The run begins at once; a second thread imports Prefect, starts a
server where there is none and opens the flow run, which then watches the run from its own start
on.  Without a server the run goes on, and ``sync`` reports it later.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.run_settings import RunSettings
from flows.run_summary import RunSummary
from flows.session import RunSession
from flows.stop_signals import StopSignals
from observers.base import Observer
from tasks.spec import JobRecord

if TYPE_CHECKING:
    from flows.prefect_thread import PrefectThread

_log = logging.getLogger("holdfast.started")


def run_from_terminal(
    flow_name: str,
    settings: RunSettings,
    jobs: Sequence[JobRecord],
    parameters: Mapping[str, Any],
    *,
    offline: bool = False,
    observers: Sequence[Observer] = (),
) -> RunSummary:
    """Run the jobs as a run of the flow ``flow_name`` and return what became of them.

    The first SIGINT, SIGTERM or SIGHUP ends the run gracefully, the second at once; once the
    jobs have ended it ends the wait for the Prefect server.  With ``offline`` Prefect is not
    imported.  Raises ``InputError`` before anything was started and ``BusyError``.
    """
    settings = replace(settings, parameters=dict(parameters))
    prefect: PrefectThread | None = None
    watching = list(observers)
    if not offline:
        from flows.prefect_thread import PrefectThread

        prefect = PrefectThread(flow_name, settings, parameters)
        watching.append(prefect.reporter)
    session = RunSession(settings, observers=watching)
    session.check(jobs)

    def stop(name: str, again: bool) -> None:
        if prefect is not None and session.is_over:
            prefect.stop_waiting()
        session.stop_by_signal(name, again)

    with StopSignals(stop):
        try:
            session.start(jobs)
            if prefect is not None:
                prefect.start(session)
            session.finish()
            summary = session.wait()
        except BaseException:
            session.close()
            if prefect is not None:
                prefect.abandon()
            raise
        return summary if prefect is None else prefect.finish(summary)
