"""The list of jobs: enough to run, resume and report the run from disk."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest
from support.job_events import START, a_job

from observers.append_file import AppendError
from observers.job_list import JobList, read_job_list, read_job_list_head
from tasks.events import RunEnded
from tasks.spec import JobRecord, JobSpec
from tasks.status import RunStatus

JOBS = [
    JobSpec(id="build", command=["make", "all"], outputs=["sim"], env={"A": "ü\n"}).record(),
    JobSpec(
        id="test-1",
        command="./sim --seed 1",
        needs=["build"],
        resources={"licence": 1},
        timeout_s=60,
        retry_exit_codes=[3],
        pass_patterns=["TEST PASSED"],
        tags=["nightly"],
    ).record(),
]


def same(first: list[JobRecord], second: list[JobRecord]) -> bool:
    return [job.to_json() for job in first] == [job.to_json() for job in second]


def test_jobs_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    jobs = JobList(tmp_path, {"name": "smoke", "resources": {"gpu": ("0", "1")}, "max_parallel": 4})
    jobs.jobs_added(JOBS[:1])
    jobs.jobs_added(JOBS[1:])
    assert same(list(read_job_list(tmp_path)), JOBS)
    assert read_job_list_head(tmp_path) == {
        "name": "smoke",
        "resources": {"gpu": ["0", "1"]},
        "max_parallel": 4,
    }
    jobs.close()


def test_the_file_is_a_head_and_one_job_a_line(tmp_path: Path) -> None:
    jobs = JobList(tmp_path)
    jobs.jobs_added(JOBS)
    jobs.run_ended(RunEnded(START, RunStatus.COMPLETED, {}))
    jobs.close()
    lines = (tmp_path / ".jobs.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {}
    assert [json.loads(line)["id"] for line in lines[1:]] == ["build", "test-1"]


def test_a_job_added_in_flight_is_on_the_list_before_the_call_returns(tmp_path: Path) -> None:
    jobs = JobList(tmp_path)
    for number in range(3):
        jobs.jobs_added([a_job(f"job-{number}")])
        assert len(list(read_job_list(tmp_path))) == number + 1
    jobs.close()


def test_only_the_owner_can_read_what_may_hold_secrets(tmp_path: Path) -> None:
    jobs = JobList(tmp_path)
    jobs.jobs_added(JOBS)
    jobs.close()
    assert (tmp_path / ".jobs.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_driver_that_takes_over_adds_only_what_is_new(tmp_path: Path) -> None:
    first = JobList(tmp_path, {"name": "smoke"})
    first.jobs_added(JOBS)
    first.close()
    second = JobList(tmp_path, {"name": "smoke"})
    second.jobs_added([*JOBS, a_job("late")])
    second.close()
    assert [job.id for job in read_job_list(tmp_path)] == ["build", "test-1", "late"]
    assert read_job_list_head(tmp_path) == {"name": "smoke"}


def test_shared_and_read_only_fields_are_written_as_json(tmp_path: Path) -> None:
    rest = MappingProxyType({"env": MappingProxyType({"A": "1"}), "outputs": ("x",)})
    jobs = JobList(tmp_path)
    jobs.jobs_added([JobRecord("a", "true", (), rest)])
    jobs.close()
    (job,) = read_job_list(tmp_path)
    assert job.env == {"A": "1"}
    assert job.outputs == ("x",)


def test_a_torn_last_job_is_no_job(tmp_path: Path) -> None:
    jobs = JobList(tmp_path)
    jobs.jobs_added(JOBS)
    jobs.close()
    path = tmp_path / ".jobs.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    assert [job.id for job in read_job_list(tmp_path)] == ["build"]


def test_a_full_disk_is_an_error_that_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / ".jobs.jsonl").symlink_to("/dev/full")
    assert JobList.essential
    with pytest.raises(AppendError, match="No space left on device"):
        JobList(tmp_path).jobs_added(JOBS)


def test_a_run_without_jobs_has_an_empty_list(tmp_path: Path) -> None:
    jobs = JobList(tmp_path)
    jobs.run_ended(RunEnded(START, RunStatus.COMPLETED, {}))
    jobs.close()
    with pytest.raises(FileNotFoundError):
        list(read_job_list(tmp_path))
