"""What a progress display shows at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from observers.counts import Counts
from tasks.durations import age_text
from tasks.status import JobStatus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts of the run and of its groups, and what the run waits for; changes no more."""

    run: str
    total: Counts
    groups: Sequence[tuple[str, Counts]]
    oldest: Sequence[tuple[str, str]]
    """The jobs that have run longest, each with its age in words."""
    note: str = ""
    """What holds for the whole run: that it is paused, or being stopped, and by whom."""

    def counts_in_words(self) -> str:
        """Return ``12 of 100 ended: 10 passed, 2 failed; 8 running, 80 queued``."""
        ended = ", ".join(_in_words(self.total, _ENDS))
        still_open = ", ".join(_in_words(self.total, _OPEN))
        text = f"{self.total.ended} of {self.total.total} ended"
        return text + (f": {ended}" if ended else "") + (f"; {still_open}" if still_open else "")

    def waits_for(self) -> str:
        """Return ``test-7 (43 s), test-9 (41 s), 6 more``; empty where no job is running."""
        more = self.total[JobStatus.RUNNING] - len(self.oldest)
        named = [f"{job_id} ({age_text})" for job_id, age_text in self.oldest]
        return ", ".join([*named, f"{more} more"] if more > 0 else named)


_ENDS = (JobStatus.PASSED, JobStatus.FAILED, JobStatus.KILLED)
_OPEN = (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.SCHEDULED)


def _in_words(counts: Counts, statuses: Sequence[JobStatus]) -> list[str]:
    return [f"{counts[status]} {status.value}" for status in statuses if counts[status]]


def ages(started: Sequence[tuple[str, float]], now: float) -> list[tuple[str, str]]:
    """Return each job with its age in words."""
    return [(job_id, age_text(now - at)) for job_id, at in started]
