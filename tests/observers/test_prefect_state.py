"""Reading, watching and forcing the state of a flow run on a real Prefect server."""

from __future__ import annotations

import threading
import time

import pytest
from support.prefect_server import PrefectServer

from observers.prefect_api import PrefectApi, PrefectConnection, PrefectError, ServerAway
from observers.prefect_state import (
    RUN_STATES,
    FlowRunState,
    flow_run_state,
    force_flow_run_state,
    watch_for_cancel,
)
from tasks.status import RunStatus

pytestmark = pytest.mark.prefect

UNKNOWN = "6c7b2a3e-6e4c-4a36-9d1e-0f8a6f1f2b11"


def test_a_flow_run_s_state_is_read_as_the_server_has_it(prefect_server: PrefectServer) -> None:
    flow_run = prefect_server.new_flow_run()
    state = flow_run_state(prefect_server.api_url, None, flow_run)
    assert state is not None
    assert (state.type, state.name, state.is_end, state.is_cancel) == (
        "RUNNING",
        "Running",
        False,
        False,
    )


def test_a_flow_run_that_the_server_does_not_have_has_no_state(
    prefect_server: PrefectServer,
) -> None:
    assert flow_run_state(prefect_server.api_url, None, UNKNOWN) is None


def test_a_flow_run_is_found_by_its_name(prefect_server: PrefectServer) -> None:
    flow_run = prefect_server.new_flow_run()
    name = prefect_server.ask("GET", f"/flow_runs/{flow_run}")["name"]
    api = PrefectApi(PrefectConnection(prefect_server.api_url))
    assert api.flow_run_called(name) == flow_run
    assert api.flow_run_called("nobody") is None
    api.close()


@pytest.mark.parametrize("status", [status for status in RunStatus if status.is_end])
@pytest.mark.parametrize("before", ["RUNNING", "CANCELLING", "COMPLETED"])
def test_every_end_of_a_run_can_be_forced_whatever_the_flow_run_s_state_is(
    prefect_server: PrefectServer, status: RunStatus, before: str
) -> None:
    flow_run = prefect_server.new_flow_run(before)
    state = RUN_STATES[status]
    force_flow_run_state(prefect_server.api_url, None, flow_run, *state, "why: \x1b[31mthat\x00")
    assert prefect_server.flow_run_state(flow_run) == (state.type, state.name, "why: that�")


def test_forcing_a_flow_run_that_is_not_there_is_refused(prefect_server: PrefectServer) -> None:
    with pytest.raises(PrefectError, match="404"):
        force_flow_run_state(prefect_server.api_url, None, UNKNOWN, "CRASHED", "Crashed")


def test_an_id_that_is_none_never_reaches_the_server(prefect_server: PrefectServer) -> None:
    with pytest.raises(ValueError, match="UUID"):
        flow_run_state(prefect_server.api_url, None, "../admin/version")


class Watching:
    """A watcher in a thread of its own."""

    def __init__(self, api_url: str, flow_run_id: str) -> None:
        self.stop = threading.Event()
        self.seen: list[FlowRunState | None] = []

        def watch() -> None:
            self.seen.append(watch_for_cancel(api_url, None, flow_run_id, self.stop, every_s=0.1))

        self.thread = threading.Thread(target=watch)
        self.thread.start()

    def join(self) -> FlowRunState | None:
        self.thread.join(30)
        assert not self.thread.is_alive()
        [seen] = self.seen
        return seen


@pytest.mark.parametrize("state", ["CANCELLING", "CANCELLED"])
def test_a_watcher_returns_when_somebody_cancels_the_flow_run(
    prefect_server: PrefectServer, state: str
) -> None:
    flow_run = prefect_server.new_flow_run()
    watching = Watching(prefect_server.api_url, flow_run)
    force_flow_run_state(prefect_server.api_url, None, flow_run, state, state.title(), "by hand")
    seen = watching.join()
    assert seen is not None
    assert (seen.type, seen.message) == (state, "by hand")


def test_a_watcher_stops_at_once_when_it_is_told_to(prefect_server: PrefectServer) -> None:
    watching = Watching(prefect_server.api_url, prefect_server.new_flow_run())
    begin = time.monotonic()
    watching.stop.set()
    assert watching.join() is None
    assert time.monotonic() - begin < 5.0


def test_a_watcher_ends_when_the_flow_run_was_deleted(prefect_server: PrefectServer) -> None:
    flow_run = prefect_server.new_flow_run()
    watching = Watching(prefect_server.api_url, flow_run)
    prefect_server.client.delete(f"/flow_runs/{flow_run}").raise_for_status()
    assert watching.join() is None


def test_a_watcher_asks_on_through_an_outage(prefect_server: PrefectServer) -> None:
    flow_run = prefect_server.new_flow_run()
    prefect_server.kill()
    try:
        with pytest.raises(ServerAway):
            flow_run_state(prefect_server.api_url, None, flow_run)
        watching = Watching(prefect_server.api_url, flow_run)
    finally:
        prefect_server.start()
    force_flow_run_state(prefect_server.api_url, None, flow_run, "CANCELLING", "Cancelling")
    seen = watching.join()
    assert seen is not None
    assert seen.is_cancel
