"""The jobs of the run: started, watched, ended, reported, each exactly once."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Sequence

from backends.keeper.children import Orphans, reap
from backends.keeper.deadlines import Deadline, Deadlines
from backends.keeper.job import KeptJob, LaunchRequest, launch_error, never_started
from backends.keeper.out_of_memory import OutOfMemoryKills
from backends.keeper.protocol import ProtocolError
from backends.keeper.spawn import DEFAULT_SIGNALS, LaunchError, NotNowError, Spawner
from backends.keeper.spool import Spool
from backends.members import Members
from backends.run_cgroup import RunCgroup
from backends.tree_killer import WHOLE_RUN, Ending, TreeKiller

STARTS_AT_ONCE = 16
"""How many jobs are started before exits and messages are looked at again."""

RETRY_FOR_S = 10.0
_FIRST_RETRY_S = 0.05
_LONGEST_RETRY_S = 1.0
_RESOURCE_VARIABLE = "HOLDFAST_RESOURCE_"


class Jobs:
    """Every attempt that the driver asked for, from the request to its line in the spool.

    Nothing here blocks.  The loop calls ``reap`` when children may have ended, ``start_some``
    while ``has_queued``, ``step`` when ``next_at`` has come.
    """

    def __init__(
        self,
        *,
        spawner: Spawner,
        members: Members,
        cgroup: RunCgroup | None,
        deadlines: Deadlines,
        spool: Spool,
    ) -> None:
        self._spawner = spawner
        self._members = members
        self._cgroup = cgroup
        self._deadlines = deadlines
        self._spool = spool
        self._out_of_memory = OutOfMemoryKills()
        self._orphans = Orphans(members.job_of_orphan, self._is_ours)
        if cgroup is None:
            self._killer = TreeKiller(members)
        else:
            self._killer = TreeKiller(members, frozen=cgroup.frozen, last_resort=self._kill_cgroup)
        self._queue: deque[LaunchRequest] = deque()
        self._retrying: dict[int, tuple[LaunchRequest, Deadline]] = {}
        self._running: dict[int, KeptJob] = {}
        self._by_leader: dict[int, KeptJob] = {}
        self._helpers: set[int] = set()
        self._refused: str | None = None
        self.rest: Ending | None = None
        """What became of the members that belonged to no running job, once they are gone."""

    # -- what the loop asks ----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no attempt is queued, waiting for room, or running."""
        return not (self._queue or self._retrying or self._running)

    @property
    def has_queued(self) -> bool:
        """Whether attempts wait to be started."""
        return bool(self._queue)

    def running(self) -> list[dict[str, object]]:
        """Return what adoption and status need to know of the attempts that have not ended.

        Those that wait to be started come last, without a process: they will run, too.
        """
        waiting = [*self._queue, *(request for request, _ in self._retrying.values())]
        return [
            *(
                _told(job.request, job.pid, job.started_at, job.killed)
                for job in self._running.values()
            ),
            *(_told(request, None, None, None) for request in waiting),
        ]

    def next_at(self) -> float | None:
        """Return when ``step`` has something to do."""
        return self._killer.next_at()

    # -- the start -------------------------------------------------------------------------

    def add(self, requests: Sequence[LaunchRequest]) -> None:
        """Queue attempts; raises ``ProtocolError`` for a job that is here already."""
        for request in requests:
            if request.number in self._running or request.number in self._retrying:
                raise ProtocolError(f"job {request.number} is running already")
        if self._refused is None:
            self._queue.extend(requests)
            return
        for request in requests:
            self._spool.append(never_started(request, self._refused, time.time()))

    def start_some(self) -> None:
        """Start the next few attempts of the queue."""
        if not self._queue:
            return
        for _ in range(min(STARTS_AT_ONCE, len(self._queue))):
            self._start(self._queue.popleft(), time.monotonic() + RETRY_FOR_S, _FIRST_RETRY_S)
        self._spawner.without_number()

    def _start(self, request: LaunchRequest, give_up_at: float, retry_s: float) -> None:
        oom_kills = self._out_of_memory.recent_count()
        started, started_at = time.monotonic(), time.time()
        try:
            pid = self._spawner.start(request)
        except LaunchError as error:
            self._spool.append(launch_error(request, str(error), time.time()))
            return
        except NotNowError as error:
            self._try_again(request, give_up_at, retry_s, str(error))
            return
        job = KeptJob(
            request, pid, started=started, started_at=started_at, oom_kills_before=oom_kills
        )
        self._running[request.number] = job
        self._by_leader[pid] = job
        self._members.started(pid, request.number, request.id)
        if request.timeout_s is not None:
            job.deadline = self._deadlines.add(
                started + request.timeout_s, lambda: self._time_is_up(job)
            )

    def _try_again(
        self, request: LaunchRequest, give_up_at: float, retry_s: float, why: str
    ) -> None:
        now = time.monotonic()
        if now + retry_s > give_up_at:
            message = f"cannot start a process: {why}, for {RETRY_FOR_S:g} s"
            self._spool.append(launch_error(request, message, time.time()))
            return

        def again() -> None:
            del self._retrying[request.number]
            self._start(request, give_up_at, min(retry_s * 2, _LONGEST_RETRY_S))
            self._spawner.without_number()

        self._retrying[request.number] = request, self._deadlines.add(now + retry_s, again)

    # -- the end ---------------------------------------------------------------------------

    def reap(self) -> None:
        """Take note of every child that has ended, and of what it left behind."""
        exits = reap()
        if not exits:
            return
        now = time.monotonic()
        ended = []
        quiet = set()
        for child in exits:
            job = self._by_leader.pop(child.pid, None)
            if job is not None:
                job.leader_ended(child.status, child.cpu_s, child.max_rss_bytes, now)
                self._deadlines.cancel(job.deadline)
                self._members.leader_ended(child.pid)
                self._killer.leader_reaped(job.request.number)
                ended.append(job)
            elif child.pid in self._helpers:
                self._helpers.discard(child.pid)
            else:
                quiet.add(self._orphans.gone(child.pid))
        self._meet_orphans()
        for job in ended:
            self._leader_ended(job)
        for number in quiet:
            if number is not None and not self._leader_is_running(number):
                self._killer.poke(number)
        if WHOLE_RUN in self._killer:
            self._killer.poke(WHOLE_RUN)

    def _leader_is_running(self, number: int) -> bool:
        job = self._running.get(number)
        return job is not None and job.leader_is_running

    def _meet_orphans(self) -> None:
        for pid, number in self._orphans.look():
            # A tree that forks to escape is met here, one by one, as its parents die; a child
            # that is not reaped is nobody else, so its pid is safe to use.
            if self._killer.is_insisting(number) or self._killer.is_insisting(WHOLE_RUN):
                os.kill(pid, signal.SIGKILL)

    def _leader_ended(self, job: KeptJob) -> None:
        number = job.request.number
        has_orphans = self._orphans.any_of(number)
        if number in self._killer:
            if not has_orphans:
                self._killer.poke(number)
        elif has_orphans and not job.request.allow_leftovers:
            self._killer.begin(number, None, job.request.grace_s)
        else:
            self._finish(job)

    def _finish(self, job: KeptJob) -> None:
        request = job.request
        if job.killed is None and job.died_like_out_of_memory:
            job.out_of_memory = self._out_of_memory.count() > job.oom_kills_before
        del self._running[request.number]
        self._members.ended(job.pid, request.id)
        self._spool.append(job.completion(time.time()))

    def _time_is_up(self, job: KeptJob) -> None:
        self.kill([job.request.number], None, "timeout")

    # -- killing ---------------------------------------------------------------------------

    def kill(self, numbers: Sequence[int] | None, grace_s: float | None, why: str) -> None:
        """End the trees of these jobs, ``None`` for all; each job's own grace unless given.

        Those that have ended by themselves have ended by themselves; of several reasons the
        first counts.
        """
        self.reap()
        chosen = None if numbers is None else set(numbers)
        self._kill_queued(chosen, why)
        for number in list(self._running) if chosen is None else chosen:
            job = self._running.get(number)
            if job is not None:
                self._kill_running(job, grace_s, why)

    def _kill_queued(self, chosen: set[int] | None, why: str) -> None:
        spared: deque[LaunchRequest] = deque()
        for request in self._queue:
            if chosen is None or request.number in chosen:
                self._spool.append(never_started(request, why, time.time()))
            else:
                spared.append(request)
        self._queue = spared
        for number, (request, deadline) in list(self._retrying.items()):
            if chosen is None or number in chosen:
                self._deadlines.cancel(deadline)
                del self._retrying[number]
                self._spool.append(never_started(request, why, time.time()))

    def _kill_running(self, job: KeptJob, grace_s: float | None, why: str) -> None:
        grace = job.request.grace_s if grace_s is None else grace_s
        if job.leader_is_running:
            if job.killed is None:
                job.killed = why
            self._killer.begin(job.request.number, job.pid, grace)
        else:
            self._killer.begin(job.request.number, None, grace)

    def refuse(self, why: str) -> None:
        """Start nothing more; what is asked for from now on was killed for this reason."""
        self._refused = why

    def end_rest(self, grace_s: float) -> None:
        """End what belongs to the run but to no job: leftovers that were allowed, strays."""
        self._killer.begin(WHOLE_RUN, None, grace_s)

    def step(self) -> None:
        """Go on with ending trees."""
        for ending in self._killer.step():
            if ending.number == WHOLE_RUN:
                self.rest = ending
                continue
            job = self._running[ending.number]
            job.stuck = ending.stuck
            if job.killed is None:
                job.leftovers_killed = len(ending.seen)
            if job.leader_is_running:
                # Stuck: it is reaped some day like an orphan.
                self._by_leader.pop(job.pid, None)
                self._members.leader_ended(job.pid)
            self._finish(job)

    def _kill_cgroup(self) -> None:
        if self._cgroup is not None and self._cgroup.leave():
            self._cgroup.kill()

    # -- children that are no jobs ---------------------------------------------------------

    def spawn_helper(self, command: Sequence[str], cwd: str, environment: dict[str, str]) -> int:
        """Start a process that is no job and no member; raises ``OSError``."""
        self._spawner.without_number()
        os.chdir(cwd)
        pid = os.posix_spawnp(
            command[0],
            list(command),
            environment,
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
        self._helpers.add(pid)
        self._members.exclude(pid)
        return pid

    def helper_is_running(self, pid: int) -> bool:
        """Whether a helper has not ended yet."""
        return pid in self._helpers

    def _is_ours(self, pid: int) -> bool:
        return pid in self._by_leader or pid in self._helpers


def _told(
    request: LaunchRequest, pid: int | None, started_at: float | None, killed: str | None
) -> dict[str, object]:
    return {
        "number": request.number,
        "attempt": request.attempt,
        "id": request.id,
        "pid": pid,
        "started_at": started_at,
        "killed": killed,
        "resources": {
            name: value
            for name, value in request.environment.items()
            if name.startswith(_RESOURCE_VARIABLE)
        },
    }
