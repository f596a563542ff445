"""Four folders that show where every job stands, for ``ls`` and for other programs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from observers.base import Observer
from tasks.events import JobChanged, RunStarted
from tasks.status import JobStatus

FOLDERS = {
    JobStatus.RUNNING: "running",
    JobStatus.PASSED: "passing",
    JobStatus.FAILED: "failed",
    JobStatus.KILLED: "killed",
}
"""The folder that holds the link of a job in each state; in other states a job has none."""

_FOLDER_OF = {status.value: folder for status, folder in FOLDERS.items()}


class StatusLinks(Observer):
    """Keeps one symlink for each job in ``running/``, ``passing/``, ``failed/`` or ``killed/``.

    A link points to ``../jobs/<id>`` and is moved by rename, so that it is at every moment in
    exactly one folder.  It never dangles: the job's directory is made first where the backend has
    not made it yet, also for a job that never ran, whose directory then is empty.  A job that
    starts and ends within one batch gets only the link of its end.

    Writers of a dead driver's run go on where it stopped: links that are in ``running/`` are
    found on disk.  Raises ``OSError`` where the directory cannot be written.
    """

    remembers: ClassVar[bool] = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: set[str] = set()
        self._folders: dict[str, int] = {}
        self._jobs = -1

    @property
    def name(self) -> str:
        """How messages call this observer."""
        return "status links"

    def run_started(self, event: RunStarted) -> None:
        """Make the folders."""
        self._open()

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        """Move each job's link to where the batch leaves it."""
        if self._jobs < 0:
            self._open()
        # Only the last change of each job counts.
        for job_id, status in {event.job.id: event.after._value_ for event in events}.items():
            folder = _FOLDER_OF.get(status)
            if folder is None:
                self._remove(job_id)
            elif folder != "running":
                self._end(job_id, folder)
            elif job_id not in self._running:
                self._link(job_id, folder)
                self._running.add(job_id)

    def set_all(self, statuses: Mapping[str, JobStatus]) -> None:
        """Put the link of each job where its status wants it, wherever it is now.

        For a run whose driver died between writing the journal and moving the links.
        """
        self._open()
        for folder, descriptor in self._folders.items():
            for job_id in _names(descriptor):
                status = statuses.get(job_id)
                if status is None or FOLDERS.get(status) != folder:
                    os.unlink(job_id, dir_fd=descriptor)
        for job_id, status in statuses.items():
            if status in FOLDERS:
                self._link(job_id, FOLDERS[status])
        self._running = set(_names(self._folders["running"]))

    def close(self) -> None:
        """Let go of the folders."""
        for descriptor in (*self._folders.values(), self._jobs):
            if descriptor >= 0:
                os.close(descriptor)
        self._folders = {}
        self._jobs = -1

    def _open(self) -> None:
        self.close()
        self._jobs = _open_folder(self._directory / "jobs")
        for folder in FOLDERS.values():
            self._folders[folder] = _open_folder(self._directory / folder)
        self._running = set(_names(self._folders["running"]))

    def _end(self, job_id: str, folder: str) -> None:
        if job_id in self._running:
            self._running.discard(job_id)
            source, target = self._folders["running"], self._folders[folder]
            os.rename(job_id, job_id, src_dir_fd=source, dst_dir_fd=target)
        else:
            self._link(job_id, folder)

    def _link(self, job_id: str, folder: str) -> None:
        try:
            os.mkdir(job_id, dir_fd=self._jobs)
        except FileExistsError:
            pass
        try:
            os.symlink(f"../jobs/{job_id}", job_id, dir_fd=self._folders[folder])
        except FileExistsError:
            pass  # a driver that died had made it

    def _remove(self, job_id: str) -> None:
        """A retry waits: the job is neither running nor at its end."""
        if job_id in self._running:
            self._running.discard(job_id)
            os.unlink(job_id, dir_fd=self._folders["running"])


def _names(folder: int) -> list[str]:
    return os.listdir(folder)


def _open_folder(path: Path) -> int:
    path.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
