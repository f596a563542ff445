"""Nothing survives a stop under Prefect: cancelled in its page, killed with it, or by the flow.

Each way of starting a run, with programs that are hard to end.  Whatever the run started is
found by a mark it cannot shed, the path of its executable, or as a descendant of its driver.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.command_line import CommandLine
from support.hard_programs import HARD_PROGRAMS, HardProgram, Marked, marked_program
from support.prefect_server import PrefectServer
from support.prefect_starts import (
    OWN_SERVER_STARTS,
    STARTS,
    Hard,
    Starter,
    UnderPrefect,
    deploy,
    kill,
    seconds_until,
    worker,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(300)]

GRACE_S = 1.0
BUSY_S = 2.0
"""What a machine that runs other tests at the same time may add to the bounds."""
SAMPLE = ("new-session", "ignores-sigterm")
PROGRAMS = {str(program): program for program in HARD_PROGRAMS}


def cases(*starts: str, sample: tuple[str, ...] = SAMPLE) -> Iterator[Any]:
    """Every program with every start; all but the sample for ``make soak``."""
    for start in starts:
        for name, program in PROGRAMS.items():
            marks = () if name in sample else (pytest.mark.soak,)
            yield pytest.param(start, program, id=f"{start}-{name}", marks=marks)


@pytest.fixture(scope="module")
def deployed(
    prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> PrefectServer:
    """The server with the pool and the deployment of prefect.yaml."""
    deploy(prefect_server, tmp_path_factory.mktemp("deployed"))
    return prefect_server


@pytest.fixture(scope="module")
def pool_worker(
    deployed: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A worker for all tests that leave it alive."""
    with worker(deployed, tmp_path_factory.mktemp("worker")):
        yield


@pytest.fixture
def starter(tmp_path: Path, prefect_server: PrefectServer) -> Iterator[Starter]:
    cli = CommandLine(tmp_path, {"PREFECT_API_URL": prefect_server.api_url})
    starter = Starter(cli, prefect_server)
    yield starter
    starter.end()


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Marked]:
    with marked_program(tmp_path) as marked:
        yield marked


def begin(
    request: pytest.FixtureRequest, starter: Starter, start: str, hard: Hard
) -> tuple[UnderPrefect, list[psutil.Process]]:
    if start == "worker":
        request.getfixturevalue("pool_worker")
    under = STARTS[start](starter, hard)
    return under, under.family()


def assert_all_gone(family: list[psutil.Process], under: UnderPrefect) -> None:
    """No process that the run started is alive: driver, keeper, server, helpers."""
    if under.process is not None:
        under.process.communicate(timeout=30)
    alive = psutil.wait_procs(family, timeout=30)[1]
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    assert under.hard.marked.gone()


@pytest.mark.parametrize(("start", "program"), list(cases(*STARTS)))
def test_a_cancel_in_the_page_leaves_nothing(
    start: str,
    program: HardProgram,
    request: pytest.FixtureRequest,
    starter: Starter,
    marked: Marked,
) -> None:
    """Sabotage: observers/prefect_state.py: if state is None or state.is_cancel: -> if False:"""
    under, family = begin(request, starter, start, Hard(marked, program, GRACE_S))
    since = time.monotonic()
    under.cancel_in_the_ui()
    grace_s = 0 if program.obeys_sigterm else GRACE_S
    seconds_until(marked.gone, "the end of the job", since, grace_s + 3 + BUSY_S)
    seconds_until(lambda: under.state() == "CANCELLED", "Cancelled", since, GRACE_S + 6 + BUSY_S)
    assert_all_gone(family, under)
    wait_for(lambda: under.run.file()["status"] == "cancelled", "the end of the run")
    assert under.run.statuses() == {"hard": "killed"}
    assert under.state() == "CANCELLED"


@pytest.mark.soak
@pytest.mark.parametrize("start", list(STARTS))
def test_a_grace_above_what_prefect_waits_is_kept(
    start: str, request: pytest.FixtureRequest, starter: Starter, marked: Marked
) -> None:
    """Prefect kills a worker's flow process 30 s after the cancel; the keeper goes on."""
    grace_s = 36.0
    hard = Hard(marked, PROGRAMS["ignores-sigterm"], grace_s)
    under, family = begin(request, starter, start, hard)
    since = time.monotonic()
    under.cancel_in_the_ui()
    took_s = seconds_until(marked.gone, "the end of the job", since, grace_s + 3 + BUSY_S)
    assert took_s >= grace_s - 1, "the job was not given its grace"
    seconds_until(lambda: under.state() == "CANCELLED", "Cancelled", since, grace_s + 6 + BUSY_S)
    assert_all_gone(family, under)
    wait_for(lambda: under.run.file()["status"] == "cancelled", "the end of the run", 30)
    assert under.run.statuses() == {"hard": "killed"}
    assert under.state() == "CANCELLED"


@pytest.mark.parametrize(("start", "program"), list(cases(*STARTS, sample=("ignores-sigterm",))))
def test_kill_9_of_the_driver_leaves_nothing_and_prefect_says_crashed(
    start: str,
    program: HardProgram,
    request: pytest.FixtureRequest,
    starter: Starter,
    marked: Marked,
) -> None:
    """Sabotage: backends/keeper/loop.py: self._end("the driver died", "driver_lost") -> None"""
    under, family = begin(request, starter, start, Hard(marked, program, GRACE_S))
    since = time.monotonic()
    kill(under.driver_pid)
    grace_s = 0 if program.obeys_sigterm else GRACE_S
    seconds_until(marked.gone, "the end of the job", since, grace_s + 3 + BUSY_S)
    seconds_until(lambda: under.state() == "CRASHED", "Crashed", since, GRACE_S + 10 + BUSY_S)
    assert_all_gone(family, under)
    wait_for(lambda: under.run.file()["status"] == "crashed", "the run to be settled")
    assert under.run.links()["killed"] == {"hard"}


@pytest.mark.parametrize("victims", ["worker", "worker-and-flow"])
def test_kill_9_of_a_worker_leaves_nothing_that_cannot_be_cancelled(
    victims: str,
    deployed: PrefectServer,
    starter: Starter,
    marked: Marked,
    tmp_path: Path,
) -> None:
    """Prefect lets a flow outlive its worker: the run goes on and obeys a cancel all the same.

    Sabotage: flows/flow_body.py: if state is not None: -> if state is None:
    """
    with worker(deployed, tmp_path) as process:
        under = starter.worker(Hard(marked, PROGRAMS["ignores-sigterm"], GRACE_S))
        family = under.family()
        if victims == "worker":
            process.kill()
            process.wait()
            assert len(marked.pids()) == 3
            since = time.monotonic()
            under.cancel_in_the_ui()
            expected = "CANCELLED"
        else:
            since = time.monotonic()
            process.kill()
            kill(under.driver_pid)
            process.wait()
            expected = "CRASHED"
    seconds_until(marked.gone, "the end of the job", since, GRACE_S + 3 + BUSY_S)
    seconds_until(lambda: under.state() == expected, expected, since, GRACE_S + 10 + BUSY_S)
    assert_all_gone(family, under)


@pytest.mark.parametrize(("start", "program"), list(cases("script", sample=("forks-on-sigterm",))))
def test_a_flow_that_raises_takes_its_jobs_along(
    start: str, program: HardProgram, starter: Starter, marked: Marked
) -> None:
    """Sabotage: flows/stops.py: if error is not None: -> if False:"""
    under = starter.script(Hard(marked, program, GRACE_S), "raise")
    family = under.family()
    since = time.monotonic()
    assert under.process is not None
    out, _ = under.process.communicate("raise now\n", timeout=60)
    assert time.monotonic() - since <= GRACE_S + 6 + BUSY_S
    assert "the flow raised" in out
    assert_all_gone(family, under)
    assert under.state() == "FAILED"
    assert under.run.file()["status"] == "failed"


def test_a_flow_that_exceeds_its_time_takes_its_jobs_along(
    starter: Starter, marked: Marked
) -> None:
    """Sabotage: flows/stops.py: if state.name == "TimedOut": -> if False:"""
    under = starter.script(Hard(marked, PROGRAMS["ignores-sigterm"], GRACE_S), "timeout", "4")
    family = under.family()
    wait_for(marked.gone, "the end of the job", 4 + GRACE_S + 3 + BUSY_S)
    assert_all_gone(family, under)
    assert under.server.flow_run_state(under.flow_run_id)[:2] == ("FAILED", "TimedOut")


def test_a_run_goes_on_without_an_observer_that_raises(starter: Starter, marked: Marked) -> None:
    """Sabotage: observers/dispatch.py: if observer.essential: -> if True:"""
    under = starter.script(Hard(marked, PROGRAMS["new-session"], GRACE_S), "observer")
    family = under.family()
    assert under.process is not None
    assert under.process.stdin is not None
    under.process.stdin.write("break now\n")
    under.process.stdin.flush()
    wait_for(
        lambda: any(event["event"] == "observer_failed" for event in under.run.events()),
        "the observer to break",
    )
    assert len(marked.pids()) == 3
    under.cancel_in_the_ui()
    assert_all_gone(family, under)
    assert under.state() == "CANCELLED"


def test_a_run_stops_without_an_observer_that_it_cannot_do_without(
    starter: Starter, marked: Marked
) -> None:
    """Sabotage: observers/dispatch.py: if observer.essential: -> if False:"""
    under = starter.script(Hard(marked, PROGRAMS["new-session"], GRACE_S), "essential-observer")
    family = under.family()
    assert under.process is not None
    out, _ = under.process.communicate("break now\n", timeout=60)
    assert_all_gone(family, under)
    assert under.run.file()["status"] == "crashed", out
    assert under.state() in ("FAILED", "CRASHED")


def test_a_run_from_a_terminal_that_loses_such_an_observer_exits_with_70(
    starter: Starter, marked: Marked
) -> None:
    """Sabotage: flows/session.py: self.observers.when_essential_fails(self._stop_for) -> None"""
    under = starter.own_observer(Hard(marked, PROGRAMS["ignores-sigterm"], GRACE_S))
    family = under.family()
    assert under.process is not None
    out, _ = under.process.communicate("break now\n", timeout=60)
    assert under.process.returncode == 70, out
    assert_all_gone(family, under)
    assert under.run.file()["status"] == "crashed"
    assert under.state() == "CRASHED"


@pytest.mark.parametrize("start", list(OWN_SERVER_STARTS))
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, id="SIGKILL"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.soak),
    ],
)
def test_a_server_of_the_runs_own_is_gone_with_its_driver(
    number: signal.Signals, start: str, starter: Starter, marked: Marked
) -> None:
    """Without a server configured the run, or Prefect itself, starts one.

    Sabotage: flows/flow_run_session.py: if ephemeral and server is not None: -> if False:
    """
    del starter.cli.settings["PREFECT_API_URL"]
    # By default Prefect gives its own server 20 s, of which a busy machine takes more.
    starter.cli.settings["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
    under = OWN_SERVER_STARTS[start](starter, Hard(marked, PROGRAMS["ignores-sigterm"], GRACE_S))
    family = under.family()
    servers = [each for each in family if "uvicorn" in " ".join(each.cmdline())]
    assert len(servers) == 1, family
    os.kill(under.driver_pid, number)
    wait_for(marked.gone, "the end of the job", GRACE_S + 3 + BUSY_S)
    assert_all_gone(family, under)
    status = "crashed" if number == signal.SIGKILL else "cancelled"
    wait_for(lambda: under.run.file()["status"] == status, "the end of the run")
