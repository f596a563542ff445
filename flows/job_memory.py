"""What passed in earlier attempts of a flow run, so that a retry of the flow does not repeat it."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

from tasks.job_result import JobResult
from tasks.spec import JobRecord

_FLOW_RUNS = 64
"""So many flow runs are remembered; a flow run is forgotten when it completes."""


class JobMemory:
    """The passed jobs of the flow runs that may be retried; shared by a runner's duplicates."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed: OrderedDict[UUID, dict[str, tuple[bytes, JobResult]]] = OrderedDict()

    def remember(self, flow_run_id: UUID, passed: Iterable[tuple[JobRecord, JobResult]]) -> None:
        """Add jobs that passed in an attempt of this flow run."""
        known = {job.id: (_fingerprint(job), result) for job, result in passed}
        with self._lock:
            self._passed.setdefault(flow_run_id, {}).update(known)
            self._passed.move_to_end(flow_run_id)
            while len(self._passed) > _FLOW_RUNS:
                self._passed.popitem(last=False)

    def forget(self, flow_run_id: UUID) -> None:
        """This flow run will not be retried any more."""
        with self._lock:
            self._passed.pop(flow_run_id, None)

    def result_of(self, flow_run_id: UUID, job: JobRecord) -> JobResult | None:
        """Return how the same job, with the same specification, passed; ``None`` if it did not."""
        with self._lock:
            found = self._passed.get(flow_run_id, {}).get(job.id)
        if found is None or found[0] != _fingerprint(job):
            return None
        return found[1]


def _fingerprint(job: JobRecord) -> bytes:
    text = json.dumps(job.to_json(), sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
