"""Jobs as processes of this host, under the run's keeper."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from backends.base import Backend, Completed, Completion, Launch
from backends.completion_spool import SPOOL_NAME, SpoolReader, completion_of
from backends.file_workers import FileWorkers
from backends.interactive import UserTerminal, why_no_terminal
from backends.job_environment import ids_in_environment
from backends.job_files import LOG_NAME
from backends.judge import has_checks
from backends.keeper.job import LaunchRequest
from backends.keeper.protocol import Message, ProtocolError
from backends.keeper_process import (
    KeeperConnection,
    KeeperError,
    find_keeper,
    start_keeper,
    wire_text,
)
from backends.keeper_reader import KeeperReader
from backends.process_tree import Identity, send_signal
from backends.sweep import sweep_run
from backends.tree_killer import STUCK_AFTER_S
from tasks.events import JobEnd
from tasks.process_identity import ProcessIdentity, boot_id, host_name, start_time, wait_for_end
from tasks.process_number import JOB_BITS
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, JobStatus

_log = logging.getLogger("holdfast.local")

MAX_KEEPER_RESTARTS = 5
"""How many keepers of one run may be lost before its jobs are refused."""

_BATCH = 128
"""Launches in one message: the keeper starts the first ones while the next are written."""

_CLOSE_MARGIN_S = 20.0
_REAP_WITHIN_S = 10.0
_DELIVER_AFTER_S = 0.02


@dataclass(frozen=True, slots=True)
class AdoptedJob:
    """An attempt that runs on under the keeper of a dead driver."""

    number: int
    attempt: int
    job_id: str
    pid: int | None
    """``None`` where the keeper has not come to start it yet, as for ``started_at``."""
    started_at: float | None
    """Seconds since the epoch."""
    resources: Mapping[str, tuple[str, ...]]
    """The ids that it was given."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a keeper knows of the attempts whose end the journal does not tell."""

    running: tuple[AdoptedJob, ...]
    ended: tuple[tuple[int, int], ...]
    """Number and attempt of those that ended meanwhile; ``start`` delivers how."""
    began_at: Mapping[int, float]
    """When these began, by number, in seconds since the epoch; not for what never ran."""


class _Line:
    """A keeper and the connection to it."""

    def __init__(self, connection: KeeperConnection, welcome: Message) -> None:
        self.connection = connection
        self.identity: Identity = (int(welcome["pid"]), int(welcome["start_time"]))
        self.cgroup: str | None = welcome.get("cgroup")
        self.process = connection.process
        self.reader: KeeperReader | None = None

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; raises ``ProtocolError`` if it is too long."""
        self.connection.send(message)
        if self.connection.has_unsent and self.reader is not None:
            self.reader.wake()

    def wait(self) -> None:
        """Wait until the keeper, which has hung up, is gone; end it if it is not soon."""
        keeper = ProcessIdentity(*self.identity, boot_id(), host_name())
        if not wait_for_end(keeper, timeout_s=_REAP_WITHIN_S):
            send_signal(self.identity, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class LocalBackend(Backend):
    """Runs jobs on this host: a session, a number and a log of its own for each.

    ``on_keeper_lost`` is called, on a thread of the backend, with a message when the keeper died
    and its jobs were ended without it; a new keeper runs what is launched after that.
    """

    name: ClassVar[str] = "local"
    supports_interactive: ClassVar[bool] = True

    def __init__(
        self, context: RunContext, *, on_keeper_lost: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(context)
        self._on_keeper_lost = on_keeper_lost
        self._terminal = UserTerminal(lambda lent: self.terminal_lent(lent))
        self._cwd = str(context.cwd.absolute())
        self._directory = (context.directory or Path()).absolute()
        self._lock = threading.Lock()
        # Held while a message is made and sent: a kill must not overtake its launch.
        self._sending = threading.RLock()
        self._closing_lock = threading.Lock()
        self._line: _Line | None = None
        self._running: dict[int, Launch] = {}
        # What no keeper has been given yet: its directory is being renewed, or, held, the keeper
        # was lost and the next one is not up.
        self._not_sent: set[int] = set()
        self._held: list[Launch] = []
        self._wards: list[Identity] = []
        self._spool: SpoolReader | None = None
        self._adopted_entries: list[dict[str, Any]] = []
        self._workers = FileWorkers()
        self._keepers_lost = 0
        self._refusal: str | None = None
        self._started = False
        self._closing = False
        self._close_within_s = _CLOSE_MARGIN_S
        self._closed = threading.Event()
        self._owner = os.getpid()

    @classmethod
    def why_not_interactive(cls) -> str | None:
        """Return why there is no terminal that a job could be given."""
        trouble = why_no_terminal()
        return None if trouble is None else f"it is interactive, but {trouble}"

    # -- the start -------------------------------------------------------------------------

    def start(self, completed: Completed) -> None:
        """Start the keeper, or go on with the adopted one; deliver completions from now on.

        Raises ``KeeperError`` if the keeper does not come up.
        """
        super().start(completed)
        self.context.jobs_directory.mkdir(exist_ok=True)
        self._directories_exist = any(self.context.jobs_directory.iterdir())
        line = self._line
        if line is None:
            line = self._meet(*start_keeper(self.context))
        self._deliver(self._adopted_entries)
        self._adopted_entries = []
        self._started = True
        self._listen(line)

    def adopt(
        self, jobs: Mapping[int, JobRecord], ended: Collection[tuple[int, int]] = ()
    ) -> Adoption:
        """Take over the keeper of a dead driver; to be called before ``start``.

        ``jobs`` are all jobs of the run by number, ``ended`` the attempts (number, attempt)
        whose end is known already.  An attempt that the journal takes for running and that is
        in neither part of what is returned was never started.  Raises ``KeeperError`` if there
        is no keeper to adopt.
        """
        connection, welcome = find_keeper(self.context)
        self._meet(connection, welcome)
        running = tuple(
            AdoptedJob(
                job["number"],
                job["attempt"],
                job["id"],
                job["pid"],
                job["started_at"],
                ids_in_environment(jobs[job["number"]], job.get("resources", {})),
            )
            for job in welcome["running"]
        )
        self._adopted_entries = [
            entry
            for entry in self._spooled_entries()
            if (entry["number"], entry["attempt"]) not in ended
        ]
        over = tuple((entry["number"], entry["attempt"]) for entry in self._adopted_entries)
        # Of a job that was retried meanwhile the newest attempt counts.
        for number, attempt in sorted((*((job.number, job.attempt) for job in running), *over)):
            self._running[number] = Launch(number, jobs[number], attempt)
        return Adoption(
            tuple(job for job in running if (job.number, job.attempt) not in over),
            over,
            {
                entry["number"]: entry["ended_at"] - entry["runtime_s"]
                for entry in self._adopted_entries
                if entry.get("runtime_s") is not None
            },
        )

    def _meet(self, connection: KeeperConnection, welcome: Message) -> _Line:
        line = _Line(connection, welcome)
        if self._spool is None:
            self._spool = SpoolReader(self._directory / SPOOL_NAME)
        line.reader = KeeperReader(
            connection,
            spooled=lambda: self._deliver(self._spooled_entries()),
            hung_up=lambda farewell: self._hung_up(line, farewell),
        )
        self._line = line
        return line

    def _listen(self, line: _Line) -> None:
        for ward in self._wards:
            _send_ward(line, ward)
        if line.reader is not None:
            line.reader.start()

    # -- launching -------------------------------------------------------------------------

    def launch(self, launches: Sequence[Launch]) -> None:
        """Start these attempts; where an earlier one left files, as soon as they are put away."""
        ready = []
        with self._lock:
            self._running.update((launch.number, launch) for launch in launches)
            self._not_sent.update(x.number for x in launches if x.job.interactive)
        for launch in launches:
            if launch.number >> JOB_BITS:
                self._fail(launch, f"its number is {launch.number}; a run has {1 << JOB_BITS} jobs")
            elif launch.job.interactive:
                self._workers.submit(partial(self._launch_on_terminal, launch))
            elif launch.attempt > 1 or self._directories_exist:
                self._prepare_later(launch)
            elif not launch.job.env or self._prepare(launch, renew=False):
                ready.append(launch)
        self._hand_over(ready)

    def _prepare_later(self, launch: Launch) -> None:
        with self._lock:
            self._not_sent.add(launch.number)
        self._workers.submit(
            lambda: self._hand_over([launch] if self._prepare(launch, renew=True) else [])
        )

    def _launch_on_terminal(self, launch: Launch) -> None:
        """Launch an interactive job; not in the scheduler's thread: others draw to the end."""
        if not self._prepare(launch, renew=True):
            return
        try:
            self._terminal.lend(launch.number, self.log_path(launch.job))
        except OSError as error:
            self._fail(launch, f"the terminal cannot be lent to it: {error}")
            return
        self._hand_over([launch])
        with self._lock:
            is_over = self._running.get(launch.number) is not launch
        if is_over:  # killed before it had the terminal
            self._terminal.take_back(launch.number)

    def _prepare(self, launch: Launch, *, renew: bool) -> bool:
        try:
            self.prepare_directory(launch, renew=renew)
        except OSError as error:
            self._fail(launch, f"cannot make the job's directory ready: {error}")
            return False
        return True

    def _hand_over(self, launches: Sequence[Launch]) -> None:
        """Give prepared attempts to the keeper, or keep them until there is one."""
        with self._sending:
            with self._lock:
                line = self._line
                # Others were killed meanwhile, or failed.
                launches = [x for x in launches if self._running.get(x.number) is x]
                if line is None and self._refusal is None:
                    self._held.extend(launches)
                    self._not_sent.update(launch.number for launch in launches)
                    return
                self._not_sent.difference_update(launch.number for launch in launches)
            if line is not None and self._refusal is None:
                for start in range(0, len(launches), _BATCH):
                    self._send(line, launches[start : start + _BATCH])
                return
        self._refuse(launches)

    def _refuse(self, launches: Sequence[Launch]) -> None:
        """Complete attempts that no keeper will be given any more."""
        if self._closing:
            self._complete([_never_started(launch) for launch in launches])
        else:
            for launch in launches:
                self._fail(launch, self._refusal or "there is no keeper")

    def _send(self, line: _Line, launches: Sequence[Launch]) -> None:
        try:
            line.send({"type": "launch", "jobs": [self._request(launch) for launch in launches]})
        except ProtocolError as error:
            if len(launches) == 1:
                self._fail(launches[0], f"its command and environment are too long: {error}")
                return
            for launch in launches:
                self._send(line, [launch])

    def _request(self, launch: Launch) -> list[object]:
        job = launch.job
        command = ["/bin/sh", "-c", job.command] if isinstance(job.command, str) else job.command
        environment = self.environment_of(launch)
        cwd = self._cwd if job.cwd is None else os.path.join(self._cwd, job.cwd)  # noqa: PTH118
        if _TRANSLATES:
            command = [wire_text(word) for word in command]
            environment = {wire_text(n): wire_text(value) for n, value in environment.items()}
            cwd = wire_text(cwd)
        return LaunchRequest.to_wire(
            number=launch.number,
            attempt=launch.attempt,
            job_id=job.id,
            command=list(command),
            cwd=cwd,
            environment=environment,
            timeout_s=job.timeout_s,
            grace_s=self.grace_s(job),
            allow_leftovers=job.leftovers == "allow",
            terminal=self._terminal.of(launch.number) if job.interactive else None,
        )

    # -- killing ---------------------------------------------------------------------------

    def kill(self, numbers: Sequence[int], grace_s: float | None = None) -> None:
        """End the process trees of these jobs; each completes when its last process is gone."""
        with self._sending:
            with self._lock:
                line = self._line
                killed = [
                    self._running[number]
                    for number in numbers
                    if number in self._not_sent and number in self._running
                ]
                self._not_sent.difference_update(numbers)
            if line is not None and numbers:
                line.send({"type": "kill", "numbers": list(numbers), "grace_s": grace_s})
        self._complete([_never_started(launch) for launch in killed])

    def ward(self, pid: int) -> None:
        """Have a process beside the jobs, and what descends from it, ended if this one dies."""
        started = start_time(pid)
        if started is None:
            return
        with self._lock:
            self._wards.append((pid, started))
            line = self._line
        if line is not None:
            _send_ward(line, (pid, started))

    # -- completions -----------------------------------------------------------------------

    def _spooled_entries(self) -> list[dict[str, Any]]:
        return [] if self._spool is None else self._spool.read()

    def _deliver(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Pass on what the keeper says; jobs with checks are looked at by the workers first."""
        completions = []
        to_judge = []
        for entry in entries:
            launch = self._take(entry["number"], entry["attempt"])
            if launch is None:
                continue
            completion = completion_of(entry, launch.job, f"jobs/{launch.job.id}/{LOG_NAME}")
            if completion.status is JobStatus.PASSED and has_checks(launch.job):
                to_judge.append((completion, launch.job))
            else:
                completions.append(completion)
        if completions:
            self._completed(completions)
        if to_judge:
            self._workers.submit(lambda: self._judge_all(to_judge))

    def _judge_all(self, pending: Sequence[tuple[Completion, JobRecord]]) -> None:
        judged: list[Completion] = []
        deliver_at = time.monotonic() + _DELIVER_AFTER_S
        for completion, job in pending:
            judged.append(self.judge(completion, job))
            if time.monotonic() > deliver_at:
                self._completed(judged)
                judged = []
                deliver_at = time.monotonic() + _DELIVER_AFTER_S
        if judged:
            self._completed(judged)

    def _take(self, number: int, attempt: int) -> Launch | None:
        """Return a running attempt and forget it: each completes once."""
        with self._lock:
            launch = self._running.get(number)
            if launch is None or launch.attempt != attempt:
                return None
            del self._running[number]
        if launch.job.interactive:
            self._terminal.take_back(number)
        return launch

    def _complete(self, completions: Sequence[Completion]) -> None:
        mine = [done for done in completions if self._take(done.number, done.attempt)]
        if mine:
            self._completed(mine)

    def _fail(self, launch: Launch, message: str) -> None:
        cause = Cause(CauseKind.LAUNCH_ERROR, message)
        end = Completion(launch.number, launch.attempt, JobStatus.FAILED, JobEnd(), cause)
        self._complete([end])

    # -- the keeper's end ------------------------------------------------------------------

    def _hung_up(self, line: _Line, farewell: Message | None) -> None:
        """The keeper left, in order or not; on the reader's thread."""
        try:
            self._part_from(line, farewell)
        except Exception as error:  # noqa: BLE001 - see below
            # Whatever it was, nobody may wait for completions that nobody will deliver.
            _log.exception("parting from keeper %d failed; this is a bug", line.identity[0])
            self._give_up(f"there is no keeper any more: {error}")
            self._lose(list(self._running.values()), f"its keeper is gone: {error}")
            self._closed.set()

    def _part_from(self, line: _Line, farewell: Message | None) -> None:
        with self._lock:
            self._line = None
        line.wait()
        self._deliver(self._spooled_entries())
        if farewell is not None and self._spool is not None:
            self._deliver(self._spool.continue_with(farewell["unspooled"]))
            for process in farewell["stuck"]:
                _log.error("process %s could not be ended", process)
        if farewell is None or not self._closing:
            self._keeper_lost(line)
        else:
            self._closed.set()

    def _keeper_lost(self, line: _Line) -> None:
        message = self._end_without(line)
        _log.error("%s", message)
        with self._lock:
            lost = [x for number, x in self._running.items() if number not in self._not_sent]
        if self._on_keeper_lost is not None:
            self._on_keeper_lost(message)
        self._replace_keeper(message)
        self._lose(lost, message)
        if self._line is None:
            self._closed.set()

    def _lose(self, launches: Sequence[Launch], message: str) -> None:
        cause = Cause(CauseKind.LOST_NODE, message)
        self._complete(
            [
                Completion(launch.number, launch.attempt, JobStatus.KILLED, JobEnd(), cause)
                for launch in launches
            ]
        )

    def _end_without(self, line: _Line) -> str:
        """End the jobs of a dead keeper from here; return what is to be said of it."""
        code = None if line.process is None else line.process.returncode
        how = f" of signal {-code}" if code is not None and code < 0 else ""
        with self._lock:
            graces = [self.grace_s(launch.job) for launch in self._running.values()]
        sweep = sweep_run(
            self.context.number,
            self.context.run,
            directory=self._directory,
            since=line.identity[1],
            cgroup=line.cgroup,
            grace_s=max(graces, default=0.0),
        )
        left = f"; could not be ended: {', '.join(sweep.stuck)}" if sweep.stuck else ""
        return (
            f"the keeper, process {line.identity[0]}, died{how}; "
            f"{sweep.ended} processes of its jobs were ended without it{left}"
        )

    def _replace_keeper(self, message: str) -> None:
        """Find a new keeper for what is launched from now on, unless there were too many."""
        self._keepers_lost += 1
        if self._closing:
            return
        if self._keepers_lost > MAX_KEEPER_RESTARTS:
            self._give_up(f"{message}; it was keeper {self._keepers_lost} of this run")
            return
        try:
            connection, welcome = start_keeper(self.context)
        except KeeperError as error:
            self._give_up(f"{message}; no new one could be started: {error}")
            return
        with self._lock:
            line = self._meet(connection, welcome)
            held, self._held = self._held, []
        self._listen(line)
        if self._is_closing():  # since a moment ago
            line.send({"type": "close", "grace_s": None})
        self._hand_over(held)

    def _is_closing(self) -> bool:
        return self._closing

    def _give_up(self, why: str) -> None:
        with self._lock:
            self._refusal = why
            held, self._held = self._held, []
        self._refuse(held)

    def close(self) -> None:
        """Kill what still runs and wait until it and the keeper are gone.

        Idempotent; a call that was interrupted by an exception is made good by the next one.
        In a forked child of the driver it does nothing: the run is the driver's.
        """
        if os.getpid() != self._owner:
            return
        with self._closing_lock:
            if not self._closed.is_set():
                self._begin_to_close()
            self._wait_until_closed()
            self._workers.close()
            if self._spool is not None:
                self._spool.close()

    def _begin_to_close(self) -> None:
        with self._sending:
            with self._lock:
                self._closing = True
                self._refusal = "the backend is closed"
                line = self._line
                never_started = [self._running[n] for n in self._not_sent if n in self._running]
                self._not_sent.clear()
                self._held.clear()
                graces = [self.grace_s(launch.job) for launch in self._running.values()]
            if line is not None:
                line.send({"type": "close", "grace_s": None})
        self._complete([_never_started(launch) for launch in never_started])
        self._close_within_s = max(graces, default=0.0) + STUCK_AFTER_S + _CLOSE_MARGIN_S

    def _wait_until_closed(self) -> None:
        line = self._line
        if not self._started:
            if line is not None:  # adopted, but never gone on with
                line.connection.close()
            return
        # Without a line a keeper was lost just now, and its jobs are being ended from here.
        if line is not None and not self._closed.wait(self._close_within_s):
            _log.error("the keeper, process %d, does not end; it is killed", line.identity[0])
            send_signal(line.identity, signal.SIGKILL)
        self._closed.wait()
        if line is not None and line.reader is not None:
            line.reader.join()


def _never_started(launch: Launch) -> Completion:
    return Completion(launch.number, launch.attempt, JobStatus.KILLED, JobEnd())


def _send_ward(line: _Line, ward: Identity) -> None:
    line.send({"type": "ward", "pid": ward[0], "start_time": ward[1]})


_TRANSLATES = sys.getfilesystemencoding() != "utf-8"
