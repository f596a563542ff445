"""The run behind one flow run of a task runner: its session, and what Prefect is told of it."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.settings import get_current_settings

from backends.base import Backend
from flows.places import deployed_runs_directory, runs_directory
from flows.prefect_private import own_server_pid
from flows.prefect_settings import connection
from flows.run_names import claim_run_name, give_back_run_name, run_name_of
from flows.run_settings import RunSettings
from flows.run_summary import RunSummary
from flows.session import RunSession
from observers.base import Observer
from observers.prefect_reporter import PrefectReporter
from observers.prefect_state import force_flow_run_state, watch_for_cancel
from tasks.run_context import RunContext
from tasks.spec import JobRecord
from tasks.status import Cause, RunStatus

_log = logging.getLogger("holdfast.task_runner")


class FlowRunSession:
    """Opens a run when the first job comes, reports it to the flow run, and ends it.

    ``settings`` are a task runner's, ``backends`` what its backends need to be made.
    ``api_url`` is where the flow's own engine speaks to Prefect, a server that Prefect itself
    has started included.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        backend: str,
        flow_name: str,
        flow_run: FlowRun,
        api_url: str,
        backends: Mapping[str, Callable[[RunContext], Backend]],
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._backends = backends
        self._flow_name = flow_name
        self._flow_run = flow_run
        self._api_url, self._headers, self._verify = connection(api_url)
        self._session: RunSession | None = None
        self._reporter: PrefectReporter | None = None
        self._over = threading.Event()
        self._server_answers = True

    @property
    def is_open(self) -> bool:
        """Whether there is a run."""
        return self._session is not None

    @property
    def directory(self) -> Path:
        """The run's directory."""
        return self._running.directory

    @property
    def stopped_by(self) -> str:
        """Who asked for the end of the run; empty if nobody did."""
        return self._session.stopped_by if self._session is not None else ""

    def open(self, observer: Observer) -> None:
        """Start the run; ``observer`` sees it before those that the runner was given.

        Raises what ``RunSession.start`` raises; then nothing is left.
        """
        name = claim_run_name(self._settings["run_name"] or run_name_of(self._flow_name))
        try:
            session = self._new_session(name, observer)
            session.start()
        except BaseException:
            give_back_run_name(name)
            raise
        self._session = session
        self._report()

    def add(
        self, jobs: Sequence[JobRecord], *, passed: Collection[str], held: Collection[str]
    ) -> None:
        """Add jobs to the run; raises ``InputError``, then none was added."""
        self._running.add(jobs, passed=passed, held=held)

    def release(self, job_id: str, cause: Cause | None = None) -> None:
        """Let a held job go, or with a cause kill it."""
        self._running.release(job_id, cause)

    def finish(self) -> None:
        """No job will be added any more."""
        if self._session is not None:
            self._session.finish()

    def cancel(self, by: str, reason: str, grace_s: float | None) -> None:
        """Kill every job; returns at once."""
        if self._session is not None:
            self._session.cancel(by, reason, grace_s=grace_s)

    def end(self, verdict: Callable[[], RunStatus], ended: Callable[[], None]) -> RunSummary | None:
        """Wait until every job has ended, then end the run with this verdict and close it.

        ``ended`` is called when no process is left, before the rest of the report is waited
        for.  Returns what became of the run; ``None`` if there was none.
        """
        if self._session is None:
            ended()
            return None
        session = self._session
        try:
            session.wait_for_jobs()
            session.verdict = verdict()
            summary = session.wait()
            self._over.set()
            ended()
            if self._reporter is not None:
                # A server that did not take the state, gone with the same Ctrl-C, takes no more.
                wait_s = session.settings.report_wait_s if self._server_answers else 0.0
                self._reporter.finish(wait_s)
            return summary
        finally:
            self._over.set()
            session.close()
            give_back_run_name(session.settings.name)

    def force_cancelled(self, message: str) -> None:
        """Set the flow run Cancelled, whatever state it is in; what fails is logged."""
        try:
            force_flow_run_state(
                self._api_url,
                self._headers,
                str(self._flow_run.id),
                "CANCELLED",
                "Cancelled",
                message,
                verify=self._verify,
            )
        except Exception as error:  # noqa: BLE001 - the end of a run must not depend on Prefect
            self._server_answers = False
            _log.warning('flow run "%s" was not set Cancelled: %s', self._flow_run.name, error)

    @property
    def _running(self) -> RunSession:
        assert self._session is not None, "jobs without a session; this is a bug"
        return self._session

    def _new_session(self, name: str, observer: Observer) -> RunSession:
        chosen = self._settings
        observers: list[Observer | Callable[[Path], Observer]] = [observer]
        if not chosen["replace_observers"]:
            self._reporter = PrefectReporter(limit=chosen["report_limit"])
            observers.append(self._reporter)
        return RunSession(
            self._run_settings(name),
            observers=[*observers, *chosen["observers"]],
            builtin_observers=not chosen["replace_observers"],
            backends=self._backends,
            flow_run_id=str(self._flow_run.id),
        )

    def _run_settings(self, name: str) -> RunSettings:
        chosen = self._settings
        return RunSettings(
            name=name,
            runs=runs_folder(chosen["runs"], self._flow_run),
            cwd=Path.cwd() if chosen["cwd"] is None else chosen["cwd"].absolute(),
            parameters={"flow": self._flow_name, "flow_run": self._flow_run.name},
            max_parallel=chosen["max_parallel"],
            resources=chosen["resources"],
            backend=self._backend,
            fail_fast=chosen["fail_fast"],
            grace_s=chosen["grace_s"],
            on_crash=chosen["on_crash"],
            adopt_within_s=chosen["adopt_within_s"],
            wait=chosen["wait"],
            report_wait_s=chosen["report_wait_s"],
            report_limit=chosen["report_limit"],
        )

    def _report(self) -> None:
        session = self._running
        flow_run_id = str(self._flow_run.id)
        ephemeral = get_current_settings().api.url is None
        session.note_flow_run(flow_run_id, self._api_url, ephemeral=ephemeral)
        server = own_server_pid()
        if ephemeral and server is not None:
            session.add_ward(server)  # a flow that is killed would leave it behind
        if self._reporter is not None:
            self._reporter.attach(
                flow_run_id,
                self._api_url,
                self._headers,
                directory=session.directory,
                verify=self._verify,
                ephemeral=ephemeral,
            )
        threading.Thread(target=self._watch, name="holdfast-cancel-watch", daemon=True).start()

    def _watch(self) -> None:
        """Obey a cancel in Prefect, which nobody brings to a flow that no worker started."""
        state = watch_for_cancel(
            self._api_url, self._headers, str(self._flow_run.id), self._over, verify=self._verify
        )
        if state is not None:
            self._running.cancel("Prefect", "cancelled in Prefect")


def runs_folder(given: Path | None, flow_run: FlowRun) -> Path:
    """Return the folder of run directories; raises ``InputError`` where it would be deleted."""
    is_absolute = (given or Path(os.environ.get("HOLDFAST_RUNS", ""))).is_absolute()
    if flow_run.deployment_id is not None and not is_absolute and _is_a_workers_folder(Path.cwd()):
        return deployed_runs_directory()
    return runs_directory(given)


def _is_a_workers_folder(folder: Path) -> bool:
    """Whether Prefect's process worker made the folder and will delete it."""
    return folder.parent == Path(tempfile.gettempdir()) and folder.name.endswith("prefect")
