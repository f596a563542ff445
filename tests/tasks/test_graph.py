from __future__ import annotations

import time

import pytest

from tasks.errors import InputError
from tasks.graph import check_graph, graph_problems, topological_order
from tasks.spec import JobRecord


def job(job_id: str, *needs: str) -> JobRecord:
    return JobRecord(job_id, "true", needs)


def test_a_graph_whose_jobs_need_earlier_and_later_ones_is_fine() -> None:
    check_graph([job("a"), job("b", "a", "d"), job("c", "a"), job("d", "c")])


def test_nothing_is_a_graph() -> None:
    check_graph([])


def test_a_cycle_is_named_with_its_path_from_its_first_job() -> None:
    jobs = [job("start"), job("build", "start", "test"), job("test", "build")]
    with pytest.raises(InputError) as error:
        check_graph(jobs)
    assert str(error.value) == (
        'dependency cycle: build -> test -> build; remove one of these "needs"'
    )


def test_a_path_of_a_cycle_goes_from_each_job_to_what_it_needs() -> None:
    problems = graph_problems([job("a", "b"), job("b", "c"), job("c", "a")])
    assert problems == ['dependency cycle: a -> b -> c -> a; remove one of these "needs"']


def test_a_job_that_needs_itself_is_a_cycle() -> None:
    assert graph_problems([job("a", "a")]) == [
        'dependency cycle: a -> a; remove one of these "needs"'
    ]


def test_jobs_behind_a_cycle_are_not_taken_for_a_part_of_it() -> None:
    problems = graph_problems([job("z", "a"), job("y", "z"), job("a", "b"), job("b", "a")])
    assert problems == ['dependency cycle: a -> b -> a; remove one of these "needs"']


def test_each_of_two_separate_cycles_is_named() -> None:
    problems = graph_problems([job("a", "b"), job("b", "a"), job("c", "d"), job("d", "c")])
    assert problems == [
        'dependency cycle: a -> b -> a; remove one of these "needs"',
        'dependency cycle: c -> d -> c; remove one of these "needs"',
    ]


def test_a_cycle_of_a_hundred_thousand_jobs_is_shortened_and_found_without_recursion() -> None:
    count = 100_000
    jobs = [job(f"j{i}", f"j{(i + 1) % count}") for i in range(count)]
    (problem,) = graph_problems(jobs)
    assert problem.startswith("dependency cycle: j0 -> j1 -> ")
    assert problem.endswith(' -> (99980 more) -> j99999 -> j0; remove one of these "needs"')


def test_an_unknown_need_is_named_with_the_nearest_id() -> None:
    problems = graph_problems([job("build"), job("test", "biuld")])
    assert problems == ['job "test" needs "biuld", which does not exist; did you mean "build"?']


def test_an_unknown_need_that_resembles_nothing_is_named() -> None:
    assert graph_problems([job("test", "xyz")]) == [
        'job "test" needs "xyz", which does not exist; add it or remove the need'
    ]


def test_an_id_that_is_used_twice_is_named_once() -> None:
    problems = graph_problems([job("a"), job("a"), job("a")])
    assert problems == ['job id "a" is used twice; ids must differ']


def test_jobs_that_exist_already_may_be_needed_but_not_given_again() -> None:
    known = {"old"}
    assert graph_problems([job("new", "old")], known) == []
    assert graph_problems([job("old")], known) == ['job id "old" is used twice; ids must differ']


def test_all_problems_are_told_at_once() -> None:
    jobs = [job("a"), job("a"), job("b", "nowhere"), job("c", "d"), job("d", "c")]
    with pytest.raises(InputError) as error:
        check_graph(jobs)
    assert len(error.value.problems) == 3


def test_an_order_has_each_job_behind_what_it_needs() -> None:
    jobs = [job("d", "c"), job("a"), job("c", "b", "a"), job("b", "elsewhere")]
    order = topological_order(jobs)
    assert sorted(order) == [0, 1, 2, 3]
    place = {jobs[index].id: at for at, index in enumerate(order)}
    for each in jobs:
        assert all(place[need] < place[each.id] for need in each.needs if need in place)


def test_jobs_in_order_keep_their_order() -> None:
    assert list(topological_order([job("b"), job("a", "b"), job("c")])) == [0, 1, 2]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_check_takes_time_in_proportion_to_the_graph(backwards: bool) -> None:
    """Sabotage: search for cycles anew from each job."""

    def seconds(count: int) -> float:
        jobs = [job(f"j{i}", *([f"j{i - 1}", f"j{i // 2}"] if i else [])) for i in range(count)]
        if backwards:
            jobs.reverse()
        began = time.process_time()
        check_graph(jobs)
        return time.process_time() - began

    seconds(1_000)
    small = min(seconds(5_000) for _ in range(3))
    assert seconds(100_000) < 20 * small * 8  # eight times slower than linear would still pass
