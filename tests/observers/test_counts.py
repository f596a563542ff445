"""Counts by group and status, and what a run waits for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.job_events import FAILED, KILLED, PASSED, START, Q, R, S, a_job, changed, way

from observers.counts import RunCounts
from tasks.status import JobStatus


def test_jobs_are_counted_in_their_group_and_in_all() -> None:
    counts = RunCounts()
    counts.add([a_job("build"), a_job("test-1"), a_job("test-2"), a_job("x", group="test")])
    counts.change([*way(a_job("build"), S, Q, R, PASSED), *way(a_job("test-1"), S, Q, R)])
    assert list(counts.groups) == ["build", "test"]
    assert counts.groups["build"][PASSED] == counts.groups["build"].ended == 1
    assert (counts.groups["test"][R], counts.groups["test"][S]) == (1, 2)
    assert (counts.total.total, counts.total.ended) == (4, 1)


def test_the_oldest_running_jobs_come_first_with_their_start() -> None:
    counts = RunCounts()
    jobs = [a_job(name) for name in "abcd"]
    counts.add(jobs)
    for second, job in enumerate(jobs):
        counts.change([changed(job, S, Q), changed(job, Q, R, at=START + second)])
    counts.change([changed(jobs[0], R, PASSED), changed(jobs[1], R, Q)])
    counts.change([changed(jobs[1], Q, R, at=START + 9, attempt=2)])
    assert counts.oldest_running(2) == [("c", START + 2), ("d", START + 3)]
    assert counts.oldest_running(9)[-1] == ("b", START + 9)


def test_counts_that_were_copied_stand_still() -> None:
    counts = RunCounts()
    counts.add([a_job()])
    copy = counts.groups["test"].copy()
    counts.change(way(a_job(), S, Q))
    assert (copy[S], copy[Q]) == (1, 0)


def test_a_job_that_was_never_added_is_ignored() -> None:
    counts = RunCounts()
    counts.change(way(a_job(), S, Q, R, PASSED))
    assert counts.total.total == 0


@given(
    st.lists(
        st.sampled_from([(Q,), (Q, R), (Q, R, PASSED), (Q, R, Q, R, FAILED), (KILLED,)]), max_size=9
    )
)
def test_the_counts_always_add_up(ways: list[tuple[JobStatus, ...]]) -> None:
    counts = RunCounts()
    jobs = [a_job(f"{'ab'[number % 2]}-{number}") for number in range(len(ways))]
    counts.add(jobs)
    for job, steps in zip(jobs, ways, strict=True):
        counts.change(way(job, S, *steps))
    assert counts.total.total == len(jobs)
    last = [steps[-1] for steps in ways]
    assert {status: counts.total[status] for status in JobStatus} == {
        status: last.count(status) for status in JobStatus
    }
    assert len(counts.oldest_running(99)) == last.count(R)
