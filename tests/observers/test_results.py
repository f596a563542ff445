"""``results.json`` is a pure function of the journal."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.job_events import FAILED, KILLED, PASSED, START, Q, R, S, a_job, changed, way

from observers.journal import Journal
from observers.journal_reader import read_journal
from observers.results import count_jobs, results, results_of, write_results
from tasks.events import JobChanged, JobEnd, RunEnded, RunPaused, RunStarted, RunUnpaused, iso_utc
from tasks.status import RunStatus

STARTED = RunStarted(START, {"run": "2026_smoke", "name": "smoke", "status": "running"})


def write_journal(directory: Path, *events: object) -> None:
    journal = Journal(directory)
    for event in events:
        if isinstance(event, RunStarted):
            journal.run_started(event)
        elif isinstance(event, RunEnded):
            journal.run_ended(event)
        elif isinstance(event, RunPaused):
            journal.run_paused(event)
        elif isinstance(event, RunUnpaused):
            journal.run_unpaused(event)
        else:
            assert isinstance(event, list)
            journal.jobs_changed(event)
    journal.close()


def ended(status: RunStatus = RunStatus.COMPLETED) -> RunEnded:
    return RunEnded(START + 60, status, {})


def test_the_results_of_a_run_are_what_the_formats_page_says(tmp_path: Path) -> None:
    end = JobEnd(exit_code=0, runtime_s=2.25, cpu_s=1.5, max_rss_bytes=4096, leftovers_killed=3)
    job = a_job("test-1")
    write_journal(
        tmp_path,
        STARTED,
        way(job, S, Q, R),
        [changed(job, R, PASSED, at=START + 2, end=end)],
        ended(),
    )
    assert results(tmp_path) == {
        "run": "2026_smoke",
        "name": "smoke",
        "status": "completed",
        "counts": {"passed": 1, "failed": 0, "killed": 0, "skipped": 0},
        "jobs": [
            {
                "id": "test-1",
                "status": "passed",
                "cause": None,
                "exit_code": 0,
                "signal": None,
                "attempts": 1,
                "skipped": False,
                "backend": "local",
                "queued_at": iso_utc(START),
                "started_at": iso_utc(START + 1),
                "ended_at": iso_utc(START + 2),
                "runtime_s": 2.25,
                "cpu_s": 1.5,
                "max_rss_bytes": 4096,
                "leftovers_killed": 3,
                "log": "jobs/test-1/log.txt",
            }
        ],
    }


def test_the_file_is_rebuilt_from_the_journal_alone(tmp_path: Path) -> None:
    events = [
        *way(a_job("a"), S, Q, R, PASSED),
        *way(a_job("b"), S, Q, R, FAILED),
        *way(a_job("c"), S, KILLED),
        *way(a_job("d"), S, Q, R, Q, R, PASSED),
    ]
    write_journal(tmp_path, STARTED, events, ended(RunStatus.FAILED))
    written = write_results(tmp_path)
    on_disk = json.loads((tmp_path / "results.json").read_bytes())
    assert on_disk == written == results(read_journal(tmp_path)) == results_of(tmp_path)
    assert on_disk["counts"] == {"passed": 2, "failed": 1, "killed": 1, "skipped": 0}
    assert [job["id"] for job in on_disk["jobs"]] == ["a", "b", "c", "d"]


def test_each_job_is_one_line_of_the_file(tmp_path: Path) -> None:
    write_journal(tmp_path, STARTED, way(a_job("a"), S, Q), way(a_job("b"), S, Q), ended())
    write_results(tmp_path)
    lines = (tmp_path / "results.json").read_text().splitlines()
    assert [json.loads(line.rstrip(","))["id"] for line in lines if '"id"' in line] == ["a", "b"]


def test_a_run_without_jobs_has_results_too(tmp_path: Path) -> None:
    write_journal(tmp_path, STARTED, ended())
    write_results(tmp_path)
    assert json.loads((tmp_path / "results.json").read_bytes())["jobs"] == []


def test_a_retry_tells_of_the_newest_attempt_alone(tmp_path: Path) -> None:
    job = a_job()
    failed = JobEnd(exit_code=1, runtime_s=9.0)
    write_journal(
        tmp_path,
        STARTED,
        way(job, S, Q, R),
        [changed(job, R, Q, at=START + 5, end=failed)],
        [changed(job, Q, R, at=START + 6, attempt=2)],
    )
    (running,) = results(tmp_path)["jobs"]
    assert (running["status"], running["attempts"]) == ("running", 2)
    assert running["exit_code"] is running["runtime_s"] is running["ended_at"] is None
    assert running["queued_at"] == iso_utc(START + 5)
    assert running["started_at"] == iso_utc(START + 6)


def test_a_job_that_never_ran_has_no_log_and_no_times_of_running(tmp_path: Path) -> None:
    write_journal(tmp_path, STARTED, [changed(a_job(), S, KILLED, attempt=0, end=JobEnd())])
    (job,) = results(tmp_path)["jobs"]
    assert job["log"] is job["started_at"] is job["queued_at"] is None
    assert job["attempts"] == 0
    assert job["cause"]["kind"] == "timeout"


def test_spared_jobs_are_passed_and_counted_as_skipped_too(tmp_path: Path) -> None:
    end = JobEnd(skipped=True)
    write_journal(tmp_path, STARTED, [changed(a_job(), S, PASSED, attempt=0, end=end)])
    found = results(tmp_path)
    assert found["counts"] == {"passed": 1, "failed": 0, "killed": 0, "skipped": 1}
    assert found["jobs"][0]["skipped"] is True


def test_the_status_of_a_run_in_progress_is_the_newest_one_told(tmp_path: Path) -> None:
    steps = [STARTED, RunPaused(START), RunUnpaused(START), ended(RunStatus.CANCELLED)]
    told = []
    for event in steps:
        write_journal(tmp_path, event)
        told.append(results(tmp_path)["status"])
    assert told == ["running", "paused", "running", "cancelled"]


def test_jobs_that_have_not_ended_are_counted_where_they_are(tmp_path: Path) -> None:
    write_journal(tmp_path, STARTED, way(a_job("a"), S, Q, R), way(a_job("b"), S, Q))
    counts = results(tmp_path)["counts"]
    assert counts == {
        "passed": 0,
        "failed": 0,
        "killed": 0,
        "skipped": 0,
        "running": 1,
        "queued": 1,
    }


steps = st.lists(st.sampled_from([PASSED, FAILED, KILLED]), min_size=1, max_size=6)


@given(fates=steps, retries=st.integers(0, 3))
def test_whatever_happens_every_job_is_told_once_with_its_last_status(
    fates: list[object], retries: int
) -> None:
    events: list[JobChanged] = []
    for number, fate in enumerate(fates):
        again = (Q, R) * retries
        events += way(a_job(f"job-{number}"), S, Q, R, *again, fate)  # type: ignore[arg-type]
    entries = [event.journal_entry() for event in events]
    found = results(json.loads(json.dumps(entry)) for entry in entries)
    assert [job["id"] for job in found["jobs"]] == [f"job-{n}" for n in range(len(fates))]
    assert [job["status"] for job in found["jobs"]] == [fate.value for fate in fates]  # type: ignore[attr-defined]
    assert {job["attempts"] for job in found["jobs"]} == {retries + 1}
    assert found["counts"] == count_jobs(found["jobs"])
