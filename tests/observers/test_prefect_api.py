"""What the reporter makes of a server's answers, also of those that a healthy one never gives."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from support.manual_clock import ManualClock
from support.prefect_server import PrefectServer
from support.recorded_run import RecordedRun, job
from support.scripted_server import Answer, Request, ScriptedServer

from observers.prefect_api import PrefectApi, PrefectConnection, RequestRefused, ServerAway
from observers.prefect_reporter import PrefectReporter
from observers.report_sender import STALL_S
from observers.run_report import FIRST_RETRY_S, LONGEST_RETRY_S, RunReport

FLOW_RUN = "6c7b2a3e-6e4c-4a36-9d1e-0f8a6f1f2b11"


class Shelf:
    """A server that keeps the task runs it is sent, unless it is told to lose or refuse them."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.refused = ""
        self.losing = False
        self.answer_instead: Answer | None = None
        self.event_ids: list[str] = []

    def __call__(self, request: Request) -> Answer:
        if self.answer_instead is not None:
            return self.answer_instead
        if request.path == "/api/task_runs/count":
            asked = set(request.body["task_runs"]["id"]["any_"])
            return Answer(200, len(asked & self.kept))
        assert request.path == "/api/events"
        names = [event["resource"]["prefect.resource.name"] for event in request.body]
        if self.refused in names:
            return Answer(422, {"detail": "cannot take this"})
        self.event_ids += [event["id"] for event in request.body]
        if not self.losing:
            ids = [event["resource"]["prefect.resource.id"] for event in request.body]
            self.kept |= {one.removeprefix("prefect.task-run.") for one in ids}
        return Answer(204)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def server(shelf: Shelf) -> Iterator[ScriptedServer]:
    with ScriptedServer(shelf) as running:
        yield running


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[RecordedRun]:
    run = RecordedRun(tmp_path / "run", started_at=1_000_000.0)
    run.start(FLOW_RUN)
    yield run
    run.close()


def api(server: ScriptedServer, **headers: str) -> PrefectApi:
    return PrefectApi(PrefectConnection(server.api_url, headers))


def report_on(server: ScriptedServer, run: RecordedRun, clock: ManualClock) -> RunReport:
    return RunReport(run.directory, FLOW_RUN, PrefectConnection(server.api_url), clock=clock)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_cannot_now_is_away_and_says_for_how_long(
    server: ScriptedServer, shelf: Shelf, status: int
) -> None:
    shelf.answer_instead = Answer(status, {"detail": "later"}, {"Retry-After": "7"})
    client = api(server)
    with pytest.raises(ServerAway, match=rf"{status}.*later") as caught:
        client.post_events(["{}"])
    assert caught.value.retry_after_s == 7.0
    client.close()


def test_something_that_answers_in_the_server_s_place_is_no_server(
    server: ScriptedServer, shelf: Shelf
) -> None:
    shelf.answer_instead = Answer(200, b"<html>Sign in</html>")
    client = api(server)
    with pytest.raises(ServerAway, match=r"no JSON.*Sign in"):
        client.count_task_runs({})
    client.close()


def test_a_refusal_tells_its_status_and_the_beginning_of_the_answer(
    server: ScriptedServer, shelf: Shelf
) -> None:
    shelf.answer_instead = Answer(401, {"detail": "x" * 5_000})
    client = api(server)
    with pytest.raises(RequestRefused, match="401") as caught:
        client.post_events(["{}"])
    assert not caught.value.is_about_content
    assert len(str(caught.value)) < 1_200
    client.close()


def test_every_request_carries_the_given_headers(server: ScriptedServer) -> None:
    client = api(server, Authorization="Bearer secret")
    client.post_events([])
    client.close()
    assert server.requests[0].headers["authorization"] == "Bearer secret"


def test_credentials_are_in_no_file_and_in_no_text_about_the_connection(
    server: ScriptedServer, recorded: RecordedRun
) -> None:
    connection = PrefectConnection(server.api_url, {"Authorization": "Bearer secret"})
    assert "secret" not in repr(connection)
    report = RunReport(recorded.directory, FLOW_RUN, connection, clock=ManualClock())
    report.step()
    report.close()
    written = [path.read_text() for path in recorded.directory.iterdir()]
    assert not any("secret" in text for text in written)


def test_one_event_that_the_server_refuses_does_not_take_others_with_it(
    server: ScriptedServer, shelf: Shelf, recorded: RecordedRun, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.refused = "test-77"
    jobs = [job(f"test-{number}") for number in range(200)]
    recorded.add(*jobs)
    recorded.pass_(0.1, *(one.id for one in jobs))
    clock = ManualClock()
    report = report_on(server, recorded, clock)
    report.step(hurry=True)
    clock.advance(5.0)
    report.step(hurry=True)
    assert len(shelf.kept) == 199
    assert report.status.unconfirmed == 1
    assert report.sender.is_idle
    about = [record.getMessage() for record in caplog.records if "test-77" in record.getMessage()]
    assert len(about) == 1
    assert "cannot take this" in about[0]
    report.close()


def test_what_the_server_took_and_lost_is_sent_again_under_another_event_id(
    server: ScriptedServer, shelf: Shelf, recorded: RecordedRun
) -> None:
    recorded.add(job("a"), job("b"))
    recorded.pass_(0.1, "a", "b")
    clock = ManualClock()
    report = report_on(server, recorded, clock)
    shelf.losing = True
    report.step()
    clock.advance(STALL_S + 1.0)
    shelf.losing = False
    report.step()
    assert len(shelf.kept) == 2
    assert len(shelf.event_ids) == 4
    assert len(set(shelf.event_ids)) == 4
    assert all(UUID(event_id) for event_id in shelf.event_ids)
    clock.advance(5.0)
    report.step()
    assert report.status.unconfirmed == 0
    report.close()


def test_what_is_under_way_is_bounded_until_the_server_confirms_it(
    server: ScriptedServer, shelf: Shelf, recorded: RecordedRun
) -> None:
    jobs = [job(f"test-{number}") for number in range(3_000)]
    recorded.add(*jobs)
    recorded.pass_(0.1, *(one.id for one in jobs))
    clock = ManualClock()
    report = report_on(server, recorded, clock)
    shelf.losing = True
    for _ in range(5):
        report.step(hurry=True)
        clock.advance(1.0)
    sizes = [len(request.body) for request in server.requests if request.path == "/api/events"]
    assert sizes == [500, 500, 500, 500]
    report.close()


def test_a_server_that_is_away_is_asked_less_and_less_often(
    server: ScriptedServer, shelf: Shelf, recorded: RecordedRun, caplog: pytest.LogCaptureFixture
) -> None:
    recorded.add(job("a"))
    recorded.pass_(0.1, "a")
    clock = ManualClock()
    report = report_on(server, recorded, clock)
    shelf.answer_instead = Answer(503)
    pauses: list[float] = []
    with caplog.at_level(logging.INFO, "holdfast.reporter"):
        for _ in range(12):
            report.step()
            pause_s = report.wait_s()
            assert pause_s is not None
            pauses.append(pause_s)
            clock.advance(pause_s + 0.001)
        shelf.answer_instead = None
        report.step()
    assert pauses[0] == pytest.approx(FIRST_RETRY_S, rel=0.25)
    assert pauses[3] > 4 * FIRST_RETRY_S
    assert max(pauses) <= LONGEST_RETRY_S
    assert len([one for one in server.requests if one.path == "/api/events"]) == 13
    assert len(shelf.kept) == 1
    said = [record.getMessage() for record in caplog.records]
    assert len([one for one in said if "does not answer" in one]) == 1
    assert len([one for one in said if "answers again" in one]) == 1
    report.close()


def test_a_refusal_of_everything_is_said_once_with_its_reason(
    server: ScriptedServer, shelf: Shelf, recorded: RecordedRun, caplog: pytest.LogCaptureFixture
) -> None:
    recorded.add(job("a"))
    recorded.pass_(0.1, "a")
    clock = ManualClock()
    report = report_on(server, recorded, clock)
    shelf.answer_instead = Answer(401, {"detail": "who are you?"})
    for _ in range(5):
        report.step()
        clock.advance(60.0)
    assert len([one for one in caplog.records if "who are you?" in one.getMessage()]) == 1
    report.close()


def test_damage_in_the_journal_ends_the_report_and_not_the_run(
    server: ScriptedServer, recorded: RecordedRun, caplog: pytest.LogCaptureFixture
) -> None:
    recorded.add(job("a"))
    recorded.pass_(0.1, "a")
    journal = recorded.directory / "events.jsonl"
    journal.write_bytes(b"{]}\n" + journal.read_bytes())
    reporter = PrefectReporter(recorded.directory)
    reporter.attach(FLOW_RUN, server.api_url)
    assert reporter.finish(10.0) == 0  # nothing is known to be missing
    reporter.jobs_changed(())
    reporter.close()
    assert [record for record in caplog.records if "was given up" in record.getMessage()]


def test_neither_the_reporter_nor_its_parts_import_prefect(tmp_path: Path) -> None:
    script = """
import sys
import observers.prefect_reporter, observers.prefect_state, observers.report_sync
assert "prefect" not in sys.modules
assert "httpx" not in sys.modules
from observers.prefect_api import PrefectApi, PrefectConnection
PrefectApi(PrefectConnection("http://127.0.0.1:9/api")).close()
assert "prefect" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


@pytest.mark.prefect
@pytest.mark.slow
def test_a_server_that_asks_for_a_password_and_for_tokens_is_reported_to(tmp_path: Path) -> None:
    server = PrefectServer(
        tmp_path / "home",
        PREFECT_SERVER_API_AUTH_STRING="admin:secret",
        PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED="true",
    )
    password = {"Authorization": "Basic YWRtaW46c2VjcmV0"}
    server.client.headers.update(password)
    server.start()
    try:
        token = server.client.get("/csrf-token", params={"client": "test"}).json()["token"]
        server.client.headers.update({"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token})
        flow_run = server.new_flow_run()
        run = RecordedRun(tmp_path / "run")
        run.start(flow_run)
        run.add(job("a"), job("b"))
        run.pass_(0.1, "a", "b")
        run.finish(0.2)
        reporter = PrefectReporter(run.directory)
        reporter.attach(flow_run, server.api_url, password)
        assert reporter.finish(30.0) == 0
        reporter.close()
        assert set(server.task_runs(flow_run)) == {"a", "b"}
    finally:
        server.close()
