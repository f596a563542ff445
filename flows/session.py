"""One run from its lock to its results: the only place where the rooms are wired together."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.base import Backend
from backends.keeper_process import KeeperError
from backends.registry import load_backend
from backends.scheduler import Scheduler
from backends.scheduling.limits import Limits
from flows.adoption import RunAdoption
from flows.control import ControlServer
from flows.kept_run import KeptRun, difference, kept_run
from flows.lock import Holder, NameLock, keeper_of, new_holder
from flows.places import socket_path
from flows.run_directory import RunFile, create_run_directory
from flows.run_settings import RunSettings, default_parallelism
from flows.run_summary import RunSummary
from flows.settle import end_dead_run, wait_for_keeper
from flows.versions import git_state, versions
from observers.base import Observer
from observers.dispatch import Observers
from observers.job_list import JobList
from observers.journal import Journal
from observers.progress import Progress
from observers.results import write_results
from observers.status_links import StatusLinks
from tasks.clock import SystemClock
from tasks.environment_file import write_environment_file
from tasks.errors import HoldfastError, InputError, StateError
from tasks.events import Adopted, RunEnded, RunStarted
from tasks.process_identity import ProcessIdentity
from tasks.run_context import RunContext, new_run_number
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind, RunStatus

_log = logging.getLogger("holdfast.session")


class RunSession:
    """A run: its directory, lock, backends, scheduler, observers and control socket.

    Life: ``start``, then ``add`` and ``finish`` in any order from any thread, ``wait`` for the
    end, ``close`` in any case.  ``cancel`` may come at any time from any thread, also before
    ``start``.  Whatever is raised in between, after ``wait`` or ``close`` no process of the run
    is alive and links, journal, ``run.json`` and ``results.json`` tell what happened.

    ``observers`` join the built-in ones (one that needs the run directory is given as a function
    of it); with ``builtin_observers=False`` they replace all but the journal and the list of
    jobs, without which a run could not be told from disk.  ``backends`` says how to make those
    backends that need more than the run's context.
    """

    def __init__(
        self,
        settings: RunSettings,
        *,
        observers: Sequence[Observer | Callable[[Path], Observer]] = (),
        builtin_observers: bool = True,
        backends: Mapping[str, Callable[[RunContext], Backend]] | None = None,
        flow_run_id: str | None = None,
        resumed_from: str | None = None,
    ) -> None:
        self.settings = settings
        self._limits = Limits(
            max_parallel=settings.max_parallel or default_parallelism(),
            backends=settings.backend_limits,
            resources=settings.resources,
        )
        self._given_observers = tuple(observers)
        self._builtin_observers = builtin_observers
        self._backend_makers = dict(backends or {})
        self._flow_run_id = flow_run_id
        self._resumed_from = resumed_from
        self._clock = SystemClock()
        self._lock = NameLock(settings.name)
        self._backends: dict[str, Backend] = {}
        self._ended = threading.Event()
        self._ending = threading.Lock()
        self._writing = threading.Lock()
        """Guards ``run.json``, which the flow's thread completes."""
        self._summary: RunSummary | None = None
        self._graph: Sequence[JobRecord] | None = None
        self._adoption: RunAdoption | None = None
        self._progress: Progress | None = None
        self.stopped_by = ""
        """A signal's name, or who asked for the end of the run; empty if nobody did."""
        self.earlier_flow_run_id: str | None = None
        """The flow run of the driver that died, where this session goes on with its run."""
        self.verdict: RunStatus | None = None
        """How the run is to end whatever its jobs did; ``None``: as they say."""
        self._error = ""
        self._started = 0.0
        self._scheduler: Scheduler | None = None
        self._early_cancel: tuple[str, str, float | None] | None = None
        self._opening = threading.Lock()
        """Guards the two above: a cancel may come while the scheduler is being made."""
        self._control: ControlServer | None = None
        self._thread: threading.Thread | None = None

    # -- the start -------------------------------------------------------------------------

    def start(self, graph: Sequence[JobRecord] | None = None) -> None:
        """Take the name's lock, make the run directory, start the keeper and the scheduler.

        ``graph`` are the jobs of the run where all are known; they are added.  If a keeper keeps
        jobs of this very graph, whose driver died, the session goes on in that run instead:
        ``is_adopted``.  Where it keeps those of another graph ``StateError`` is raised, unless
        the settings say to wait.

        Raises ``BusyError`` where another run holds the name, ``InputError`` for an unknown
        backend, ``OSError`` where the run directory cannot be written; then nothing is left.
        """
        self._graph = graph
        self._lock.take(
            self._claim,
            dead=end_dead_run,
            wait_for_keeper=wait_for_keeper,
            adopt=self._adopt,
            wait=self.settings.wait,
            waiting=lambda holder: _log.warning("waiting for run %s to end", holder.run),
        )
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        if graph is not None and not self.is_adopted:
            self.add(graph)

    @property
    def is_adopted(self) -> bool:
        """Whether the session goes on in the run of a driver that died."""
        return self._adoption is not None

    def check(self, jobs: Sequence[JobRecord]) -> None:
        """Raise ``InputError`` with everything that would keep these jobs from being added.

        For use before ``start``: bad input leaves no run behind.
        """
        problems: list[str] = []
        backends: dict[str, type[Backend]] = {}
        for name in {self.settings.backend, *(job.backend for job in jobs if job.backend)}:
            try:
                backends[name] = load_backend(name)
            except InputError as error:
                problems += error.problems
        if not problems:
            problems = [*self._limits.problems(jobs), *self._interactive_problems(jobs, backends)]
        if problems:
            raise InputError(problems)

    def _interactive_problems(
        self, jobs: Sequence[JobRecord], backends: Mapping[str, type[Backend]]
    ) -> list[str]:
        problems = []
        for job in jobs:
            if job.interactive:
                backend = backends[job.backend or self.settings.backend]
                problem = backend.why_not_interactive()
                problems += [] if problem is None else [f'job "{job.id}": {problem}']
        return problems

    def _claim(self) -> Holder:
        self._started = self._clock.time()
        settings = self.settings
        self.directory = create_run_directory(settings.runs, settings.name, self._new_file)
        return new_holder(self.run, self.directory)

    def _new_file(self, run: str) -> RunFile:
        self.run = run
        self._file = RunFile(
            run=run,
            name=self.settings.name,
            started_at=self._started,
            flow_run_id=self._flow_run_id,
            parameters=self.settings.parameters,
            resumed_from=self._resumed_from,
            versions=versions(),
            driver=ProcessIdentity.of_this_process().to_json(),
            cwd=str(self.settings.cwd or self.settings.runs / run),
            number=new_run_number(),
        )
        return self._file

    def _adopt(self, holder: Holder) -> Holder | None:
        """Go on in the run of a dead driver, if its keeper keeps its jobs."""
        kept = kept_run(holder.directory)
        if kept is None or not self._may_adopt(kept):
            return None
        self.directory, self.run = kept.directory, kept.file.run
        self._started = kept.file.started_at
        driver = ProcessIdentity.of_this_process().to_json()
        self._file = replace(kept.file, driver=driver)
        self.context = self._new_context()
        backend = self._make_backend("local")
        try:
            self._adoption = RunAdoption.of(kept, backend, self._graph or ())
        except KeeperError as error:
            _log.warning("run %s could not be adopted: %s", self.run, error)
            return None
        self.earlier_flow_run_id = kept.file.flow_run_id
        self._file.write(self.directory)
        return replace(new_holder(self.run, self.directory), keeper=kept.keeper.identity)

    def _may_adopt(self, kept: KeptRun) -> bool:
        """Whether it is this very graph; raises ``StateError`` if another one is in the way."""
        if self._graph is None:
            other: str | None = "only a start with the whole job graph goes on with it"
        else:
            other = difference(kept, self._graph, self.settings.cwd)
        if other is not None and not self.settings.wait:
            raise StateError(
                f"run {kept.file.run} goes on without its driver, and it is not what is to be "
                f"started: {other}; start the same graph again to go on with it, wait for its "
                f"end with --wait, or end it: python -m flows.run cancel {kept.file.run} "
                f"--runs {kept.directory.parent}"
            )
        return other is None

    def _open(self) -> None:
        if self._adoption is None:
            self.context = self._new_context()
            write_environment_file(self.directory / "env.txt", self.context.environment)
        (self.directory / "jobs").mkdir(exist_ok=True)
        self.observers = Observers(self._all_observers(), clock=self._clock)
        scheduler = Scheduler(
            self._backends,
            self.settings.backend,
            self.observers,
            limits=self._limits,
            fail_fast=self.settings.fail_fast,
            clock=self._clock,
        )
        with self._opening:
            self._scheduler, early = scheduler, self._early_cancel
        try:
            if self._adoption is None:
                self._start_backend(self.settings.backend)
            self._control = ControlServer(
                socket_path(self._file.number, "driver"), self._answer_request
            )
            self._file = replace(
                self._file,
                status=RunStatus.RUNNING,
                socket=str(self._control.path),
                git=git_state(self.settings.cwd or Path.cwd()),
            )
            self._file.write(self.directory)
            if self._adoption is None:
                self.observers.run_started(RunStarted(self._started, self._file.to_json()))
            else:
                self._go_on_with(self._adoption)
            self.observers.when_essential_fails(self._stop_for)
            self._thread = threading.Thread(
                target=self._schedule, name="holdfast-scheduler", daemon=True
            )
            self._thread.start()
            if early is not None:
                self.cancel(early[0], early[1], grace_s=early[2])
        except BaseException as error:
            self._error = self._error or f"{type(error).__name__}: {error}"
            self.close()
            raise

    def _go_on_with(self, adoption: RunAdoption) -> None:
        """Put scheduler and observers where the dead driver's were."""
        jobs = adoption.jobs
        self._backends["local"] = adoption.backend
        for name in {self.settings.backend, *(job.backend for job in jobs if job.backend)}:
            self._start_backend(name)
        self.observers.retell(RunStarted(self._started, self._file.to_json()), jobs)
        self.observers.retell_changes(adoption.changes)
        self.observers.adopted(Adopted(self._clock.time(), adoption.taken_over))
        self._running.take_over("local", adoption.backend, jobs, adoption.past)

    def _new_context(self) -> RunContext:
        return RunContext(
            run=self.run,
            directory=self.directory,
            number=self._file.number,
            cwd=self.settings.cwd or self.directory,
            grace_s=self.settings.grace_s,
            on_crash=self.settings.on_crash,
            adopt_within_s=self.settings.adopt_within_s,
            settle_command=(
                *(sys.executable, "-m", "flows.run", "settle", self.run),
                *("--runs", str(self.directory.parent)),
            ),
        )

    def _all_observers(self) -> list[Observer]:
        # The journal comes first: what others do stands on what it has written.
        chosen: list[Observer] = [Journal(self.directory), JobList(self.directory, self._head())]
        if self._builtin_observers:
            chosen.append(StatusLinks(self.directory))
            if self.settings.progress:
                self._progress = Progress(interval_s=self.settings.progress_interval_s)
                chosen.append(self._progress)
        chosen += [
            given if isinstance(given, Observer) else given(self.directory)
            for given in self._given_observers
        ]
        return chosen

    def _head(self) -> dict[str, Any]:
        """What the list of jobs says first: a DAG file's head."""
        head: dict[str, Any] = {"name": self.settings.name, "cwd": str(self.settings.cwd)}
        if self.settings.resources:
            head["resources"] = dict(self.settings.resources)
        return {**head, "max_parallel": self._limits.max_parallel}

    def _start_backend(self, name: str) -> None:
        if name in self._backends:
            return
        backend = self._make_backend(name)
        self._backends[name] = backend  # before its start: a half-started one is closed too
        self._running.add_backend(name, backend)
        keeper = keeper_of(self.directory)
        if keeper is not None:
            holder = replace(new_holder(self.run, self.directory), keeper=keeper)
            self._lock.update(holder)

    def _make_backend(self, name: str) -> Backend:
        make = self._backend_makers.get(name)
        backend = load_backend(name)(self.context) if make is None else make(self.context)
        backend.terminal_lent = self._terminal_lent
        return backend

    def _terminal_lent(self, lent: bool) -> None:
        if self._progress is not None:
            if lent:
                self._progress.suspend()
            else:
                self._progress.resume()

    # -- while it runs ---------------------------------------------------------------------

    def add(
        self,
        jobs: Sequence[JobRecord],
        *,
        passed: Collection[str] = (),
        held: Collection[str] = (),
    ) -> None:
        """Add jobs; they may need each other and any job added before.

        Jobs whose ids are in ``passed`` are spared: they end as passed without running; those
        in ``held`` wait for ``release`` too.
        Raises ``InputError`` with every problem found; then none of the jobs was added.
        """
        for name in {job.backend for job in jobs if job.backend is not None}:
            self._start_backend(name)
        self._running.add(jobs, passed=passed, held=held)

    def release(self, job_id: str, cause: Cause | None = None) -> None:
        """Let a held job run once its needs have passed; with a ``cause`` it is killed."""
        self._running.release(job_id, cause)

    def finish(self) -> None:
        """No job will be added any more: the run ends when all its jobs have ended."""
        self._running.finish()

    def cancel(self, by: str, reason: str, *, grace_s: float | None = None) -> None:
        """End every job and then the run; returns at once.

        ``by`` is a signal's name or whoever asked.  A second call may shorten the grace.
        """
        self.stopped_by = self.stopped_by or by
        with self._opening:
            scheduler = self._scheduler
            if scheduler is None:
                self._early_cancel = (by, reason, grace_s)
                return
        scheduler.kill_all(by=by, reason=reason, grace_s=grace_s, kind=CauseKind.CANCELLED)

    def _stop_for(self, error: HoldfastError) -> None:
        """The journal cannot be written: without it the run must not go on."""
        self._error = self._error or str(error)
        self.cancel("Holdfast", str(error))

    def stop_by_signal(self, signal_name: str, again: bool) -> None:
        """Cancel for a signal: gracefully for the first, at once when it came again."""
        if again:
            self.cancel(signal_name, f"{signal_name} came again: killing at once", grace_s=0.0)
        else:
            self.cancel(signal_name, f"stopped by {signal_name}")

    @property
    def _running(self) -> Scheduler:
        if self._scheduler is None:
            raise StateError("the run has not started")
        return self._scheduler

    def add_ward(self, pid: int) -> None:
        """Have a process of this run's own, a server for example, die with its driver."""
        for backend in self._backends.values():
            backend.ward(pid)

    def note_flow_run(self, flow_run_id: str | None, api_url: str, *, ephemeral: bool) -> None:
        """Remember, for whoever reads the run from disk, where it is reported to.

        Without an id the flow run is about to be made, with the run's name.
        """
        with self._writing:
            self._file = replace(
                self._file,
                flow_run_id=flow_run_id,
                prefect={
                    "api_url": api_url,
                    "ephemeral": ephemeral,
                    "report_limit": self.settings.report_limit,
                },
            )
            self._file.write(self.directory)

    @property
    def is_over(self) -> bool:
        """Whether every job has ended and none can be added any more."""
        return self._ended.is_set()

    def wait_for_jobs(self, timeout_s: float | None = None) -> None:
        """Wait until every job has ended and none can be added; raises ``TimeoutError``."""
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"run {self.run} is still going on")

    def wait(self, timeout_s: float | None = None) -> RunSummary:
        """Wait until the run has ended and all is written; return what became of it.

        Observers live on until ``close``: a report may still be under way.  Raises
        ``TimeoutError`` if it takes longer.  What a signal handler raises here leaves the run as
        it is; ``close`` then ends it.
        """
        self.wait_for_jobs(timeout_s)
        return self._end_once()

    def _schedule(self) -> None:
        try:
            self._running.run()
        except BaseException as error:  # noqa: BLE001 - it ends the run, which must be told
            _log.exception("the scheduler failed; the run is ended")
            self._error = f"{type(error).__name__}: {error}"
        finally:
            self._ended.set()

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> RunSummary | None:
        """End the run if it has not ended, and let go of everything.  Idempotent, thread-safe.

        Returns what became of the run; ``None`` for one that never started.
        """
        if self._scheduler is None:
            return None
        summary = self._end_once()
        self.observers.close()
        return summary

    def _end_once(self) -> RunSummary:
        with self._ending:
            if self._summary is None:
                self._summary = self._end()
        return self._summary

    def _end(self) -> RunSummary:
        scheduler = self._running
        if self._thread is not None and not self._ended.is_set():
            self.cancel(self.stopped_by or "flow", "the flow ended before its jobs did")
            scheduler.finish()
            self._thread.join()
        self._do("ending the backends", self._close_backends)
        counts = scheduler.counts()
        status = self._status(counts)
        ended_at = self._clock.time()
        self.observers.run_ended(RunEnded(ended_at, status, counts))
        self._do("writing the results", lambda: write_results(self.directory))
        with self._writing:
            self._file = self._file.ended(status, counts, ended_at)
            self._do("writing run.json", lambda: self._file.write(self.directory))
        if self._control is not None:
            self._do("closing the control socket", self._control.close)
        self._do("releasing the lock", self._lock.release)
        return RunSummary(
            run=self.run,
            directory=self.directory,
            status=status,
            counts=counts,
            duration_s=ended_at - self._started,
            stopped_by=self.stopped_by,
            error=self._error,
            failed_observers=dict(self.observers.failed),
        )

    def _close_backends(self) -> None:
        for backend in self._backends.values():
            backend.close()

    def _do(self, what: str, action: Callable[[], object]) -> None:
        """One step of the end: the next ones happen whatever becomes of it."""
        try:
            action()
        except Exception as error:  # noqa: BLE001
            _log.exception("%s failed", what)
            self._error = self._error or f"{what} failed: {error}"

    def _status(self, counts: Mapping[str, int]) -> RunStatus:
        if self._error:
            return RunStatus.CRASHED
        if self.verdict is not None:
            return self.verdict
        if self.stopped_by and counts.get("cancelled", counts.get("killed", 0)):
            return RunStatus.CANCELLED
        if counts.get("failed", 0) or counts.get("killed", 0):
            return RunStatus.FAILED
        return RunStatus.COMPLETED

    # -- requests from other terminals -----------------------------------------------------

    def _answer_request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        operation = request.get("op")
        if operation == "status":
            return {"run": self.run, "counts": self._running.counts()}
        if operation == "cancel":
            return self._answer_cancel(request)
        raise InputError([f'unknown request "{operation}"; this run knows "status" and "cancel"'])

    def _answer_cancel(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.is_over:
            raise StateError(f"run {self.run} has ended")
        grace = request.get("grace_s")
        by = str(request.get("by", "cancel"))[:200]
        self.cancel(by, f"cancelled by {by}", grace_s=None if grace is None else float(grace))
        return {"run": self.run, "counts": self._running.counts()}
