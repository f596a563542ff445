"""A run's files, written by the observers that write them, from events that a test makes up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from observers.job_list import JobList
from observers.journal import Journal
from tasks.events import JobChanged, JobEnd, RunEnded, RunStarted
from tasks.spec import JobRecord, JobSpec
from tasks.status import Cause, CauseKind, JobStatus, RunStatus

_ENDS = {
    CauseKind.TIMEOUT: JobStatus.KILLED,
    CauseKind.CANCELLED: JobStatus.KILLED,
    CauseKind.DEPENDENCY: JobStatus.KILLED,
    CauseKind.LOST_NODE: JobStatus.KILLED,
    CauseKind.PREEMPTED: JobStatus.KILLED,
    CauseKind.DRIVER_LOST: JobStatus.KILLED,
}


def job(job_id: str, *needs: str, **fields: object) -> JobRecord:
    """Return a job that runs ``true``."""
    return JobSpec(id=job_id, command=("true",), needs=needs, **fields).record()


class RecordedRun:
    """Writes a journal and a list of jobs, as a run would.  Times are seconds since its start."""

    def __init__(self, directory: Path, *, started_at: float | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.started_at = time.time() if started_at is None else started_at
        self._journal = Journal(directory)
        self._job_list = JobList(directory, {"name": "recorded"})
        self._jobs: dict[str, JobRecord] = {}
        self._status: dict[str, JobStatus] = {}
        self._attempts: dict[str, int] = {}

    def start(self, flow_run_id: str | None = None) -> None:
        """Write ``run_started``."""
        contents = {"run": self.directory.name, "name": "recorded", "flow_run_id": flow_run_id}
        self._journal.run_started(RunStarted(self.started_at, contents))

    def add(self, *jobs: JobRecord) -> None:
        """Add jobs to the run."""
        self._job_list.jobs_added(jobs)
        self._jobs.update({one.id: one for one in jobs})
        self._status.update({one.id: JobStatus.SCHEDULED for one in jobs})

    def queue(self, at: float, *job_ids: str) -> None:
        """Jobs could run."""
        self._move([self._changed(at, job_id, JobStatus.QUEUED) for job_id in job_ids])

    def run(self, at: float, *job_ids: str) -> None:
        """Jobs start; those that were not queued are."""
        self.queue(at, *(one for one in job_ids if self._status[one] is JobStatus.SCHEDULED))
        for job_id in job_ids:
            self._attempts[job_id] = self._attempts.get(job_id, 0) + 1
        self._move([self._changed(at, job_id, JobStatus.RUNNING) for job_id in job_ids])

    def pass_(self, at: float, *job_ids: str, runtime_s: float = 0.5) -> None:
        """Jobs pass; those that were not running start right then."""
        self.run(at, *(one for one in job_ids if self._status[one] is not JobStatus.RUNNING))
        end = JobEnd(exit_code=0, runtime_s=runtime_s, cpu_s=0.01, max_rss_bytes=1_000_000)
        self._move([self._changed(at, one, JobStatus.PASSED, end=end) for one in job_ids])

    def skip(self, at: float, *job_ids: str) -> None:
        """Jobs are spared by a checkpoint."""
        end = JobEnd(skipped=True)
        self._move([self._changed(at, one, JobStatus.PASSED, end=end) for one in job_ids])

    def end(
        self,
        at: float,
        job_id: str,
        kind: CauseKind,
        message: str = "it did not work",
        *,
        runtime_s: float | None = 0.5,
    ) -> None:
        """A job ends otherwise; its cause says how."""
        cause = Cause(kind, message)
        after = _ENDS.get(kind, JobStatus.FAILED)
        end = JobEnd(exit_code=1, runtime_s=runtime_s)
        self._move([self._changed(at, job_id, after, cause=cause, end=end)])

    def retry(self, at: float, job_id: str, runtime_s: float = 0.5) -> None:
        """An attempt failed and is to be repeated."""
        cause = Cause(CauseKind.EXIT_CODE, "exit code 1")
        end = JobEnd(exit_code=1, runtime_s=runtime_s)
        self._move([self._changed(at, job_id, JobStatus.QUEUED, cause=cause, end=end)])

    def finish(
        self, at: float, status: RunStatus = RunStatus.COMPLETED, counts: Mapping[str, int] = {}
    ) -> None:
        """Write ``run_ended`` and close the files."""
        self._journal.run_ended(RunEnded(self.started_at + at, status, counts))
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._journal.close()
        self._job_list.close()

    def append_torn(self, text: str) -> None:
        """Leave half a line at the journal's end, as a power cut does."""
        with (self.directory / "events.jsonl").open("a") as stream:
            stream.write(text)

    def _changed(
        self,
        at: float,
        job_id: str,
        after: JobStatus,
        cause: Cause | None = None,
        end: JobEnd | None = None,
    ) -> JobChanged:
        return JobChanged(
            at=self.started_at + at,
            job=self._jobs[job_id],
            before=self._status[job_id],
            after=after,
            attempt=self._attempts.get(job_id, 0),
            backend="local",
            cause=cause,
            end=end,
        )

    def _move(self, events: Iterable[JobChanged]) -> None:
        batch = list(events)
        if batch:
            self._journal.jobs_changed(batch)
            self._status.update({event.job.id: event.after for event in batch})
