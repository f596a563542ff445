from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.lineage import (
    Effect,
    Fate,
    Lineage,
    Update,
    children_of,
    children_of_several,
    in_order,
)

SUNK = Update(Fate.SUNK)
FILTERED = Update(Fate.FILTERED)


def divided(item, count: int) -> Update:
    return Update(Fate.DIVIDED, children_of(item, count))


def opened(count: int, source: str = "s"):
    """Return a lineage with one source that gave ``count`` items."""
    lineage = Lineage()
    root = lineage.open(source)
    items = [lineage.add(root, place) for place in range(count)]
    lineage.update(root, Update(Fate.DIVIDED))
    return lineage, items


def test_a_source_is_done_when_all_of_its_items_have_arrived_or_were_filtered():
    lineage, (one, two) = opened(2)
    assert not lineage.is_done("s")
    lineage.update(one, SUNK)
    assert not lineage.is_done("s")
    lineage.update(two, FILTERED)
    assert lineage.is_done("s")


def test_a_source_without_items_is_done():
    lineage, _ = opened(0)
    assert lineage.is_done("s")


def test_an_item_that_became_several_counts_for_each_of_them():
    """Sabotage: count a fan-out once."""
    lineage, (item,) = opened(1)
    lineage.update(item, divided(item, 3))
    for child in children_of(item, 3):
        assert not lineage.is_done("s")
        lineage.update(child, SUNK)
    assert lineage.is_done("s")


def test_a_failed_item_keeps_its_source_open():
    lineage, (one, two) = opened(2)
    lineage.update(one, Update(Fate.FAILED, reason="no"))
    lineage.update(two, SUNK)
    assert not lineage.is_done("s")
    assert lineage.failures("s") == {one: "no"}
    assert lineage.unanswered("s") == []


def test_an_item_of_which_nothing_was_said_keeps_its_source_open():
    lineage, (one, two) = opened(2)
    lineage.update(one, SUNK)
    assert lineage.unanswered("s") == [two]


def test_the_same_update_again_changes_nothing():
    """Sabotage: count every update."""
    lineage, (one, _) = opened(2)
    assert lineage.update(one, SUNK).effect is Effect.APPLIED
    assert lineage.update(one, SUNK).effect is Effect.REPEATED
    assert not lineage.is_done("s")


def test_a_correction_takes_the_place_of_what_was_said_before():
    lineage, (item,) = opened(1)
    lineage.update(item, divided(item, 2))
    first, second = children_of(item, 2)
    lineage.update(first, SUNK)
    change = lineage.update(item, FILTERED)
    assert change.effect is Effect.CORRECTED
    assert first in change.gone
    assert second in change.gone
    assert lineage.is_done("s")


def test_a_failure_that_is_corrected_no_longer_keeps_the_source_open():
    lineage, (item,) = opened(1)
    lineage.update(item, Update(Fate.FAILED, reason="no"))
    assert lineage.update(item, SUNK).effect is Effect.CORRECTED
    assert lineage.is_done("s")
    assert lineage.failures("s") == {}


def test_an_update_of_an_item_that_was_corrected_away_is_ignored():
    lineage, (item,) = opened(1)
    lineage.update(item, divided(item, 2))
    child = children_of(item, 2)[0]
    lineage.update(item, FILTERED)
    assert lineage.update(child, SUNK).effect is Effect.REPEATED
    assert lineage.is_done("s")


def test_an_update_after_completion_is_too_late_and_a_repeat_is_not():
    lineage, (item,) = opened(1)
    lineage.update(item, SUNK)
    lineage.complete("s")
    assert lineage.update(item, SUNK).effect is Effect.REPEATED
    assert lineage.late == []
    assert lineage.update(item, FILTERED, "service").effect is Effect.TOO_LATE
    assert lineage.late == [(item, "service")]


def test_an_item_that_goes_on_after_all_takes_what_came_from_it_back():
    lineage, (item,) = opened(1)
    lineage.update(item, divided(item, 1))
    (child,) = children_of(item, 1)
    lineage.update(child, SUNK)
    assert lineage.is_done("s")
    change = lineage.reopen(item)
    assert change.effect is Effect.CORRECTED
    assert child in change.gone
    assert lineage.unanswered("s") == [item]


def test_names_of_sources_are_never_taken_apart():
    lineage = Lineage()
    names = ["a", "a/0", "a:0", "a.0", "('a', 0)", ""]
    roots = [lineage.open(name) for name in names]
    for root in roots:
        lineage.add(root, 0)
    lineage.update((*roots[0], 0), SUNK)
    lineage.update(roots[0], Update(Fate.DIVIDED))
    assert [lineage.is_done(name) for name in names] == [True, *[False] * 5]


def test_outputs_of_several_parents_have_paths_of_their_own():
    a, b = ("s", 0), ("s", 1)
    assert children_of_several([[a], [a, b], [b], [b, a]]) == (
        ("s", 0, 0),
        ("s", 0, 1),
        ("s", 1, 0),
        ("s", 1, 1),
    )


def test_items_are_ordered_as_the_tree_they_form():
    paths = [("s", 10), ("s", 2), ("s", 2, 1), ("s", 2, 0, 5), ("s", 0)]
    assert in_order(paths) == [("s", 0), ("s", 2), ("s", 2, 0, 5), ("s", 2, 1), ("s", 10)]


def test_completed_sources_are_forgotten_in_the_end():
    lineage = Lineage()
    for number in range(3_000):
        root = lineage.open(str(number))
        for place in range(100):
            lineage.update(lineage.add(root, place), SUNK)
        lineage.update(root, Update(Fate.DIVIDED))
        lineage.complete(str(number))
    assert 0 < len(lineage._complete) < 1_100


choices = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.one_of(
            st.just(SUNK),
            st.just(FILTERED),
            st.just(Update(Fate.FAILED, reason="no")),
            st.integers(0, 3),
            st.just("reopen"),
        ),
    ),
    max_size=60,
)


@given(st.integers(0, 4), choices)
def test_after_any_updates_the_count_is_that_of_the_items_without_an_end(count, updates):
    """The counter against a walk over the whole tree, which needs no counting."""
    lineage, items = opened(count)
    known = list(items)
    for number, update in updates:
        if not known:
            break
        item = known[number % len(known)]
        if update == "reopen":
            lineage.reopen(item)
        elif isinstance(update, int):
            lineage.update(item, divided(item, update))
            known += [child for child in children_of(item, update) if child not in known]
        else:
            lineage.update(item, update)
    state = lineage._sources["s"]
    living = set()
    waiting = list(items)
    while waiting:
        item = waiting.pop()
        fate = state.fates.get(item)
        if fate is None or fate.fate is Fate.FAILED:
            living.add(item)
        waiting += fate.children if fate is not None else ()
    assert state.alive == living
    assert state.count == len(living)
    assert lineage.is_done("s") is (not living)
