"""What is due happens in order, once, and what was cancelled does not pile up."""

from __future__ import annotations

from backends.keeper.deadlines import Deadlines


def test_actions_happen_in_order_of_their_times_and_only_when_due() -> None:
    done: list[str] = []
    deadlines = Deadlines()
    deadlines.add(3.0, lambda: done.append("late"))
    deadlines.add(1.0, lambda: done.append("first"))
    deadlines.add(2.0, lambda: done.append("second"))
    deadlines.run_due(2.0)
    assert done == ["first", "second"]
    assert deadlines.next_at() == 3.0
    deadlines.run_due(3.0)
    assert (done[-1], deadlines.next_at()) == ("late", None)


def test_a_cancelled_action_never_happens() -> None:
    done: list[str] = []
    deadlines = Deadlines()
    deadline = deadlines.add(1.0, lambda: done.append("x"))
    deadlines.cancel(deadline)
    deadlines.cancel(deadline)
    deadlines.cancel(None)
    assert (deadlines.next_at(), len(deadlines)) == (None, 0)
    deadlines.run_due(5.0)
    assert done == []


def test_an_action_may_cancel_the_next_one() -> None:
    done: list[str] = []
    deadlines = Deadlines()
    second = deadlines.add(2.0, lambda: done.append("second"))
    deadlines.add(1.0, lambda: deadlines.cancel(second))
    deadlines.run_due(2.0)
    assert done == []


def test_long_limits_of_short_jobs_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for _ in range(10_000):
        deadlines.cancel(deadlines.add(3600.0, lambda: None))
    assert len(deadlines._heap) < 200
