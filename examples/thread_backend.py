"""A backend in one file: each attempt is a child process with a thread that waits for it.

It is here to be read beside docs/how-to/add-a-backend.md: it passes the same contract suite as the
built-in backends, but it knows nothing of process trees, batches or a driver that dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from backends.base import Backend, Completion, Launch
from tasks.events import JobEnd
from tasks.run_context import RunContext
from tasks.status import Cause, CauseKind, JobStatus


class ThreadBackend(Backend):
    """Runs each attempt as a child process in a session of its own."""

    name = "thread"

    def __init__(self, context: RunContext) -> None:
        super().__init__(context)
        self._lock = threading.Lock()
        self._running: dict[int, _Attempt] = {}

    def launch(self, launches: Sequence[Launch]) -> None:
        """Start a thread for each attempt; it completes whatever happens in it."""
        for launch in launches:
            attempt = _Attempt(self, launch)
            with self._lock:
                self._running[launch.number] = attempt
            attempt.thread.start()

    def kill(self, numbers: Sequence[int], grace_s: float | None = None) -> None:
        """SIGTERM now and SIGKILL after the grace time, to the session of each attempt."""
        with self._lock:
            attempts = [self._running[each] for each in numbers if each in self._running]
        for attempt in attempts:
            attempt.stop(grace_s)

    def close(self) -> None:
        """Kill what runs and wait for it."""
        with self._lock:
            attempts = list(self._running.values())
        for attempt in attempts:
            attempt.stop(0.0)
        for attempt in attempts:
            attempt.thread.join()

    def complete(self, completion: Completion) -> None:
        """Forget the attempt and tell the scheduler, once."""
        with self._lock:
            del self._running[completion.number]
        self._completed([completion])


class _Attempt:
    def __init__(self, backend: ThreadBackend, launch: Launch) -> None:
        self._backend = backend
        self._launch = launch
        self._lock = threading.Lock()  # a signal must not meet a process that was waited for
        self._process: subprocess.Popen[bytes] | None = None
        self._timers: list[threading.Timer] = []
        self._grace_s: float | None = None  # set when somebody asked for the end
        self._cause: Cause | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def stop(self, grace_s: float | None, cause: Cause | None = None) -> None:
        """End the attempt; a second call can only shorten the grace."""
        if grace_s is None:
            grace_s = self._backend.grace_s(self._launch.job)
        with self._lock:
            if self._grace_s is None:
                self._cause = cause
            else:
                grace_s = min(grace_s, self._grace_s)
            self._grace_s = grace_s
        self._end_it()

    def _end_it(self) -> None:
        """Signal the process, if there is one yet and somebody has asked for its end."""
        if self._process is not None and self._grace_s is not None:
            self._signal(signal.SIGTERM)
            self._after(self._grace_s, self._signal, signal.SIGKILL)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            process = self._process = self._start()
        except OSError as error:
            cause = Cause(CauseKind.LAUNCH_ERROR, f"cannot be started: {error}")
            self._complete(JobStatus.FAILED, JobEnd(), cause)
            return
        self._end_it()  # where the kill came before there was a process
        limit_s = self._launch.job.timeout_s
        if limit_s is not None:
            cause = Cause(CauseKind.TIMEOUT, f"ran longer than {limit_s} s")
            self._after(limit_s, self.stop, None, cause)
        self._wait(process)
        self._tell_end(process.returncode, time.monotonic() - began)

    def _start(self) -> subprocess.Popen[bytes]:
        backend, launch = self._backend, self._launch
        backend.prepare_directory(launch, renew=launch.attempt > 1)
        command = launch.job.command
        with backend.log_path(launch.job).open("ab") as log:
            return subprocess.Popen(
                ("/bin/sh", "-c", command) if isinstance(command, str) else command,
                cwd=backend.working_directory(launch.job),
                env={**backend.context.environment, **backend.environment_of(launch)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        # Without reaping it: as long as nobody has, its id cannot be another process's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            process.wait()
            self._process = None
        for timer in self._timers:
            timer.cancel()

    def _tell_end(self, code: int, runtime_s: float) -> None:
        end = JobEnd(code if code >= 0 else None, -code if code < 0 else None, runtime_s=runtime_s)
        if self._grace_s is not None:
            self._complete(JobStatus.KILLED, end, self._cause)
        elif code < 0:
            cause = Cause(CauseKind.SIGNAL, f"ended by signal {-code}", {"signal": -code})
            self._complete(JobStatus.FAILED, end, cause)
        elif code > 0:
            cause = Cause(CauseKind.EXIT_CODE, f"exit code {code}", {"exit_code": code})
            self._complete(JobStatus.FAILED, end, cause)
        else:
            self._complete(JobStatus.PASSED, end, None)

    def _complete(self, status: JobStatus, end: JobEnd, cause: Cause | None) -> None:
        launch = self._launch
        completion = Completion(launch.number, launch.attempt, status, end, cause, time.time())
        # Exit code 0 is not enough: the job may have declared outputs and patterns.
        self._backend.complete(self._backend.judge(completion, launch.job))

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._process is not None:
                os.killpg(self._process.pid, number)

    def _after(self, seconds: float, function: object, *arguments: object) -> None:
        timer = threading.Timer(seconds, function, arguments)  # type: ignore[arg-type]
        timer.daemon = True
        self._timers.append(timer)
        timer.start()
