"""``--on-crash keep``: jobs outlive the driver's death, and the next start goes on with them.

Each of these fails when one line of the adoption is broken; ``tests/sabotage.py`` does that.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine, RunOnDisk
from support.waiting import wait_for

KEEP = ("--on-crash", "keep", "--offline", "-q")


class KeptJobs:
    """A graph whose jobs wait to be released, each noting how often it began."""

    def __init__(self, place: Path) -> None:
        self.cli = CommandLine(place)
        self.jobs: list[dict[str, Any]] = []
        self._drivers: list[subprocess.Popen[str]] = []

    def waits(self, job: str, exit_code: int = 0, **fields: Any) -> None:
        """Add a job that runs until it is released."""
        os.mkfifo(self.cli.place / f"{job}.release")
        script = (
            f"echo $HOLDFAST_ATTEMPT >> {job}.began; echo begun {job}; "
            f"read line < {job}.release; echo done {job}; exit {exit_code}"
        )
        self.jobs.append({"id": job, "command": script, "grace_s": 0.5, **fields})

    def runs(self, job: str, exit_code: int = 0, **fields: Any) -> None:
        """Add a job that ends at once."""
        script = f"echo $HOLDFAST_ATTEMPT >> {job}.began; echo done {job}; exit {exit_code}"
        self.jobs.append({"id": job, "command": script, **fields})

    def start(self, *options: str, max_parallel: int = 30) -> subprocess.Popen[str]:
        graph = {"name": "kept", "max_parallel": max_parallel, "jobs": self.jobs}
        self.cli.write("kept.json", json.dumps(graph))
        driver = self.cli.start("jobs", "kept.json", *KEEP, *options)
        self._drivers.append(driver)
        return driver

    def kill(self, driver: subprocess.Popen[str]) -> None:
        driver.kill()
        driver.communicate(timeout=30)

    def release(self, *jobs: str) -> None:
        for job in jobs:
            # The job has opened it, or will at once: it began before it was called running.
            (self.cli.place / f"{job}.release").write_text("go\n")

    def began(self, job: str) -> list[str]:
        """The attempts that began, as the processes themselves noted."""
        path = self.cli.place / f"{job}.began"
        return path.read_text().split() if path.exists() else []

    def wait_until_begun(self, *jobs: str) -> None:
        wait_for(lambda: all(map(self.began, jobs)), f"{jobs} to begin", 60)

    @property
    def run(self) -> RunOnDisk:
        return self.cli.only_run()

    def spooled(self) -> int:
        """How many ends the keeper has written down."""
        path = self.run.directory / ".completions.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def adopted(self, times: int = 1) -> list[str]:
        """The jobs that were taken over at the newest of so many adoptions."""
        events = wait_for(
            lambda: len(found := self._adoptions()) >= times and found, f"adoption {times}", 60
        )
        jobs: list[str] = events[-1]["jobs"]
        return jobs

    def _adoptions(self) -> list[dict[str, Any]]:
        return [event for event in self.run.events() if event["event"] == "adopted"]

    def ended(self, driver: subprocess.Popen[str], code: int) -> None:
        out, err = driver.communicate(timeout=60)
        assert driver.returncode == code, (out, err)

    def listed(self) -> str:
        (run,) = self.cli.run("list", "--json").json()
        status: str = run["status"]
        return status

    def keeper_is_gone(self) -> bool:
        return not (self.run.directory / ".keeper.json").exists()

    def close(self) -> None:
        for driver in self._drivers:
            if driver.poll() is None:
                driver.terminate()
                driver.communicate(timeout=30)
        if self.cli.runs.is_dir() and not self.keeper_is_gone():
            self.cli.run("cancel", "last", "--now")
        wait_for(self.keeper_is_gone, "the keeper to end", 30)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptJobs]:
    jobs = KeptJobs(tmp_path)
    yield jobs
    jobs.close()


def assert_one_run(kept: KeptJobs) -> None:
    """Journal, results, links and run.json tell of one run whose jobs each ended once."""
    run, file = kept.run, kept.run.file()
    events = run.events()
    names = [event["event"] for event in events]
    assert names.count("run_started") == names.count("run_ended") == 1
    assert names[-1] == "run_ended"
    ends = [e["job"] for e in events if e["event"] == "job_status" and e["to"] in ENDS]
    assert sorted(ends) == sorted(job["id"] for job in kept.jobs)
    at: dict[str, str] = {}
    for event in events:
        if event["event"] == "job_status":
            assert at.get(event["job"], "scheduled") == event["from"], event
            at[event["job"]] = event["to"]
    results = run.results()
    assert results["counts"] == file["counts"] == events[-1]["counts"]
    assert results["status"] == file["status"]
    folders = {"passing": "passed", "failed": "failed", "killed": "killed"}
    linked = {job: folders[where] for where, jobs in run.links().items() for job in jobs}
    assert linked == run.statuses()
    assert len((run.directory / ".jobs.jsonl").read_text().splitlines()) == len(kept.jobs) + 1


ENDS = ("passed", "failed", "killed")
EARLY = ("early", "early-bad")


def test_twenty_jobs_that_run_when_their_driver_is_killed_end_as_if_nothing_had_happened(
    kept: KeptJobs,
) -> None:
    """Sabotage: flows/session.py: if kept is None or not self._may_adopt(kept): -> if True:"""
    codes = {f"job-{index}": index % 4 for index in range(20)}
    kept.runs("early")
    kept.runs("early-bad", 9)
    for job, code in codes.items():
        kept.waits(job, code)
    kept.runs("after-good", needs=["job-0", "early"])
    kept.runs("after-bad", needs=["job-1"])
    first = kept.start()
    run = kept.run
    run.wait_until_running(*codes)
    kept.wait_until_begun(*codes)
    wait_for(lambda: {run.statuses().get(job) for job in EARLY} <= set(ENDS), "the early ends")
    begun_at = time.time()
    kept.kill(first)
    meanwhile = list(codes)[:8]
    kept.release(*meanwhile)
    wait_for(lambda: kept.spooled() == 10, "eight jobs to end without a driver")
    assert kept.listed() == "running"
    alone_until = time.time()

    second = kept.start()
    assert kept.adopted() == list(codes)
    released_at = time.time()
    kept.release(*list(codes)[8:])
    kept.ended(second, 1)

    jobs = run.jobs()
    for job, code in codes.items():
        found = jobs[job]
        assert found["exit_code"] == code
        assert found["status"] == ("failed" if code else "passed")
        assert found["attempts"] == 1
        assert kept.began(job) == ["1"]
        assert run.log(job) == f"begun {job}\ndone {job}\n".encode()
        least_s = 0.0 if job in meanwhile else released_at - begun_at
        assert least_s <= found["runtime_s"] <= time.time() - begun_at + 60
        ended_at = at(found["ended_at"])
        assert at(found["started_at"]) + found["runtime_s"] == pytest.approx(ended_at, abs=2.0)
        assert (ended_at <= alone_until) == (job in meanwhile)
    assert kept.began("after-good") == ["1"]
    assert kept.began("after-bad") == []
    assert jobs["after-bad"]["cause"]["kind"] == "dependency"
    assert kept.began("early") == kept.began("early-bad") == ["1"]
    counts = {"passed": 7, "failed": 16, "killed": 1, "skipped": 0}
    assert run.file()["counts"] == counts
    assert run.file()["status"] == "failed"
    assert_one_run(kept)


def at(text: str) -> float:
    from tasks.events import from_iso_utc

    return from_iso_utc(text)


def test_a_second_death_after_the_adoption_is_survived_too(kept: KeptJobs) -> None:
    """Sabotage: flows/adoption.py: self.repeated.append((cause, _end(entry))) -> pass"""
    kept.runs("early")
    for job in ("a", "b", "c"):
        kept.waits(job)
    kept.waits("fails", 1, retries=1)
    kept.runs("last", needs=["c"])
    driver = kept.start()
    kept.wait_until_begun("a", "b", "c", "fails")
    kept.kill(driver)
    kept.release("a")
    driver = kept.start()
    # "early" too, if the journal had not come to tell its end.
    assert set(kept.adopted()) >= {"a", "b", "c", "fails"}
    kept.release("fails")
    wait_for(lambda: kept.began("fails") == ["1", "2"], "the retry")
    kept.kill(driver)
    kept.release("b")
    driver = kept.start()
    assert set(kept.adopted(2)) >= {"c", "fails"}
    kept.release("c", "fails")
    kept.ended(driver, 1)
    assert [kept.began(job) for job in ("a", "b", "c", "last")] == [["1"]] * 4
    # Its one retry was used under another driver.
    assert kept.began("fails") == ["1", "2"]
    assert kept.run.jobs()["fails"]["attempts"] == 2
    assert_one_run(kept)


def test_deaths_at_random_moments_make_no_job_run_twice_and_lose_none(kept: KeptJobs) -> None:
    """Sabotage: flows/adoption.py: for number, attempt in adoption.ended -> for number, attempt in ()"""  # noqa: E501
    kept.waits("keeps")
    for index in range(40):
        needs = [f"job-{index - 7}"] if index >= 7 else []
        kept.runs(f"job-{index}", int(index >= 35), needs=needs)
    driver = kept.start(max_parallel=3)
    kept.wait_until_begun("keeps")
    for moment in (10, 45, 90):
        wait_for(lambda: len(kept.run.events()) >= moment, "the moment", 60)  # noqa: B023
        kept.kill(driver)
        driver = kept.start(max_parallel=3)
    kept.adopted(3)
    kept.release("keeps")
    kept.ended(driver, 1)
    assert [kept.began(job["id"]) for job in kept.jobs] == [["1"]] * 41
    jobs = kept.run.jobs()
    assert [job for job in jobs if jobs[job]["attempts"] != len(kept.began(job))] == []
    assert_one_run(kept)


def test_jobs_that_nobody_adopts_in_time_are_ended_and_the_run_is_settled(kept: KeptJobs) -> None:
    """Sabotage: backends/keeper/loop.py: time.monotonic() + self._settings.adopt_within_s -> time.monotonic() + 3600"""  # noqa: E501
    kept.waits("a")
    kept.runs("b", needs=["a"])
    driver = kept.start("--adopt-within", "1.5")
    kept.wait_until_begun("a")
    wait_for(lambda: kept.run.statuses().get("a") == "running", "the journal")
    kept.kill(driver)
    assert kept.listed() == "running"
    wait_for(lambda: kept.run.file()["status"] == "crashed", "the keeper to give up", 30)
    assert kept.listed() == "crashed"
    assert {job: each["status"] for job, each in kept.run.jobs().items()} == {
        "a": "killed",
        "b": "killed",
    }
    assert kept.run.jobs()["a"]["cause"]["kind"] == "driver_lost"
    assert_one_run(kept)


def test_a_run_without_a_driver_is_cancelled_through_its_keeper(kept: KeptJobs) -> None:
    """Sabotage: flows/commands/cancel.py: if kept is not None: -> if False:"""
    kept.waits("a")
    kept.runs("b", needs=["a"])
    driver = kept.start()
    kept.wait_until_begun("a")
    wait_for(lambda: kept.run.statuses().get("a") == "running", "the journal")
    kept.kill(driver)
    done = kept.cli.run("cancel", kept.run.name, "--json")
    assert done.code == 0, done
    assert done.json()["status"] == "cancelled"
    assert kept.listed() == "cancelled"
    assert kept.run.jobs()["a"]["cause"]["kind"] == "cancelled"
    assert kept.began("b") == []
    assert_one_run(kept)
    again = kept.cli.run("cancel", kept.run.name)
    assert again.code == 5


def test_another_graph_is_refused_while_jobs_are_kept_and_the_right_one_still_adopts(
    kept: KeptJobs,
) -> None:
    """Sabotage: flows/kept_run.py: line != json.loads(job_line(job)) -> False"""
    kept.waits("a")
    driver = kept.start()
    kept.wait_until_begun("a")
    wait_for(lambda: kept.run.statuses().get("a") == "running", "the journal")
    kept.kill(driver)
    right = list(kept.jobs)
    kept.jobs[0] = {**right[0], "command": "echo another"}
    refused = kept.start()
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 5
    assert 'job 1, "a", is another definition there' in err
    assert f"cancel {kept.run.name}" in err
    kept.jobs[:] = right
    driver = kept.start()
    assert kept.adopted() == ["a"]
    kept.release("a")
    kept.ended(driver, 0)
    assert kept.began("a") == ["1"]
    assert_one_run(kept)


def test_an_adopted_run_is_stopped_like_any_other(kept: KeptJobs) -> None:
    kept.waits("a")
    kept.runs("b", needs=["a"])
    driver = kept.start()
    kept.wait_until_begun("a")
    kept.kill(driver)
    driver = kept.start()
    kept.adopted()
    done = kept.cli.run("cancel", kept.run.name, "--json")
    assert (done.code, done.json()["status"]) == (0, "cancelled")
    kept.ended(driver, 130)
    assert kept.run.jobs()["a"]["status"] == "killed"
    assert kept.began("a") == ["1"]
    assert_one_run(kept)
