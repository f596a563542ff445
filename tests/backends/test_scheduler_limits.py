"""How many jobs run at a time, on what, and who goes first when something is scarce."""

from __future__ import annotations

import pytest
from support.manual_run import ManualRun, job

from backends.fake_outcome import fails, hangs, passes
from backends.scheduler import Limits
from backends.scheduling.priority import in_submission_order
from tasks.errors import InputError


def waiting(run: ManualRun) -> list[str]:
    return [str(each) for each in run.scheduler.waiting_for()]


def test_no_more_jobs_run_at_a_time_than_the_run_allows() -> None:
    run = ManualRun(limits=Limits(max_parallel=2))
    run.add(*(job(f"j{i}") for i in range(5)))
    assert run.running == ["j0", "j1"]
    assert waiting(run) == ["3 jobs wait for a slot (2 of 2 in use)"]
    run.advance(1.0)
    assert run.running == ["j2", "j3"]


def test_each_backend_has_a_limit_of_its_own() -> None:
    run = ManualRun(
        backends=("fake", "other"), limits=Limits(max_parallel=4, backends={"other": 1})
    )
    run.add(*(job(f"o{i}", backend="other") for i in range(3)), *(job(f"f{i}") for i in range(5)))
    assert run.backends["other"].batches == [["o0"]]
    assert run.backends["fake"].batches == [["f0", "f1", "f2"]]


def test_a_counted_resource_is_never_overdrawn_and_gets_no_ids() -> None:
    run = ManualRun(limits=Limits(resources={"licence": 3}))
    run.add(*(job(f"j{i}", resources={"licence": 2}) for i in range(2)), job("free"))
    assert run.running == ["j0", "free"]
    assert waiting(run) == ["1 job waits for licence (2 of 3 in use)"]
    assert dict(run.backend.launches[0].resources) == {}


def test_ids_are_handed_out_first_ones_first_and_handed_back_at_the_end_of_the_attempt() -> None:
    run = ManualRun(
        {"a": passes(1), "b": fails(1, 2), "c": passes(9), "d": passes(9)},
        limits=Limits(resources={"gpu": ("2", "0", "1"), "licence": 9}),
    )
    run.add(
        job("a", resources={"gpu": 1, "licence": 1}),
        job("b", resources={"gpu": 2}),
        job("c", resources={"gpu": 1}),
        job("d", resources={"gpu": 2}),
    )
    run.advance(1.0)
    run.advance(1.0)
    handed_out = {launch.job.id: launch.resources for launch in run.backend.launches}
    assert {name: dict(ids) for name, ids in handed_out.items()} == {
        "a": {"gpu": ("2",)},
        "b": {"gpu": ("0", "1")},
        "c": {"gpu": ("2",)},
        "d": {"gpu": ("0", "1")},
    }


def test_ids_of_a_retried_attempt_are_free_for_others() -> None:
    run = ManualRun({"a": [fails(1, 1), passes(1)]}, limits=Limits(resources={"gpu": ("0", "1")}))
    run.add(job("a", retries=1, retry_delay_s=0.5, resources={"gpu": 1}))
    run.advance(1.0)
    run.add(job("b", resources={"gpu": 2}))
    assert "b" in run.running


def test_a_request_for_nothing_of_a_resource_needs_none_of_it() -> None:
    run = ManualRun(limits=Limits(resources={"gpu": ()}))
    run.add(job("a", resources={"gpu": 0}))
    assert run.running == ["a"]
    assert dict(run.backend.launches[0].resources) == {}


def test_heavier_jobs_go_first_and_equal_ones_in_the_order_of_submission_not_of_their_ids() -> None:
    run = ManualRun(limits=Limits(max_parallel=1))
    run.add(job("z"), job("y"), job("x", weight=5), job("b", weight=-1), job("a", weight=5))
    run.finish()
    assert run.started == ["x", "a", "z", "y", "b"]


def test_jobs_that_become_ready_together_start_in_the_order_of_submission() -> None:
    run = ManualRun({"root": passes(1)}, limits=Limits(max_parallel=1))
    run.add(job("c", "root"), job("a", "root"), job("root"), job("b", "root"))
    run.finish()
    assert run.started == ["root", "c", "a", "b"]


def test_of_equal_weight_the_job_with_the_longest_way_to_go_is_first() -> None:
    durations_s = {"short": 50.0, "long": 1.0, "behind": 100.0, "last": 30.0}
    run = ManualRun(limits=Limits(max_parallel=1), durations_s=durations_s)
    run.add(job("unknown"), job("short"), job("long"), job("behind", "long"), job("last", "short"))
    run.finish()
    assert run.started == ["long", "behind", "short", "last", "unknown"]


def test_weight_comes_before_the_critical_path() -> None:
    run = ManualRun(limits=Limits(max_parallel=1), durations_s={"long": 100.0})
    run.add(job("long"), job("heavy", weight=1))
    run.finish()
    assert run.started == ["heavy", "long"]


def test_jobs_that_are_added_later_lengthen_the_ways_of_those_that_still_wait() -> None:
    durations_s = {"root": 1.0, "a": 10.0, "b": 5.0, "c": 1.0, "tail": 100.0}
    run = ManualRun(limits=Limits(max_parallel=1), durations_s=durations_s)
    run.add(job("root"), job("a", "root"), job("b", "root"))
    run.add(job("d", "c"), job("c", "b"), job("tail", "c"))
    run.finish()
    assert run.started == ["root", "b", "c", "tail", "a", "d"]


def test_the_priority_function_can_be_replaced() -> None:
    run = ManualRun(limits=Limits(max_parallel=1), priority=lambda job, path_s: job.id)
    run.add(job("c"), job("a"), job("b"))
    run.finish()
    assert run.started == ["a", "b", "c"]
    first_come = ManualRun(limits=Limits(max_parallel=1), priority=in_submission_order)
    first_come.add(job("c"), job("a", weight=9))
    first_come.finish()
    assert first_come.started == ["c", "a"]


def test_a_job_that_waits_for_much_is_not_overtaken_by_many_that_want_little() -> None:
    run = ManualRun(
        {f"small{i}": passes(1.0 + i % 2) for i in range(40)},
        limits=Limits(resources={"licence": 2}),
    )
    small = [job(f"small{i}", resources={"licence": 1}) for i in range(40)]
    run.add(*small[:3], job("big", resources={"licence": 2}), *small[3:])
    run.finish()
    assert run.started[:4] == ["small0", "small1", "small2", "big"]


def test_a_job_that_waits_for_one_thing_does_not_lose_another_meanwhile() -> None:
    """Sabotage: reserve only what the job is short of."""
    run = ManualRun({"a": passes(5)}, limits=Limits(resources={"gpu": 1, "licence": 2}))
    run.add(
        job("a", resources={"gpu": 1}),
        job("both", resources={"gpu": 1, "licence": 2}),
        job("b", resources={"licence": 2}),
    )
    assert run.running == ["a"]


def test_jobs_run_past_a_blocked_one_on_what_it_does_not_wait_for() -> None:
    run = ManualRun(
        {"a": hangs()}, limits=Limits(max_parallel=4, resources={"gpu": 1, "licence": 2})
    )
    run.add(
        job("a", resources={"gpu": 1}),
        job("blocked", resources={"gpu": 1, "licence": 1}),
        job("b", resources={"licence": 1}),
        job("c"),
        job("d", resources={"gpu": 1}),
        job("e", resources={"licence": 1}),
    )
    assert run.running == ["a", "b", "c"]
    assert waiting(run) == [
        "2 jobs wait for gpu (1 of 1 in use)",
        "1 job waits for licence (1 of 2 in use)",
    ]


def test_a_job_that_waits_for_its_backend_keeps_its_licence_free() -> None:
    run = ManualRun(
        {"a": passes(5)},
        backends=("fake", "other"),
        limits=Limits(backends={"other": 1}, resources={"licence": 1}),
    )
    run.add(
        job("a", backend="other"),
        job("b", backend="other", resources={"licence": 1}),
        job("c", resources={"licence": 1}),
    )
    assert run.running == []
    run.advance(5.0)
    assert [launch.job.id for launch in run.backends["other"].launches] == ["a", "b"]


def test_a_late_job_of_higher_priority_goes_before_those_that_wait_already() -> None:
    run = ManualRun({"a": passes(1), "big": passes(9)}, limits=Limits(resources={"licence": 2}))
    run.add(job("a", resources={"licence": 2}), job("old", resources={"licence": 1}))
    run.add(job("big", weight=1, resources={"licence": 2}))
    run.advance(1.0)
    assert run.running == ["big"]
    assert waiting(run) == ["1 job waits for licence (2 of 2 in use)"]


def test_a_killed_job_blocks_nobody_behind_it() -> None:
    run = ManualRun({"a": hangs()}, limits=Limits(resources={"licence": 2}))
    run.add(
        job("a", resources={"licence": 1}),
        job("big", resources={"licence": 2}),
        job("small", resources={"licence": 1}),
    )
    assert run.running == ["a"]
    run.scheduler.kill(["big"], "anna", "no")
    run.add(job("other"))
    assert run.running == ["a", "small", "other"]


def test_limits_can_be_raised_while_the_run_goes_on() -> None:
    run = ManualRun({f"j{i}": hangs() for i in range(9)}, limits=Limits(max_parallel=1))
    run.add(*(job(f"j{i}") for i in range(9)))
    run.scheduler.set_limits(max_parallel=4)
    run.idle()
    assert len(run.running) == 4


def test_a_lowered_limit_holds_as_soon_as_enough_is_handed_back() -> None:
    run = ManualRun(
        {f"j{i}": passes(1.0 + i) for i in range(3)},
        limits=Limits(max_parallel=3, backends={"fake": 9}),
    )
    run.add(*(job(f"j{i}") for i in range(6)))
    run.scheduler.set_limits(backends={"fake": 1})
    run.advance(1.0)
    assert run.running == ["j1", "j2"]
    run.advance(1.0)
    assert run.running == ["j2"]
    run.advance(1.0)
    assert run.running == ["j3"]


def test_a_resource_can_be_taken_away_for_a_while_and_others_go_on() -> None:
    run = ManualRun(limits=Limits(resources={"licence": 2}))
    run.scheduler.set_limits(resources={"licence": 0})
    run.add(
        job("a", resources={"licence": 1}),
        job("b"),
        job("c", "a"),
        job("d", resources={"licence": 1}),
    )
    run.scheduler.finish()
    run.advance(100.0)
    assert run.watcher.way("b") == "SQRP"
    assert waiting(run) == ["2 jobs wait for licence (0 of 0 in use)"]
    run.scheduler.set_limits(resources={"licence": 2})
    assert run.finish()["passed"] == 4


def test_a_raised_limit_admits_requests_that_were_too_large_before() -> None:
    run = ManualRun(limits=Limits(resources={"licence": 2}))
    with pytest.raises(InputError, match="there are only 2"):
        run.scheduler.add([job("a", resources={"licence": 3})])
    run.scheduler.set_limits(resources={"licence": 3})
    run.add(job("a", resources={"licence": 3}))
    assert run.running == ["a"]
    with pytest.raises(InputError, match="there are only 3"):
        run.scheduler.add([job("b", resources={"licence": 4})])


def test_a_job_that_a_lowered_limit_made_impossible_blocks_nobody() -> None:
    run = ManualRun({"small": hangs()}, limits=Limits(resources={"licence": 4}))
    run.scheduler.set_limits(resources={"licence": 2})
    run.add(job("big", resources={"licence": 3}), job("small", resources={"licence": 1}))
    assert run.running == ["small"]
    run.scheduler.set_limits(resources={"licence": 4})
    run.idle()
    assert run.running == ["small", "big"]


def test_ids_can_be_replaced_and_old_ones_vanish_when_they_come_back() -> None:
    run = ManualRun({"a": passes(2)}, limits=Limits(resources={"gpu": ("0", "1")}))
    run.add(job("a", resources={"gpu": 1}))
    run.scheduler.set_limits(resources={"gpu": ("1", "7")})
    run.add(*(job(f"j{i}", resources={"gpu": 1}) for i in range(4)))
    assert run.running == ["a", "j0"], "no more than two are out"
    run.advance(1.0)
    run.advance(1.0)
    ids = [launch.resources["gpu"] for launch in run.backend.launches]
    assert ids == [("0",), ("1",), ("1",), ("1",), ("7",)]


def test_a_number_for_a_resource_with_ids_bounds_how_many_are_out() -> None:
    run = ManualRun(limits=Limits(resources={"gpu": ("0", "1", "2")}))
    run.scheduler.set_limits(resources={"gpu": 1})
    run.add(*(job(f"j{i}", resources={"gpu": 1}) for i in range(3)))
    assert run.running == ["j0"]
    assert waiting(run) == ["2 jobs wait for gpu (1 of 1 in use)"]
    run.scheduler.set_limits(resources={"gpu": 3})
    run.idle()
    assert [launch.resources["gpu"] for launch in run.backend.launches] == [("0",), ("1",), ("2",)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_parallel": 0}, "max_parallel must be at least 1, not 0; to start nothing, pause"),
        ({"backends": {"fake": 0}}, 'the limit of backend "fake" must be at least 1, not 0'),
        ({"resources": {"licence": -1}}, 'resource "licence" must be at least 0, not -1'),
        (
            {"resources": {"license": 1}},
            r'there is no resource "license" \(known: gpu, licence\); did you mean "licence"\?',
        ),
        ({"resources": {"licence": ("a",)}}, 'resource "licence" is counted; give a number'),
        ({"resources": {"gpu": ("1", "1")}}, 'resource "gpu" has the id "1" twice'),
    ],
)
def test_limits_that_make_no_sense_are_refused_and_change_nothing(
    change: dict[str, object], message: str
) -> None:
    run = ManualRun(limits=Limits(max_parallel=2, resources={"licence": 2, "gpu": ("0",)}))
    with pytest.raises(InputError, match=message):
        run.scheduler.set_limits(**change)  # type: ignore[arg-type]
    run.add(*(job(f"j{i}", resources={"licence": 1}) for i in range(3)))
    assert run.running == ["j0", "j1"]


def test_a_thousand_different_requests_cost_no_more_than_their_turn() -> None:
    """Sabotage: look at every kind of job in every pass."""
    from backends.scheduling.ready_queue import JobKind

    visits = 0
    room = JobKind.room

    def counting_room(kind: JobKind):  # type: ignore[no-untyped-def]
        nonlocal visits
        visits += 1
        return room(kind)

    JobKind.room = counting_room  # type: ignore[method-assign]
    try:
        run = ManualRun(limits=Limits(max_parallel=9, resources={"memory_mb": 4_000}))
        run.add(*(job(f"j{i}", resources={"memory_mb": 1_000 + i}) for i in range(1_000)))
        run.finish(step_s=1.0)
    finally:
        JobKind.room = room  # type: ignore[method-assign]
    assert visits < 6_000
