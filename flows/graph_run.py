"""Runs a job graph to its end: what the command line and the flows have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.run_settings import RunSettings, default_parallelism
from flows.run_summary import RunSummary
from flows.session import RunSession
from flows.stop_signals import StopSignals
from observers.base import Observer
from tasks.dag_file import JobGraph
from tasks.spec import JobRecord


def settings_for(graph: JobGraph, settings: RunSettings) -> RunSettings:
    """Return the settings with what the graph says where a person said nothing."""
    return replace(
        settings,
        name=graph.name,
        cwd=graph.cwd,
        resources={**graph.resources, **settings.resources},
        max_parallel=settings.max_parallel or graph.max_parallel or default_parallelism(),
    )


def run_graph(
    settings: RunSettings,
    jobs: Sequence[JobRecord],
    *,
    observers: Sequence[Observer] = (),
    flow_run_id: str | None = None,
) -> RunSummary:
    """Run the jobs and return what became of them.

    Stop signals end the run gracefully when this is called in the main thread.  Raises
    ``InputError`` before anything was started, ``BusyError`` where another run holds the name.
    """
    session = RunSession(settings, observers=observers, flow_run_id=flow_run_id)
    session.check(jobs)
    with StopSignals(session.stop_by_signal):
        try:
            session.start(jobs)
            session.finish()
            return session.wait()
        finally:
            session.close()


def parameters_of(settings: RunSettings, **more: Any) -> Mapping[str, Any]:
    """Return what ``run.json`` keeps of the way in which a run was started."""
    chosen = {
        "max_parallel": settings.max_parallel,
        "backend": settings.backend,
        "fail_fast": settings.fail_fast,
        "grace_s": settings.grace_s,
        "on_crash": settings.on_crash,
        "resume": settings.resume,
    }
    return {**chosen, **more}
