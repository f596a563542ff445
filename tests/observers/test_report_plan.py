"""What a Prefect server is told and when, decided without a server, on made-up clocks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.recorded_run import RecordedRun, job

from observers.prefect_events import Stage, TaskRunReport
from observers.report_plan import BATCH, BURST_STARTS, PATHS, WAITING_ROOM, ReportPlan
from observers.report_source import ReportSource
from tasks.status import CauseKind, RunStatus

START = 1_800_000_000.0
ROOM = 2_000


class Planned:
    """A plan that reads what a recorded run writes; times are seconds since the run's start."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.run = RecordedRun(directory / "run", started_at=START)
        self.run.start()
        self.plan = ReportPlan(**options)
        self.source = ReportSource(self.run.directory, self.plan)

    def said(self, at: float, room: int = ROOM) -> list[TaskRunReport]:
        """Return everything that is due at this time."""
        self.source.read(START + at)
        reports: list[TaskRunReport] = []
        while part := self.plan.due(START + at, room) or self.plan.due_waiting(START + at, room):
            assert len({report.stage for report in part}) == 1
            reports += part
        return reports

    def told(self, at: float) -> dict[str, str]:
        """Return the state names that are due at this time, by job."""
        return {report.key: report.state.name for report in self.said(at)}

    def burst(self, at: float, count: int = BURST_STARTS) -> list[str]:
        """Have so many short jobs start and pass at this time; return their ids."""
        jobs = [job(f"quick-{at:g}-{number}") for number in range(count)]
        self.run.add(*jobs)
        ids = [one.id for one in jobs]
        self.run.pass_(at, *ids, runtime_s=0.01)
        return ids


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    return Planned(tmp_path)


def test_a_job_that_ends_within_a_second_is_told_as_its_end_alone(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.run.run(0.0, "a")
    assert planned.told(0.9) == {}
    planned.run.pass_(0.95, "a")
    assert planned.told(0.96) == {"a": "Completed"}
    assert planned.told(100.0) == {}


def test_a_job_that_runs_for_a_second_is_told_running_and_then_its_end(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.run.run(0.0, "a")
    assert planned.told(1.0) == {"a": "Running"}
    assert planned.told(1.5) == {}
    planned.run.pass_(1.6, "a", runtime_s=1.6)
    assert planned.told(1.7) == {"a": "Completed"}


def test_jobs_that_wait_are_told_after_two_seconds_with_what_they_wait_for(
    planned: Planned,
) -> None:
    planned.run.add(job("build"), job("test", "build"))
    planned.run.queue(0.0, "build")
    planned.source.read(START)
    assert planned.told(1.9) == {}
    assert planned.told(2.0) == {"test": "Pending", "build": "Queued"}


def test_jobs_that_wait_leave_most_of_the_room_to_what_happens(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.said(0.0)
    assert planned.said(5.0, room=WAITING_ROOM - 1) == []
    assert len(planned.said(5.0, room=WAITING_ROOM)) == 1


def test_only_the_newest_state_is_told_after_the_server_was_away(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.run.run(0.0, "a")
    planned.run.retry(10.0, "a", runtime_s=10.0)
    planned.run.run(11.0, "a")
    planned.run.pass_(20.0, "a", runtime_s=9.0)
    [report] = planned.said(3600.0)
    assert (report.state.name, report.attempt) == ("Completed", 2)
    assert report.started_at == START
    assert report.ended_at == START + 20.0
    assert report.ran_s == pytest.approx(19.0)


def test_a_retry_is_told_as_queued_with_the_cause(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.run.run(0.0, "a")
    assert planned.told(2.0) == {"a": "Running"}
    planned.run.retry(3.0, "a")
    [report] = planned.said(5.0)
    assert (report.state.name, report.message, report.attempt) == ("Queued", "exit code 1", 1)


def test_while_jobs_start_fast_short_ends_are_held_until_the_machine_is_idle(
    planned: Planned,
) -> None:
    ids = planned.burst(0.0)
    assert planned.told(0.1) == {}
    assert planned.plan.next_due_at(START + 0.1) == pytest.approx(START + 2.0)
    assert planned.told(1.99) == {}
    assert planned.told(2.01) == dict.fromkeys(ids, "Completed")


def test_one_start_less_than_a_hundred_a_second_is_not_fast(planned: Planned) -> None:
    ids = planned.burst(0.0, BURST_STARTS - 1)
    assert planned.told(0.1) == dict.fromkeys(ids, "Completed")


def test_while_jobs_start_fast_those_older_than_two_seconds_are_told(planned: Planned) -> None:
    planned.run.add(job("long"), job("longer"))
    planned.run.run(0.0, "long", "longer")
    planned.burst(1.5)
    assert planned.told(1.9) == {}
    assert planned.told(2.0) == {"long": "Running", "longer": "Running"}
    planned.burst(3.0)
    planned.run.pass_(3.1, "long", runtime_s=3.1)
    assert planned.told(3.2) == {"long": "Completed"}


def test_while_jobs_start_fast_nobody_is_told_to_wait(planned: Planned) -> None:
    planned.run.add(job("waits"))
    planned.said(0.0)
    planned.burst(3.0)
    assert planned.told(3.1) == {}
    assert planned.told(5.1)["waits"] == "Pending"


def test_the_end_of_the_run_makes_everything_due(planned: Planned) -> None:
    ids = planned.burst(0.0)
    assert planned.told(0.1) == {}
    planned.run.finish(0.2, RunStatus.COMPLETED, {"passed": len(ids)})
    assert planned.told(0.2) == dict.fromkeys(ids, "Completed")
    assert planned.plan.run_status is RunStatus.COMPLETED
    assert planned.plan.run_counts == {"passed": len(ids)}


def test_what_has_ended_is_told_before_what_runs_and_what_waits(planned: Planned) -> None:
    planned.run.add(job("waits"), job("runs"), job("ended"))
    planned.run.queue(0.0, "waits")
    planned.run.run(0.0, "runs")
    planned.run.pass_(1.0, "ended")
    assert [report.key for report in planned.said(10.0)] == ["ended", "runs", "waits"]


def test_room_and_list_size_bound_what_is_handed_out_at_once(planned: Planned) -> None:
    ids = planned.burst(0.0, 600)
    planned.source.read(START + 60)
    first = planned.plan.due(START + 60, 10_000)
    assert len(first) == BATCH
    assert [report.key for report in first] == ids[:BATCH]
    assert len(planned.plan.due(START + 60, 7)) == 7
    assert planned.plan.due(START + 60, 0) == []
    assert len(planned.plan.due(START + 60, 10_000)) == 600 - BATCH - 7


def test_nothing_is_due_by_time_alone_when_long_jobs_run(planned: Planned) -> None:
    planned.run.add(job("a"), job("b"))
    planned.run.run(0.0, "a", "b")
    assert len(planned.said(5.0)) == 2
    assert planned.plan.next_due_at(START + 5.0) is None


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (CauseKind.EXIT_CODE, ("FAILED", "Failed")),
        (CauseKind.LAUNCH_ERROR, ("FAILED", "Failed")),
        (CauseKind.TIMEOUT, ("FAILED", "TimedOut")),
        (CauseKind.DEPENDENCY, ("FAILED", "UpstreamFailed")),
        (CauseKind.CANCELLED, ("CANCELLED", "Cancelled")),
        (CauseKind.LOST_NODE, ("CRASHED", "Crashed")),
        (CauseKind.DRIVER_LOST, ("CRASHED", "Crashed")),
    ],
)
def test_an_end_is_told_by_its_cause(
    planned: Planned, kind: CauseKind, state: tuple[str, str]
) -> None:
    planned.run.add(job("a"))
    planned.run.run(0.0, "a")
    planned.run.end(1.0, "a", kind, "because of this")
    [report] = planned.said(1.0)
    assert (tuple(report.state), report.message) == (state, "because of this")


def test_a_spared_job_is_told_as_cached(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.run.skip(0.1, "a")
    [report] = planned.said(0.2)
    assert tuple(report.state) == ("COMPLETED", "Cached")
    assert report.started_at is None
    assert report.ended_at == START + 0.1


def test_states_follow_each_other_in_time_even_if_the_clock_is_set_back(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.run.run(10.0, "a")
    planned.run.pass_(4.0, "a")
    [report] = planned.said(20.0)
    assert report.at > START + 10.0


def test_parents_and_tags_and_retries_come_from_the_list_of_jobs(planned: Planned) -> None:
    planned.run.add(job("build"), job("test", "build", tags=("nightly",), retries=2))
    planned.run.pass_(0.1, "build")
    planned.run.pass_(0.2, "test")
    reports = {report.key: report for report in planned.said(1.0)}
    assert reports["test"].parents == ("build",)
    assert reports["test"].tags == ("nightly",)
    assert reports["test"].retries == 2
    assert reports["build"].parents == ()


def told_parents(planned: Planned) -> dict[str, int]:
    """Return how many parents each job is told with."""
    planned.source.read(START)
    return {report.key: len(report.parents) for report in planned.said(10.0)}


def test_every_job_of_a_large_regression_is_told_with_all_of_its_parents(tmp_path: Path) -> None:
    planned = Planned(tmp_path)
    tests = [job(f"test-{number}", "build") for number in range(8_000)]
    merge = job("merge", *(one.id for one in tests))
    planned.run.add(job("build"), *tests, merge)
    parents = told_parents(planned)
    assert parents["merge"] == 8_000
    assert parents["test-7999"] == 1


def test_a_graph_with_more_arrows_than_a_page_can_draw_is_told_with_fewer(tmp_path: Path) -> None:
    width = 60
    planned = Planned(tmp_path)
    layers = [[f"layer-{depth}-{number}" for number in range(width)] for depth in range(5)]
    planned.run.add(*(job(name) for name in layers[0]))
    for earlier, later in pairwise(layers):
        planned.run.add(*(job(name, *earlier) for name in later))
    parents = told_parents(planned)
    assert all(parents[name] == width for name in layers[1])
    assert {parents[name] for name in layers[2]} == {width, 1}
    assert {parents[name] for name in layers[4]} == {1}
    assert sum(parents.values()) <= PATHS


# -- how far the server is -------------------------------------------------------------------


def test_the_confirmed_offset_stays_before_the_first_end_that_the_server_lacks(
    planned: Planned,
) -> None:
    planned.run.add(job("a"), job("b"))
    planned.run.pass_(0.1, "a")
    planned.said(0.1)
    before_b = planned.source.offset
    planned.run.pass_(0.2, "b")
    reports = planned.said(0.2)
    plan, end = planned.plan, planned.source.offset
    assert plan.confirmed_offset(end) < before_b  # nobody has confirmed a
    a = TaskRunReport("a", Stage.ENDED, reports[0].state, START)
    plan.confirmed([a])
    assert plan.confirmed_offset(end) == before_b
    plan.confirmed(reports)
    assert plan.confirmed_offset(end) == end
    assert plan.unconfirmed_ends == 0


def test_ends_before_the_confirmed_offset_are_not_told_again(planned: Planned) -> None:
    planned.run.add(job("a"), job("b"))
    planned.run.pass_(0.1, "a")
    planned.said(0.1)
    confirmed = planned.source.offset
    planned.run.pass_(0.2, "b")
    plan = ReportPlan()
    ReportSource(planned.run.directory, plan, confirmed).read(START + 0.2)
    assert [report.key for report in plan.due(START + 1.0, ROOM)] == ["b"]
    assert (plan.task_runs, plan.unconfirmed_ends) == (2, 1)


def test_a_torn_last_line_and_damaged_entries_are_passed_over(planned: Planned) -> None:
    planned.run.add(job("a"))
    planned.run.pass_(0.1, "a")
    planned.run.append_torn('{"at":"2026-01-01T00:00:00Z","event":"job_st')
    assert planned.told(1.0) == {"a": "Completed"}


@pytest.mark.parametrize(
    "entry",
    [
        {"event": "job_status"},
        {"event": "job_status", "at": "yesterday", "job": "a", "to": "passed"},
        {"event": "job_status", "at": "2026-01-01T00:00:00Z", "job": "a", "to": "elsewhere"},
        {"event": "run_ended", "at": "2026-01-01T00:00:00Z", "status": "elsewhere"},
    ],
)
def test_an_entry_that_is_none_is_an_error_that_names_itself(entry: Mapping[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        ReportPlan().apply(entry)


# -- groups --------------------------------------------------------------------------------


def test_above_the_limit_groups_are_told_and_no_single_job(tmp_path: Path) -> None:
    planned = Planned(tmp_path, limit=4)
    tests = [job(f"test-{number}", "build") for number in range(4)]
    planned.run.add(job("build"), *tests)
    planned.run.pass_(1.0, "build")
    [build, waiting] = planned.said(1.0)
    assert (build.name, build.state.name, build.message) == (
        "build (1 jobs)",
        "Completed",
        "1 passed",
    )
    assert (waiting.name, waiting.state.name) == ("test (4 jobs)", "Pending")
    assert waiting.parents == ("build",)
    planned.run.run(2.0, "test-0", "test-1")
    [running] = planned.said(2.0)
    assert (running.state.name, running.started_at) == ("Running", START + 2.0)
    planned.run.pass_(3.0, "test-0", "test-1")
    assert planned.said(3.0) == []
    planned.run.end(4.0, "test-2", CauseKind.EXIT_CODE)
    planned.run.end(5.0, "test-3", CauseKind.CANCELLED)
    [ended] = planned.said(5.0)
    assert (ended.state.name, ended.message) == ("Failed", "2 passed, 1 failed, 1 killed")
    assert (ended.started_at, ended.ended_at) == (START + 2.0, START + 5.0)
    assert planned.plan.task_runs == 2


def test_a_group_tells_its_progress_once_a_minute(tmp_path: Path) -> None:
    planned = Planned(tmp_path, limit=0)
    planned.run.add(job("t-1"), job("t-2"), job("t-3"))
    planned.run.run(0.0, "t-1", "t-2", "t-3")
    assert len(planned.said(0.0)) == 1
    planned.run.pass_(10.0, "t-1")
    assert planned.said(59.0) == []
    assert planned.plan.next_due_at(START + 59.0) == START + 60.0
    [progress] = planned.said(60.0)
    assert (progress.state.name, progress.message) == ("Running", "2 running, 1 passed")


def test_groups_are_told_while_jobs_start_fast(tmp_path: Path) -> None:
    planned = Planned(tmp_path, limit=10)
    planned.burst(0.0)
    [report] = planned.said(0.1)
    assert planned.plan.is_burst(START + 0.1)
    assert (report.key, report.state.name) == ("quick", "Completed")


def test_a_named_group_is_used_and_a_hostile_name_is_made_plain(tmp_path: Path) -> None:
    planned = Planned(tmp_path, limit=0)
    planned.run.add(job("a-1", group="\x1b[31mred\x00"), job("b-1", group="mine"))
    assert [report.key for report in planned.said(0.0)] == ["red�", "mine"]


def test_ids_without_a_pattern_do_not_make_a_group_each(tmp_path: Path) -> None:
    planned = Planned(tmp_path, limit=0)
    names = [f"{first}{second}x" for first in _LETTERS for second in _LETTERS]
    planned.run.add(*(job(name) for name in names))
    reports = planned.said(0.0)
    assert len(reports) == 501
    assert reports[-1].name == f"other groups ({len(names) - 500} jobs)"
    planned.run.pass_(1.0, *names)
    assert {report.state.name for report in planned.said(1.0)} == {"Completed"}


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def test_a_run_that_outgrows_the_limit_keeps_its_jobs_and_tells_later_ones_as_groups(
    tmp_path: Path,
) -> None:
    planned = Planned(tmp_path, limit=3)
    planned.run.add(job("a-1"), job("a-2"))
    planned.run.pass_(0.1, "a-1", "a-2")
    assert set(planned.told(0.2)) == {"a-1", "a-2"}
    planned.run.add(job("a-3"), job("a-4"))
    planned.run.pass_(0.3, "a-3", "a-4")
    [group] = planned.said(0.4)
    assert (group.is_group, group.name) == (True, "a (2 jobs)")
    # Whoever goes on from the cursor says the same.
    later = ReportPlan(limit=3, singles=planned.plan.singles)
    ReportSource(planned.run.directory, later).read(START + 1)
    reports = [*later.due(START + 5, ROOM), *later.due(START + 5, ROOM)]
    assert {report.key for report in reports} == {"a-1", "a-2", "a"}


def test_groups_that_need_each_other_are_drawn_without_a_cycle(tmp_path: Path) -> None:
    planned = Planned(tmp_path, limit=0)
    planned.run.add(job("a-1"), job("b-1", "a-1"), job("a-2", "b-1"))
    parents = {report.key: report.parents for report in planned.said(0.0)}
    assert parents == {"a": (), "b": ("a",)}
