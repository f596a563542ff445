"""Random graphs, limits, outcomes and interventions: what must hold whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support.manual_run import ManualRun, RecordingBackend, job

from backends.base import Completion, Launch
from backends.fake_outcome import (
    FakeOutcome,
    cannot_launch,
    fails,
    hangs,
    is_preempted,
    passes,
    runs_out_of_memory,
)
from backends.scheduler import Limits, Scheduler
from backends.scheduling.job_table import QUEUED
from backends.scheduling.ready_queue import JobKind
from tasks.spec import JobRecord
from tasks.status import CauseKind, JobStatus

LICENCES, MEMORY, GPUS = 3, 5, ("a", "b")
RESOURCES = {"licence": LICENCES, "memory": MEMORY, "gpu": GPUS}

durations = st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0])
outcomes = st.one_of(
    st.builds(passes, durations),
    st.builds(passes, durations),
    st.builds(lambda seconds: fails(1, seconds), durations),
    st.builds(lambda seconds: fails(75, seconds), durations),
    st.builds(lambda seconds: replace(passes(seconds), ignores_sigterm=True), durations),
    st.sampled_from([hangs(), hangs(True), cannot_launch(), is_preempted(), runs_out_of_memory()]),
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "licence": st.integers(0, LICENCES),
        "memory": st.integers(1, MEMORY),
        "gpu": st.integers(0, len(GPUS)),
    },
)


@dataclass
class Plan:
    """One random run."""

    batches: list[list[JobRecord]]
    """Added at once, one second apart."""
    outcomes: dict[str, list[FakeOutcome]]
    limits: Limits
    fail_fast: bool
    durations_s: dict[str, float]
    spared: set[str]
    interventions: dict[int, list[tuple[str, Any]]]
    """By half-seconds of the run."""

    @property
    def jobs(self) -> list[JobRecord]:
        return [each for batch in self.batches for each in batch]

    def outcome(self, launch: Launch) -> FakeOutcome:
        made = self.outcomes[launch.job.id]
        return made[min(launch.attempt, len(made)) - 1]


@st.composite
def random_jobs(draw: st.DrawFn, number: int) -> JobRecord:
    most_needs = draw(st.sampled_from([0, 0, 1, 3])) if number else 0
    needs = draw(st.lists(st.integers(0, number - 1), max_size=most_needs)) if most_needs else []
    rest: dict[str, Any] = {"timeout_s": draw(st.sampled_from([2.0, 4.0]))}
    if draw(st.integers(0, 3)):
        rest["resources"] = draw(requests)
    for chosen, options in (
        ("weight", st.integers(-2, 2)),
        ("needs_policy", st.just("any")),
        ("retries", st.integers(1, 3)),
        ("retry_delay_s", st.just(1.0)),
        ("retry_exit_codes", st.just((75,))),
        ("backend", st.just("other")),
    ):
        if draw(st.integers(0, 3)) == 0:
            rest[chosen] = draw(options)
    return job(f"j{number}", *(f"j{need}" for need in needs), **rest)


@st.composite
def random_interventions(draw: st.DrawFn, ids: list[str]) -> dict[int, list[tuple[str, Any]]]:
    kinds = st.one_of(
        st.tuples(st.just("kill_all"), st.sampled_from([None, 0.0, 1.0])),
        st.tuples(st.just("kill"), st.lists(st.sampled_from(ids), max_size=3)),
        st.tuples(st.just("pause"), st.none()),
        st.tuples(st.just("unpause"), st.none()),
        st.tuples(st.just("max_parallel"), st.integers(1, 5)),
        st.tuples(st.just("licence"), st.integers(0, LICENCES)),
    )
    return draw(st.dictionaries(st.integers(0, 8), st.lists(kinds, max_size=2), max_size=4))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    jobs = [draw(random_jobs(number)) for number in range(draw(st.integers(1, 20)))]
    ids = [each.id for each in jobs]
    cut = draw(st.integers(0, len(jobs)))
    return Plan(
        batches=[draw(st.permutations(part)) for part in (jobs[:cut], jobs[cut:])],
        outcomes={each: draw(st.lists(outcomes, min_size=1, max_size=3)) for each in ids},
        limits=Limits(
            max_parallel=draw(st.one_of(st.none(), st.integers(1, 5))),
            backends=draw(st.sampled_from([{}, {"other": 1}, {"fake": 2}])),
            resources=RESOURCES,
        ),
        fail_fast=draw(st.integers(0, 3)) == 0,
        durations_s=draw(st.dictionaries(st.sampled_from(ids), st.sampled_from([1.0, 5.0, 9.0]))),
        spared=set(draw(st.lists(st.sampled_from(ids), max_size=2))),
        interventions=draw(random_interventions(ids)),
    )


class Ledger:
    """What runs, as the backends see it, and what every launch must respect."""

    def __init__(self, plan: Plan, run: ManualRun) -> None:
        self.plan = plan
        self.run = run
        self.out: dict[int, Launch] = {}
        self.order: list[tuple[str, int]] = []
        for name, backend in run.backends.items():
            self._spy_on(name, backend)

    def _spy_on(self, name: str, backend: RecordingBackend) -> None:
        launch, completed = backend.launch, backend._completed

        def spying_launch(launches: Sequence[Launch]) -> None:
            for each in launches:
                assert (each.job.backend or "fake") == name
                assert each.number not in self.out
                self.out[each.number] = each
                self.order.append((each.job.id, each.attempt))
                self._check_needs(each.job)
            self._check_limits()
            launch(launches)

        def spying_completed(completions: Sequence[Completion]) -> None:
            for each in completions:
                del self.out[each.number]
            completed(completions)

        backend.launch, backend._completed = spying_launch, spying_completed  # type: ignore[method-assign]

    def _check_needs(self, each: JobRecord) -> None:
        statuses = [self.run.scheduler.status(need) for need in each.needs]
        if each.needs_policy == "all":
            assert all(status is JobStatus.PASSED for status in statuses)
        else:
            assert all(status.is_end for status in statuses)
            assert not statuses or JobStatus.PASSED in statuses

    def _check_limits(self) -> None:
        out = self.out.values()
        for name, most in self.plan.limits.backends.items():
            assert sum((each.job.backend or "fake") == name for each in out) <= most
        used = Counter[str]()
        for each in out:
            used.update(each.job.resources)
        assert used["licence"] <= LICENCES
        assert used["memory"] <= MEMORY
        ids = [gpu for each in out for gpu in each.resources.get("gpu", ())]
        assert len(ids) == len(set(ids)) == used["gpu"]
        assert set(ids) <= set(GPUS)


class PassCheck:
    """Holds each pass over the ready jobs against what the order of priorities demands."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._queue = scheduler._engine._ready
        self._status = scheduler._table.status
        self._kinds = scheduler._intake.kinds
        self._supplies = scheduler._intake.supplies.all
        self._take = self._queue.take
        self._queue.take = self.take  # type: ignore[method-assign]

    def take(self) -> list[tuple[JobKind, list[int]]]:
        waiting = sorted(
            (key, number, kind)
            for kind in self._kinds
            for key, number in kind.jobs
            if self._status[number] == QUEUED
        )
        free = self._free()
        taken = self._take()
        started = [number for _, numbers in taken for number in numbers]
        assert len(started) == len(set(started))
        for kind, _ in taken:
            assert all(supply.in_use <= supply.most for supply, _ in kind.request)
        self._check_overtaking(waiting, started, free)
        left = [(number, kind) for _, number, kind in waiting if number not in set(started)]
        self._check_that_each_lacks_something(left)
        return taken

    def _free(self) -> dict[str, int]:
        return {
            supply.what: min(
                supply.limit - supply.in_use,
                supply.pool.free if supply.pool else supply.limit,
            )
            for supply in self._supplies
        }

    def _check_overtaking(
        self,
        waiting: list[tuple[Any, int, JobKind]],
        started: list[int],
        free: dict[str, int],
    ) -> None:
        """No job takes what one before it waits for, nor what the first of all has reserved."""
        kind_of = {number: kind for _, number, kind in waiting}
        place = {number: index for index, (_, number, _) in enumerate(waiting)}
        assert started == sorted(started, key=place.__getitem__)
        left = Counter(free)
        passed_over = [number for _, number, _ in waiting if number not in set(started)]
        for number in started:
            wanted: Counter[str] = Counter()
            for index, earlier in enumerate(passed_over):
                if place[earlier] > place[number]:
                    break
                lacking = {
                    supply.what
                    for supply, amount in kind_of[earlier].request
                    if left[supply.what] - wanted[supply.what] < amount
                }
                takes = {supply.what for supply, _ in kind_of[number].request}
                if not kind_of[earlier].is_impossible:
                    assert lacking - takes, "overtaken on all that it lacks"
                    for supply, amount in kind_of[earlier].request:
                        wanted[supply.what] += 0 if supply.is_slot else amount
                        if index == 0 and not supply.is_slot and supply.what in takes:
                            taken = dict(kind_of[number].request)[supply]
                            assert left[supply.what] - taken >= amount, "reserved by the first"
            for supply, amount in kind_of[number].request:
                left[supply.what] -= amount

    def _check_that_each_lacks_something(self, left: list[tuple[int, JobKind]]) -> None:
        """Nothing lies idle that the first waiting job, or those behind it, could use."""
        free, wanted = self._free(), Counter[str]()
        for _, kind in left:
            assert any(
                free[supply.what] - wanted[supply.what] < amount for supply, amount in kind.request
            ), "it could start"
            if not kind.is_impossible:
                for supply, amount in kind.request:
                    wanted[supply.what] += 0 if supply.is_slot else amount


def intervene(run: ManualRun, what: str, how: Any) -> None:
    scheduler = run.scheduler
    if what == "kill_all":
        scheduler.kill_all("somebody", "enough", grace_s=how)
    elif what == "kill":
        known = [each for each in how if each in scheduler._table.numbers]
        scheduler.kill(known, "somebody", "not these")
    elif what == "max_parallel":
        scheduler.set_limits(max_parallel=how)
    elif what == "licence":
        scheduler.set_limits(resources={"licence": how})
    else:
        getattr(scheduler, what)("somebody")


def execute(plan: Plan) -> tuple[ManualRun, Ledger]:
    """Run a plan to its end."""
    run = ManualRun(
        plan.outcome,
        backends=("fake", "other"),
        limits=plan.limits,
        fail_fast=plan.fail_fast,
        durations_s=plan.durations_s,
    )
    ledger = Ledger(plan, run)
    PassCheck(run.scheduler)
    for half_second in range(9):
        if half_second in (0, 2):
            run.scheduler.add(plan.batches[half_second // 2], passed=plan.spared)
        for what, how in plan.interventions.get(half_second, []):
            intervene(run, what, how)
        run.idle()
        run.advance(0.5)
    run.scheduler.unpause("the test")
    run.scheduler.set_limits(resources={"licence": LICENCES})
    run.finish()
    return run, ledger


usual = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(usual, max_examples=150)
@given(plans())
def test_whatever_happens_each_job_ends_once_within_the_limits_and_in_order(plan: Plan) -> None:
    check(plan)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(usual, max_examples=3_000)
@given(plans())
def test_whatever_happens_in_three_thousand_runs(plan: Plan) -> None:
    check(plan)


def check(plan: Plan) -> None:
    """Run a plan and hold its end against it."""
    run, ledger = execute(plan)
    ends = Counter(each.job.id for each in run.watcher.events if each.after.is_end)
    assert ends == Counter(each.id for each in plan.jobs)
    assert not ledger.out
    counts = run.scheduler.counts()
    by_status = Counter(status.value for status in run.watcher.status.values())
    assert {name: counts[name] for name in by_status} == dict(by_status)
    assert counts["passed"] + counts["failed"] + counts["killed"] == len(plan.jobs)
    assert counts["skipped"] == len(plan.spared & set(run.watcher.status)) - len(
        [each for each in plan.spared if run.watcher.way(each) != "SP"]
    )
    for each in plan.jobs:
        check_cause(run, each)


def check_cause(run: ManualRun, each: JobRecord) -> None:
    """Every end that is no pass has a cause, and ``dependency`` has a need to show for it."""
    end = run.watcher.end(each.id)
    assert (end.cause is None) == (end.after is JobStatus.PASSED)
    if end.cause is not None and end.cause.kind is CauseKind.DEPENDENCY:
        needs = [run.watcher.status[need] for need in each.needs]
        assert any(status in (JobStatus.FAILED, JobStatus.KILLED) for status in needs)
        assert end.cause.context["need"] in each.needs or each.needs_policy == "any"
        event("a dependency failed")
    if end.attempt > 1:
        event("a job was retried")


@settings(usual, max_examples=40)
@given(plans())
def test_the_same_run_comes_out_the_same_twice(plan: Plan) -> None:
    first, second = execute(plan), execute(plan)
    assert first[1].order == second[1].order
    assert first[0].watcher.all == second[0].watcher.all
