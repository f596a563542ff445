"""A few threads for work on files that may take long, off the threads that others wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

_log = logging.getLogger("holdfast.backends")

Work = Callable[[], None]


class FileWorkers:
    """Runs pieces of work in order of submission, as many at once as there are threads.

    The threads start with the first piece: most runs have none.
    """

    def __init__(self, threads: int = 2) -> None:
        self._count = threads
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def submit(self, work: Work) -> None:
        """Do the work soon; what it raises is logged."""
        with self._lock:
            if not self._threads:
                self._threads = [self._new_thread(index) for index in range(self._count)]
        self._queue.put(work)

    def close(self) -> None:
        """Return when all that was submitted is done and the threads have ended."""
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def _new_thread(self, index: int) -> threading.Thread:
        thread = threading.Thread(target=self._serve, name=f"holdfast-files-{index}", daemon=True)
        thread.start()
        return thread

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:  # noqa: BLE001 - one job's files never stop the others'
                _log.exception("work on a job's files failed; this is a bug")
