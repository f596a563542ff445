"""What the body of every flow of ours does: lead a run, or follow one that is led already."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prefect.runtime
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed, Crashed, Failed

from flows.earlier_flow_run import end_earlier_flow_run
from flows.places import deployed_runs_directory, runs_directory
from flows.prefect_private import own_server_pid
from flows.prefect_settings import connection
from flows.run_settings import RunSettings
from flows.run_summary import RunSummary
from flows.session import RunSession
from flows.stop_signals import StopSignals
from observers.prefect_reporter import PrefectReporter
from observers.prefect_state import watch_for_cancel
from tasks.spec import JobRecord
from tasks.status import RunStatus

_log = logging.getLogger("holdfast.flow")


@dataclass(slots=True)
class Led:
    """A run that somebody else leads, and the reporter that watches it already."""

    session: RunSession
    reporter: PrefectReporter
    ephemeral: bool = False
    """Whether the server ends with this process."""
    unreported: int = 0


_led: ContextVar[Led | None] = ContextVar("holdfast_led", default=None)


@contextlib.contextmanager
def led_by(led: Led) -> Iterator[None]:
    """Have the flows that are called meanwhile follow this run instead of starting one."""
    token = _led.set(led)
    try:
        yield
    finally:
        _led.reset(token)


def led_run() -> Led | None:
    """Return the run that the flow is to follow; ``None`` if it has to lead its own."""
    return _led.get()


def follow(led: Led) -> State[Any]:
    """Report the run to this flow run until it has ended; return the flow run's state."""
    stop_watching = _attach(led)
    summary = led.session.wait()
    stop_watching.set()
    led.unreported = led.reporter.finish(led.session.settings.report_wait_s)
    return state_of(summary)


def lead(settings: RunSettings, jobs: Sequence[JobRecord]) -> tuple[RunSummary, State[Any]]:
    """Run the jobs as this flow run; return what became of them and the flow run's state.

    Stop signals end the run gracefully where the flow runs in the main thread.  Raises
    ``InputError`` before anything was started, ``BusyError`` where another run holds the name.
    """
    reporter = PrefectReporter(limit=settings.report_limit)
    session = RunSession(settings, observers=[reporter])
    session.check(jobs)
    with StopSignals(session.stop_by_signal):
        try:
            session.start(jobs)
            _rename_flow_run(session.run)
            stop_watching = _attach(Led(session, reporter))
            session.finish()
            summary = session.wait()
            stop_watching.set()
            reporter.finish(settings.report_wait_s)
        finally:
            session.close()
    return summary, state_of(summary)


def runs_of_flow() -> Path:
    """Return the folder of run directories for this flow run.

    Raises ``InputError`` for a deployed one that has no absolute folder.
    """
    deployed = prefect.runtime.deployment.id is not None
    return deployed_runs_directory() if deployed else runs_directory()


def state_of(summary: RunSummary) -> State[Any]:
    """Return the flow run's final state for the end of its run."""
    data = summary.to_json()
    message = f"{summary.run}: " + ", ".join(
        f"{count} {name}" for name, count in summary.counts.items() if count
    )
    if summary.status is RunStatus.COMPLETED:
        return Completed(message=message, data=data)
    if summary.status is RunStatus.CANCELLED:
        return Cancelled(message=f"{message}; stopped by {summary.stopped_by}", data=data)
    if summary.status is RunStatus.CRASHED:
        return Crashed(message=summary.error or message, data=data)
    return Failed(message=message, data=data)


def _attach(led: Led) -> threading.Event:
    """Report the session to this flow run and obey its cancel; set the event to stop watching."""
    flow_run_id = str(prefect.runtime.flow_run.id)
    api_url, headers, verify = connection(_api_url())
    if get_current_settings().api.url is None:
        # Prefect has started a server of its own; a flow that is killed would leave it behind.
        led.ephemeral = True
        server = own_server_pid()
        if server is not None:
            led.session.add_ward(server)
    led.session.note_flow_run(flow_run_id, api_url, ephemeral=led.ephemeral)
    led.reporter.attach(
        flow_run_id,
        api_url,
        headers,
        directory=led.session.directory,
        verify=verify,
        ephemeral=led.ephemeral,
    )
    earlier = led.session.earlier_flow_run_id
    if earlier is not None:
        end_earlier_flow_run(earlier, flow_run_id, api_url, headers, verify)
    over = threading.Event()

    def watch() -> None:
        state = watch_for_cancel(api_url, headers, flow_run_id, over, verify=verify)
        if state is not None:
            led.session.cancel("Prefect", "cancelled in Prefect")

    threading.Thread(target=watch, name="holdfast-cancel-watch", daemon=True).start()
    return over


def _api_url() -> str:
    """Return where the flow's own engine speaks to Prefect, a server of its own included."""
    context = FlowRunContext.get()
    assert context is not None, "a flow's body outside of a flow run; this is a bug"
    return str(context.client.api_url)


def _rename_flow_run(name: str) -> None:
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(prefect.runtime.flow_run.id, name)
    except Exception as error:  # noqa: BLE001 - a name is never worth a run
        _log.warning("the flow run keeps its own name: %s", error)
