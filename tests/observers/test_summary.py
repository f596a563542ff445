"""The last words of a run: what, why, where, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.job_events import FAILED, KILLED, PASSED, START, Q, R, S, a_job, changed, way

from observers.journal import Journal
from observers.results import results
from observers.summary import MAX_FAILURES, summary_text
from tasks.events import JobChanged, JobEnd, RunEnded, RunStarted
from tasks.status import Cause, CauseKind, RunStatus


def a_run(
    directory: Path,
    events: Sequence[JobChanged],
    status: RunStatus | None = RunStatus.FAILED,
    logs: dict[str, bytes] | None = None,
) -> Path:
    journal = Journal(directory)
    journal.run_started(RunStarted(START, {"run": "r", "name": "smoke", "status": "running"}))
    if events:
        journal.jobs_changed(events)
    if status is not None:
        journal.run_ended(RunEnded(START + 60, status, {}))
    journal.close()
    for job, text in ({} if logs is None else logs).items():
        (directory / "jobs" / job).mkdir(parents=True)
        (directory / "jobs" / job / "log.txt").write_bytes(text)
    return directory


def test_a_run_that_passed_is_two_lines(tmp_path: Path) -> None:
    a_run(tmp_path, way(a_job(), S, Q, R, PASSED), RunStatus.COMPLETED)
    assert summary_text(tmp_path) == (
        f'Run "smoke" completed: 1 passed; 1 job in 2.00 s\nrun directory  {tmp_path}'
    )


def test_a_failure_is_told_with_its_cause_its_log_and_its_last_lines(tmp_path: Path) -> None:
    events = [
        *way(a_job("build"), S, Q, R, PASSED),
        *way(a_job("test-7"), S, Q, R, Q, R, FAILED),
        *way(a_job("test-8"), S, Q, R, KILLED),
    ]
    log = b"line 1\nline 2\nline 3\nline 4\nline 5\n\x1b[31mUVM_ERROR\x1b[0m boom\n"
    a_run(tmp_path, events, logs={"test-7": log})
    text = summary_text(tmp_path, commands={"rerun what failed": "python -m flows.run rerun r"})
    assert text == (
        'Run "smoke" failed: 1 passed, 1 failed, 1 killed; 3 jobs in 4.00 s\n'
        "  test-7 failed: exit code 1, attempt 2\n"
        f"    log  {tmp_path}/jobs/test-7/log.txt\n"
        "    | line 2\n"
        "    | line 3\n"
        "    | line 4\n"
        "    | line 5\n"
        "    | UVM_ERROR boom\n"
        "  test-8 killed: ran longer than 60 s\n"
        f"    log  {tmp_path}/jobs/test-8/log.txt\n"
        f"run directory      {tmp_path}\n"
        "rerun what failed  python -m flows.run rerun r"
    )


def test_what_only_followed_is_counted_and_not_listed(tmp_path: Path) -> None:
    def followed(name: str, kind: CauseKind) -> JobChanged:
        cause = Cause(kind, f"because of {name}")
        return changed(a_job(name), S, KILLED, attempt=0, cause=cause, end=JobEnd())

    a_run(
        tmp_path,
        [
            *way(a_job("build"), S, Q, R, FAILED),
            *[followed(f"test-{number}", CauseKind.DEPENDENCY) for number in range(30)],
            followed("late", CauseKind.CANCELLED),
        ],
        RunStatus.CANCELLED,
    )
    text = summary_text(tmp_path)
    assert text.startswith('Run "smoke" was cancelled: 1 failed, 31 killed; 32 jobs in ')
    assert "  30 jobs did not run, since a job that they need did not pass\n" in text
    assert "  1 job ended because the run was cancelled\n" in text
    assert "because of" not in text
    assert "build failed: exit code 1" in text


def test_the_list_of_failures_is_bounded_and_says_where_the_rest_is(tmp_path: Path) -> None:
    events = [event for n in range(25) for event in way(a_job(f"j{n}"), S, Q, R, FAILED)]
    (tmp_path / "failed").mkdir()
    text = summary_text(a_run(tmp_path, events))
    assert text.count("failed: exit code 1") == MAX_FAILURES
    assert "  and 15 more; see failed/ in the run directory\n" in text


def test_a_run_in_progress_and_a_dead_one_are_told_from_disk(tmp_path: Path) -> None:
    a_run(tmp_path, [*way(a_job("a"), S, Q, R), *way(a_job("b"), S, Q)], status=None)
    text = summary_text(tmp_path)
    assert text.startswith('Run "smoke" is running: 1 running, 1 queued; 2 jobs in ')


def test_spared_jobs_and_empty_runs_are_told(tmp_path: Path) -> None:
    end = JobEnd(skipped=True)
    spared = [changed(a_job("a"), S, PASSED, attempt=0, end=end)]
    (tmp_path / "one").mkdir()
    (tmp_path / "none").mkdir()
    text = summary_text(a_run(tmp_path / "one", spared, RunStatus.COMPLETED))
    assert "completed: 1 passed (1 spared by the checkpoint); 1 job in" in text
    text = summary_text(a_run(tmp_path / "none", [], RunStatus.COMPLETED))
    assert text.startswith('Run "smoke" completed: no jobs in 0.00 s\n')


def test_results_and_duration_that_are_known_are_not_made_again(tmp_path: Path) -> None:
    a_run(tmp_path, way(a_job(), S, Q, R, PASSED), RunStatus.COMPLETED)
    contents = results(tmp_path)
    (tmp_path / "events.jsonl").unlink()
    text = summary_text(tmp_path, contents, duration_s=7800, notes=["12 events are not sent yet"])
    assert "in 2 h 10 min\n12 events are not sent yet\n" in text


def test_hostile_messages_and_logs_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\nRun completed"
    events = [
        *way(a_job("a"), S, Q, R)[:2],
        changed(a_job("a"), R, FAILED, cause=Cause(CauseKind.FAIL_PATTERN, evil)),
    ]
    a_run(tmp_path, events, logs={"a": evil.encode() + b"\xff" + b"y" * 100_000})
    text = summary_text(tmp_path, notes=[evil])
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text)
    assert "\u202e" not in text
    assert "\x9b" not in text
    assert all(not line.startswith("Run completed") for line in text.splitlines())
    assert max(len(line) for line in text.splitlines()) < 400


def test_a_log_that_is_a_pipe_does_not_hold_the_summary_up(tmp_path: Path) -> None:
    import os

    a_run(tmp_path, way(a_job("a"), S, Q, R, FAILED))
    (tmp_path / "jobs" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "jobs" / "a" / "log.txt")
    assert "a failed: exit code 1" in summary_text(tmp_path)


def test_a_directory_without_a_journal_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        summary_text(tmp_path / "nothing")
