"""Failures that nobody has looked at: a flow that has one must not read as passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flows.futures import JobFuture
from tasks.errors import HoldfastError
from tasks.status import CauseKind

_NAMED_IN_MESSAGE = 10


class UnseenFailureError(HoldfastError):
    """Jobs or tasks of a flow did not pass, and nobody asked for their results."""

    exit_code = 1

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        count = len(self.failures)
        shown = list(self.failures[:_NAMED_IN_MESSAGE])
        if count > len(shown):
            shown.append(f"and {count - len(shown)} more")
        subject = "a job or task" if count == 1 else f"{count} jobs or tasks"
        super().__init__(
            f"{subject} of the flow did not pass and nobody asked for the result "
            "(call result() or read the state of each future): " + "; ".join(shown)
        )

    def __reduce__(self) -> tuple[type[UnseenFailureError], tuple[tuple[str, ...]]]:
        # Prefect stores the exceptions of flows: it must survive the way there and back.
        return type(self), (self.failures,)


class SeenFailures:
    """Remembers which failed jobs somebody has looked at.

    Who looks at a job that was killed because a job that it needs failed has been told of that
    one too.  ``future_of`` finds the future of a job by its id.
    """

    def __init__(self, future_of: Callable[[str], JobFuture | None]) -> None:
        self._future_of = future_of
        self._seen: set[str] = set()

    def add(self, future: JobFuture) -> None:
        """Somebody has seen how this job ended."""
        todo: list[JobFuture | None] = [future]
        while todo:
            next_one = todo.pop()
            ended = next_one.ended if next_one is not None else None
            if next_one is None or ended is None or ended.passed or ended.id in self._seen:
                continue
            self._seen.add(ended.id)
            if ended.cause is not None and ended.cause.kind is CauseKind.DEPENDENCY:
                todo += map(self._future_of, next_one.job.needs)

    def missing(self, futures: Iterable[JobFuture]) -> list[str]:
        """Return, in words, each job that did not pass and that nobody has looked at."""
        return [
            ended.in_words()
            for future in futures
            if (ended := future.ended) is not None
            and not ended.passed
            and ended.id not in self._seen
        ]
