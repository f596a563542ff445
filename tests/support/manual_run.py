"""A scheduler on the fake backend, in the test's own thread, on a clock moved by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from support.manual_clock import ManualClock

from backends.base import Launch
from backends.fake import FakeBackend
from backends.fake_outcome import FakeOutcome, passes
from backends.fake_policy import DeclaredPolicy, FakePolicy
from backends.scheduler import Scheduler
from backends.timers import Timers
from tasks.events import JobChanged, KillRequested, RunPaused, RunUnpaused
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import JobStatus


def job(job_id: str, *needs: str, **rest: Any) -> JobRecord:
    """Return a job record; ``rest`` are its optional fields."""
    return JobRecord(job_id, "true", needs, rest)


class RecordingWatcher:
    """Keeps all it is told, and holds every change against the change before."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.events: list[JobChanged] = []
        self.others: list[KillRequested | RunPaused | RunUnpaused] = []
        self.all: list[object] = []
        self.status: dict[str, JobStatus] = {}

    def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
        for each in jobs:
            assert each.id not in self.status
            self.status[each.id] = JobStatus.SCHEDULED
            self.added.append(each.id)

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        assert events
        for event in events:
            assert self.status[event.job.id] is event.before, event
            assert not event.before.is_end, event
            assert (event.end is not None) == (
                event.after.is_end or event.before is JobStatus.RUNNING
            ), event
            self.status[event.job.id] = event.after
        self.events.extend(events)
        self.all.extend(events)

    def kill_requested(self, event: KillRequested) -> None:
        self.others.append(event)
        self.all.append(event)

    def run_paused(self, event: RunPaused) -> None:
        self.others.append(event)
        self.all.append(event)

    def run_unpaused(self, event: RunUnpaused) -> None:
        self.others.append(event)
        self.all.append(event)

    def of(self, job_id: str) -> list[JobChanged]:
        return [event for event in self.events if event.job.id == job_id]

    def way(self, job_id: str) -> str:
        """Return the letters of the statuses that a job went through."""
        return "S" + "".join(event.after.letter for event in self.of(job_id))

    def end(self, job_id: str) -> JobChanged:
        (end,) = [event for event in self.of(job_id) if event.after.is_end]
        return end


class RecordingBackend(FakeBackend):
    """A fake backend that keeps what it was asked for."""

    def __init__(self, *args: Any, name: str = "fake", **options: Any) -> None:
        super().__init__(*args, **options)
        self.label = name
        self.launches: list[Launch] = []
        self.batches: list[list[str]] = []
        self.kills: list[tuple[list[int], float | None]] = []

    def launch(self, launches: Sequence[Launch]) -> None:
        self.launches.extend(launches)
        self.batches.append([launch.job.id for launch in launches])
        super().launch(launches)

    def kill(self, numbers: Sequence[int], grace_s: float | None = None) -> None:
        self.kills.append((list(numbers), grace_s))
        super().kill(numbers, grace_s)


class ManualRun:
    """One run; ``outcomes`` by job id, a pass after one second for all others."""

    def __init__(
        self,
        outcomes: Mapping[str, FakeOutcome | Sequence[FakeOutcome]] | FakePolicy | None = None,
        *,
        backends: Sequence[str] = ("fake",),
        grace_s: float | None = None,
        **options: Any,
    ) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.watcher = RecordingWatcher()
        policy = (
            outcomes if callable(outcomes) else DeclaredPolicy(outcomes or {}, default=passes(1.0))
        )
        context = RunContext("manual", None, grace_s=grace_s)
        self.backends = {
            name: RecordingBackend(context, policy, timers=self.timers, name=name)
            for name in backends
        }
        self.backend = self.backends[backends[0]]
        self.scheduler = Scheduler(
            self.backends, backends[0], self.watcher, timers=self.timers, **options
        )

    def add(self, *jobs: JobRecord, **options: Any) -> None:
        """Add jobs and let the scheduler do what it can now."""
        self.scheduler.add(jobs, **options)
        self.scheduler.run_until_idle()

    def idle(self) -> None:
        """Let the scheduler do what it can now."""
        self.scheduler.run_until_idle()

    def advance(self, seconds: float) -> None:
        """Let time pass in one step."""
        self.clock.advance(seconds)
        self.scheduler.run_until_idle()

    def finish(self, step_s: float = 0.5, most_s: float = 1_000.0) -> dict[str, int]:
        """Say that no job comes any more, and let time pass until all have ended."""
        self.scheduler.finish()
        self.idle()
        passed_s = 0.0
        while not self.is_over:
            assert passed_s < most_s, f"the run does not end: {self.scheduler.counts()}"
            self.advance(step_s)
            passed_s += step_s
        return self.scheduler.counts()

    @property
    def is_over(self) -> bool:
        counts = self.scheduler.counts()
        return not any(counts.get(status, 0) for status in ("scheduled", "queued", "running"))

    @property
    def running(self) -> list[str]:
        """The jobs that run, in the order of their first start."""
        return [
            job_id
            for job_id in dict.fromkeys(launch.job.id for launch in self.backend.launches)
            if self.scheduler.status(job_id) is JobStatus.RUNNING
        ]

    @property
    def started(self) -> list[str]:
        """The ids of all launches on the first backend, in order."""
        return [launch.job.id for launch in self.backend.launches]
