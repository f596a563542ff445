"""Whose is this process?  Members of a job, by every mark that it may still carry.

A job's members are the carriers of its number, its session and process group, the descendants
of any member, and whoever was started with its directory in the environment.  Whoever was
found once stays a member: what has been shed since then does not matter.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from backends.process_tree import (
    Identity,
    Process,
    Snapshot,
    environment_value,
    rss_limit,
)
from tasks.process_number import job_number_of, run_number_of

RUN = 0
"""The job number of what belongs to the run, but to none of its running jobs in particular."""


class Members:
    """Tells the members of a run's jobs from everything else on the host.

    ``number`` is the run's number, ``None`` where its processes do not carry it (a run inside a
    job keeps the outer one).  ``jobs_directory`` is what a job's ``HOLDFAST_JOB_DIR`` lies in;
    ``run`` is compared with ``HOLDFAST_RUN`` instead where it is not known.  Nothing that
    started before ``since`` (clock ticks since boot) is a member, nor is ``never`` (pids).
    ``parent`` is the keeper: its orphaned grandchildren are members of the run at least.
    """

    def __init__(
        self,
        number: int | None,
        *,
        jobs_directory: str | None,
        run: str = "",
        since: int = 0,
        parent: int | None = None,
        never: Collection[int] = (),
    ) -> None:
        self._number = number
        self._jobs_directory = jobs_directory
        self._run = run
        self._since = since
        self._parent = parent
        self._never = set(never)
        self._known: dict[Identity, int] = {}
        # Whose environment was read in vain: it does not change under a process.
        self._read: set[Identity] = set()
        self._sessions: dict[int, int] = {}
        self._leaders: set[int] = set()
        self._numbers_by_id: dict[str, int] = {}

    # -- what the keeper knows by itself ---------------------------------------------------

    def started(self, leader: int, number: int, job_id: str) -> None:
        """A job's first process was started, in a session of its own."""
        self._sessions[leader] = number
        self._leaders.add(leader)
        self._numbers_by_id[job_id] = number

    def leader_ended(self, leader: int) -> None:
        """The first process is gone: its pid stands for the session only while that lives."""
        self._leaders.discard(leader)

    def ended(self, leader: int | None, job_id: str) -> None:
        """The job is over."""
        if leader is not None:
            self._sessions.pop(leader, None)
            self._leaders.discard(leader)
        self._numbers_by_id.pop(job_id, None)

    def exclude(self, pid: int) -> None:
        """Never take this process, or what descends from it through the keeper, for a member."""
        self._never.add(pid)

    # -- what a snapshot tells -------------------------------------------------------------

    def survey(self, snapshot: Snapshot) -> dict[int, list[Process]]:
        """Return the living members, by job number; those of no running job under ``RUN``."""
        verdicts: dict[int, int | None] = dict.fromkeys(self._never)
        for pid in snapshot:
            self._judge(pid, snapshot, verdicts)
        found = {pid: job for pid, job in verdicts.items() if job is not None}
        self._known = {snapshot[pid].identity: job for pid, job in found.items()}
        self._read &= {process.identity for process in snapshot.values()}
        self._renew_sessions(snapshot, found)
        members: dict[int, list[Process]] = {}
        for pid, job in found.items():
            if snapshot[pid].is_alive:
                members.setdefault(job, []).append(snapshot[pid])
        return members

    def job_of_orphan(self, orphan: Process) -> int:
        """Return the job of a process that was handed up to the keeper, by cheap means."""
        return self._own_evidence(orphan) or self._environment_evidence(orphan) or RUN

    def carries_number(self, pid: int, job: int | None) -> bool:
        """Whether a process carries the number of this job, or with ``None`` of any of the run."""
        if self._number is None or pid in self._never:
            return False
        carried = rss_limit(pid)
        ours = run_number_of(carried) == self._number
        return ours and (job is None or job_number_of(carried) == job)

    def _judge(self, pid: int, snapshot: Snapshot, verdicts: dict[int, int | None]) -> None:
        """Find whose the process is: by its own marks, else as its parent's child."""
        line: list[Process] = []
        verdict: int | None = None
        while True:
            if pid in verdicts:
                verdict = verdicts[pid]
                break
            process = snapshot.get(pid)
            # A snapshot is not taken in one moment: with recycled pids it may even hold a cycle.
            if process is None or process.start_time < self._since or process in line:
                break
            line.append(process)
            verdict = self._own_evidence(process)
            if verdict is not None:
                break
            pid = process.ppid
        for process in reversed(line):
            if not verdict:
                verdict = self._weak_evidence(process, verdict)
            verdicts[process.pid] = verdict

    def _own_evidence(self, process: Process) -> int | None:
        known = self._known.get(process.identity)
        if known:
            return known
        if self._number is not None:
            carried = rss_limit(process.pid)
            if run_number_of(carried) == self._number:
                return job_number_of(carried)
        # A process group lies within one session, so this tells the group's members too.
        return self._sessions.get(process.session, known)

    def _weak_evidence(self, process: Process, inherited: int | None) -> int | None:
        """What a process without a job of its own is: by environment, else by its parent."""
        job = self._environment_evidence(process)
        if job is not None:
            return job
        return RUN if process.ppid == self._parent else inherited

    def _environment_evidence(self, process: Process) -> int | None:
        if process.identity in self._read:
            return None
        job = self._read_environment(process.pid)
        if job is None:
            self._read.add(process.identity)
        return job

    def _read_environment(self, pid: int) -> int | None:
        if self._jobs_directory is not None:
            directory = environment_value(pid, "HOLDFAST_JOB_DIR")
            if directory is None or os.path.dirname(directory) != self._jobs_directory:  # noqa: PTH120
                return None
            return self._numbers_by_id.get(os.path.basename(directory), RUN)  # noqa: PTH119
        if self._run and environment_value(pid, "HOLDFAST_RUN") == self._run:
            return RUN
        return None

    def _renew_sessions(self, snapshot: Snapshot, found: dict[int, int]) -> None:
        """Learn the members' own sessions; forget those that nobody is in any more.

        An empty session's number may be taken by a stranger's process; one that has a member
        cannot be.
        """
        inhabited = {snapshot[pid].session for pid in found}
        kept = {
            session: job
            for session, job in self._sessions.items()
            if session in inhabited or session in self._leaders
        }
        for pid, job in found.items():
            if snapshot[pid].session == pid:
                kept.setdefault(pid, job)
        self._sessions = kept


def all_of(members: dict[int, list[Process]]) -> Iterable[Process]:
    """Return the members of all jobs and of the run."""
    for processes in members.values():
        yield from processes
