"""The list of a run's jobs, so that it can be rerun, resumed and reported from disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from observers.append_file import AppendFile
from observers.base import Observer
from observers.json_lines import read_json_lines
from tasks.events import RunEnded
from tasks.job_lines import head_line, job_line
from tasks.spec import JobRecord, JobSpec

JOB_LIST_FILE = ".jobs.jsonl"


class JobList(Observer):
    """Writes ``.jobs.jsonl`` in the run's directory: a DAG file of every job, expanded.

    The first line is ``head`` (what the run was given beside its jobs: ``name``, ``cwd``,
    ``resources``, ``max_parallel``), so that the file can be run from anywhere; each job follows
    as a line before the first of its events is in the journal.  The file is the owner's alone,
    since a job's ``env`` may hold secrets.  A driver that takes over a run adds only jobs that
    the file does not hold.

    A write that fails raises ``AppendError``; the run is then stopped.
    """

    essential: ClassVar[bool] = True
    remembers: ClassVar[bool] = True

    def __init__(self, directory: Path, head: Mapping[str, Any] | None = None) -> None:
        self._file = AppendFile(directory / JOB_LIST_FILE, mode=0o600)
        self._head = {} if head is None else head
        self._earlier: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """How messages call this observer."""
        return "job list"

    def jobs_added(self, jobs: Sequence[JobRecord]) -> None:
        """Append one line for each job."""
        if not self._file.is_open:
            self._open()
        earlier = self._earlier
        self._file.append("".join([job_line(job) for job in jobs if job.id not in earlier]))

    def run_ended(self, event: RunEnded) -> None:
        """Sync the file to the disk."""
        if self._file.is_open:
            self._file.sync()

    def close(self) -> None:
        """Sync and close the file."""
        self._file.close()

    def _open(self) -> None:
        if self._file.open():
            self._file.append(head_line(self._head))
        else:
            lines = read_json_lines(self._file.path)
            self._earlier = frozenset(line["id"] for line in islice(lines, 1, None))


def read_job_list(directory: Path) -> Iterator[JobRecord]:
    """Yield the jobs of the run in ``directory``, in the order in which they were added.

    Raises ``OSError`` where the run has no list, ``DamagedFileError`` and
    ``pydantic.ValidationError`` for one that was not written by ``JobList``.
    """
    for line in islice(read_json_lines(directory / JOB_LIST_FILE), 1, None):
        yield JobSpec.model_validate(line).record()


def read_job_list_head(directory: Path) -> dict[str, Any]:
    """Return what the run was given beside its jobs; empty where no job was ever added.

    Raises ``OSError`` where the run has no list.
    """
    return next(read_json_lines(directory / JOB_LIST_FILE), {})
