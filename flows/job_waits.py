"""What a job waits for, read from ``wait_for``: other jobs, other tasks, what has ended already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import allow_failure, quote
from prefect.utilities.collections import StopVisiting, visit_collection

from flows.futures import JobFuture


@dataclass(slots=True)
class JobWaits:
    """Futures that a job waits for, each once, in the order in which they were given."""

    jobs: dict[JobFuture, None] = field(default_factory=dict)
    """Jobs that must pass."""
    others: dict[PrefectFuture[Any], bool] = field(default_factory=dict)
    """Other tasks, and jobs that may fail; the value tells whether they may."""
    failed: str = ""
    """In words, a task that has failed already; empty if there is none."""


def read_waits(wait_for: Any) -> JobWaits:
    """Find futures and states in ``wait_for``: one of them, or any nesting of collections.

    ``allow_failure(future)`` is waited for, whatever becomes of it; what is in ``quote`` is not
    looked at; other values are results of what has ended and are not waited for.
    """
    waits = JobWaits()
    if wait_for is None:
        return waits
    if isinstance(wait_for, Iterator) and not isinstance(wait_for, Sequence):
        wait_for = list(wait_for)

    def visit(value: Any, context: dict[str, Any]) -> Any:
        annotation = context.get("annotation")
        if isinstance(annotation, quote):
            raise StopVisiting
        may_fail = isinstance(annotation, allow_failure)
        if isinstance(value, JobFuture) and not may_fail:
            waits.jobs[value] = None
        elif isinstance(value, PrefectFuture):
            waits.others[value] = may_fail
        elif isinstance(value, State) and not may_stand(value, may_fail=may_fail):
            waits.failed = waits.failed or in_words(value)
        return value

    visit_collection(wait_for, visit_fn=visit, return_data=False, context={})
    return waits


def may_stand(state: State[Any], *, may_fail: bool) -> bool:
    """Whether what depends on a task in this state may start, as Prefect sees it."""
    if state.is_completed():
        return True
    not_ready = state.is_pending() and state.name == "NotReady"
    return may_fail and (state.is_failed() or not_ready)


def in_words(state: State[Any]) -> str:
    """Tell which task run is in which state."""
    run = state.state_details.task_run_id
    name = f"task run {run}" if run is not None else "a task"
    return f"{name} ended in state {state.name}"
