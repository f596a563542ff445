"""Prefect beside a run that is already going: its own thread, which nothing waits for.

The thread imports Prefect, starts a server where none is configured, and opens the flow run.
The flow's body follows the run (``flows/flow_body.py``) until it ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flows.ephemeral_server import EphemeralServer
from flows.run_settings import RunSettings
from flows.run_summary import RunSummary
from flows.session import RunSession
from observers.prefect_reporter import PrefectReporter
from tasks.sanitise import one_line

_log = logging.getLogger("holdfast.prefect")

_STATE_TIMEOUT_S = 15.0
"""How long the flow run's own last state may take after the report is done."""


class PrefectThread:
    """Opens a flow run for a session and follows it; ``finish`` after the session has ended.

    ``flow_name`` is a flow of ``flows.deployed``; ``parameters`` are those of its function that
    a person gave.
    """

    def __init__(
        self, flow_name: str, settings: RunSettings, parameters: Mapping[str, Any]
    ) -> None:
        self._flow_name = flow_name
        self._settings = settings
        self._parameters = parameters
        self._server: EphemeralServer | None = None
        self._thread: threading.Thread | None = None
        self._unreported = 0
        self._attached = threading.Event()
        self.reporter = PrefectReporter(limit=settings.report_limit)

    def start(self, session: RunSession) -> None:
        """Begin beside the session; returns at once."""
        self._session = session
        self._thread = threading.Thread(target=self._run, name="holdfast-prefect", daemon=True)
        self._thread.start()

    def finish(self, summary: RunSummary) -> RunSummary:
        """Wait until the run is reported, at most as long as the settings say.

        Returns the summary with the number of task runs that the server has not confirmed.
        """
        if self._thread is None:
            return summary
        self._thread.join()
        self._stop_server()
        return replace(summary, unreported=self._unreported)

    def stop_waiting(self) -> None:
        """Have ``finish`` return now.  Safe to call from a signal handler."""
        self.reporter.skip()

    def abandon(self) -> None:
        """Let go of the server after the run could not be started."""
        self.reporter.close()
        self._stop_server()

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _run(self) -> None:
        try:
            self._run_flow()
        except Exception as error:  # noqa: BLE001 - no run ends because of Prefect
            run = self._session.run
            _log.warning(
                "the run goes on without Prefect: %s; report it later: "
                "python -m flows.run sync %s; to start without Prefect: --offline",
                one_line(str(error)),
                run,
            )
        finally:
            self._attached.set()

    def _run_flow(self) -> None:
        # A person in a terminal looks at the run's own progress; what Prefect warns of is shown.
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with contextlib.ExitStack() as stack:
            if not PREFECT_API_URL.value():
                self._server = EphemeralServer.start()
                self._session.add_ward(self._server.process.pid)
                self._server.wait_until_up()
                stack.enter_context(temporary_settings({PREFECT_API_URL: self._server.api_url}))
            from flows.deployed import FLOWS
            from flows.flow_body import Led, led_by

            led = Led(self._session, self.reporter, ephemeral=self._server is not None)
            stack.enter_context(led_by(led))
            flow = FLOWS[self._flow_name].with_options(flow_run_name=self._session.run)
            known = flow.parameters.properties
            self._session.note_flow_run(
                None, str(PREFECT_API_URL.value()), ephemeral=self._server is not None
            )
            given = {key: value for key, value in self._parameters.items() if key in known}
            flow(**given, return_state=True)
            self._unreported = led.unreported
