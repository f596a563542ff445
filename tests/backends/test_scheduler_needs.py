"""Which jobs run after which, and what a failure means for those that wait."""

from __future__ import annotations

from support.manual_run import ManualRun, job

from backends.fake_outcome import fails, hangs, passes
from tasks.status import CauseKind, JobStatus


def test_a_job_starts_when_the_last_of_its_needs_has_passed() -> None:
    run = ManualRun({"a": passes(1), "b": passes(2)})
    run.add(job("c", "a", "b"), job("a"), job("b"))
    run.advance(1.0)
    assert run.watcher.way("c") == "S"
    run.advance(1.0)
    assert run.watcher.way("c") == "SQR"


def test_a_need_that_is_named_twice_counts_as_one() -> None:
    run = ManualRun()
    run.add(job("a"), job("b", "a", "a"))
    run.advance(1.0)
    assert run.watcher.way("b") == "SQR"


def test_a_failure_ends_its_dependents_at_once_and_names_need_and_root() -> None:
    run = ManualRun({"a": fails(), "other": hangs()})
    run.add(job("a"), job("other"), job("b", "a", "other"), job("c", "b"))
    b, c = run.watcher.end("b"), run.watcher.end("c")
    assert b.after is c.after is JobStatus.KILLED
    assert b.cause is not None
    assert b.cause.kind is CauseKind.DEPENDENCY
    assert b.cause.message == 'needs "a", which failed'
    assert dict(b.cause.context) == {"need": "a", "root": "a"}
    assert c.cause is not None
    assert c.cause.message == 'needs "b", which was killed, because of "a"'
    assert dict(c.cause.context) == {"need": "b", "root": "a"}
    assert c.attempt == 0
    assert run.started == ["a", "other"]


def test_a_timeout_ends_dependents_too() -> None:
    run = ManualRun({"a": hangs()})
    run.add(job("a", timeout_s=5.0), job("b", "a"))
    run.advance(5.0)
    cause = run.watcher.end("b").cause
    assert cause is not None
    assert cause.message == 'needs "a", which was killed'


def test_a_failure_at_the_head_of_a_chain_of_fifty_thousand_ends_all_without_recursion() -> None:
    run = ManualRun({"j0": fails()})
    run.add(*(job(f"j{i}", *([f"j{i - 1}"] if i else [])) for i in range(50_000)))
    assert run.finish() == {"passed": 0, "failed": 1, "killed": 49_999, "skipped": 0}
    cause = run.watcher.end("j49999").cause
    assert cause is not None
    assert cause.context["root"] == "j0"


def test_any_runs_after_all_needs_have_ended_if_one_passed() -> None:
    run = ManualRun({"a": fails(1, 1.0), "b": passes(2.0), "c": fails(1, 3.0)})
    run.add(job("a"), job("b"), job("c"), job("merge", "a", "b", "c", needs_policy="any"))
    run.advance(2.0)
    assert run.watcher.way("merge") == "S"
    run.advance(1.0)
    assert run.watcher.way("merge") == "SQR"


def test_any_is_killed_when_no_need_passed() -> None:
    run = ManualRun({"a": fails(), "b": fails()})
    run.add(job("a"), job("b"), job("merge", "a", "b", needs_policy="any"), job("c", "merge"))
    end = run.watcher.end("merge")
    assert end.after is JobStatus.KILLED
    assert end.cause is not None
    assert end.cause.kind is CauseKind.DEPENDENCY
    assert end.cause.message == 'none of its 2 needs passed; the last was "b"'
    assert run.watcher.way("c") == "SK"


def test_any_without_needs_runs() -> None:
    run = ManualRun()
    run.add(job("a", needs_policy="any"))
    assert run.watcher.way("a") == "SQR"


def test_any_looks_at_needs_that_ended_before_it_was_added() -> None:
    run = ManualRun({"bad": fails(), "slow": fails(1, 5.0)})
    run.add(job("bad"), job("good"), job("slow"))
    run.advance(1.0)
    run.add(
        job("runs", "bad", "good", needs_policy="any"),
        job("waits", "good", "slow", needs_policy="any"),
        job("hopes", "bad", "slow", needs_policy="any"),
        job("never", "bad", needs_policy="any"),
    )
    assert run.watcher.way("runs") == "SQR"
    assert run.watcher.way("waits") == "S"
    assert run.watcher.way("hopes") == "S"
    assert run.watcher.way("never") == "SK"
    run.advance(4.0)
    assert run.watcher.way("waits") == "SQR"
    assert run.watcher.way("hopes") == "SK"


def test_any_with_a_hold_waits_for_the_release_whatever_its_needs_did() -> None:
    run = ManualRun({"bad": fails()})
    run.add(
        job("bad"),
        job("good"),
        job("a", "bad", needs_policy="any"),
        job("b", "good", "bad", needs_policy="any"),
        held=["a", "b"],
    )
    run.advance(1.0)
    assert (run.watcher.way("a"), run.watcher.way("b")) == ("S", "S")
    run.scheduler.release("a")
    run.scheduler.release("b")
    run.idle()
    assert (run.watcher.way("a"), run.watcher.way("b")) == ("SK", "SQR")


def test_a_job_added_with_a_failed_need_takes_its_own_dependents_along() -> None:
    run = ManualRun({"bad": fails()})
    run.add(job("bad"))
    run.add(job("c", "b"), job("b", "bad"), job("d", "b", needs_policy="any"))
    assert [run.watcher.way(each) for each in "bcd"] == ["SK", "SK", "SK"]
    cause = run.watcher.end("c").cause
    assert cause is not None
    assert cause.context["root"] == "bad"
