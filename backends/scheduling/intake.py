"""The door for jobs: checked and numbered in the thread that brings them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

from backends.base import Backend
from backends.scheduling.job_table import JobTable
from backends.scheduling.limits import Limits
from backends.scheduling.ready_queue import JobKind
from backends.scheduling.supplies import Supplies
from tasks.errors import InputError
from tasks.graph import graph_problems
from tasks.spec import JobRecord

_NO_RESOURCES: Mapping[str, int] = {}


class Intake:
    """Checks jobs and sorts them into kinds.  Not thread-safe: its owner holds a lock."""

    def __init__(self, default_backend: str, limits: Limits, table: JobTable) -> None:
        self.limits = limits
        self._first_limits = limits
        self.supplies = Supplies(limits)
        self.kinds: list[JobKind] = []
        """The kinds of jobs seen so far; ``JobTable.kinds`` has indices into this."""
        self.backends: dict[str, Backend] = {}
        self._default_backend = default_backend
        self._table = table
        self._kind_index: dict[object, int] = {}

    def add_backend(self, name: str, backend: Backend) -> None:
        """Let jobs name one more backend."""
        self.backends[name] = backend
        self.supplies.add_backend(name, self.limits)

    def accept(self, jobs: Sequence[JobRecord]) -> array[int]:
        """Give the jobs their numbers, the next ones in order; return the kind of each.

        Raises ``InputError`` with every problem of the graph, of requests for resources, of
        backends; then nothing has changed.
        """
        numbers = self._table.numbers
        problems = [
            *graph_problems(jobs, numbers),
            *self._resource_problems(jobs),
            *self._backend_problems(jobs),
        ]
        if problems:
            raise InputError(problems)
        kinds = array("I", map(self._kind_of, jobs))
        first = len(numbers) + 1
        numbers.update(zip((job.id for job in jobs), range(first, first + len(jobs)), strict=True))
        return kinds

    def _resource_problems(self, jobs: Sequence[JobRecord]) -> list[str]:
        problems = self.limits.problems(jobs)
        if not problems or self.limits is self._first_limits:
            return problems
        # A limit that was lowered for a while makes jobs wait; it does not refuse them.
        return [
            problem
            for job in jobs
            if self._first_limits.problems([job])
            for problem in self.limits.problems([job])
        ]

    def _backend_problems(self, jobs: Sequence[JobRecord]) -> list[str]:
        problems: list[str] = []
        default = self.backends.get(self._default_backend)
        for job in jobs:
            name = job.rest.get("backend")
            backend = default if name is None else self.backends.get(name)
            if backend is None:
                problems.append(self._unknown_backend(job))
            elif found := backend.check(job):
                problems += [f'job "{job.id}": {problem}' for problem in found]
        return problems

    def _unknown_backend(self, job: JobRecord) -> str:
        known = ", ".join(sorted(self.backends)) or "none"
        name = job.backend or self._default_backend
        return f'job "{job.id}" asks for backend "{name}", which this run does not have ({known})'

    def _kind_of(self, job: JobRecord) -> int:
        rest = job.rest
        resources = rest.get("resources", _NO_RESOURCES)
        key = (
            rest.get("backend"),
            tuple(sorted(resources.items())) if resources else (),
            rest.get("interactive", False),
        )
        index = self._kind_index.get(key)
        if index is None:
            backend = job.backend or self._default_backend
            self.kinds.append(
                JobKind(backend, self.supplies.request(backend, dict(key[1]), interactive=key[2]))
            )
            index = self._kind_index[key] = len(self.kinds) - 1
        return index
