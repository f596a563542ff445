"""How much of everything a run may use at a time."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tasks.errors import InputError
from tasks.spec import JobRecord

ResourceLimit = int | tuple[str, ...]
"""A resource is counted, or handed out by id."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one run.

    ``max_parallel`` bounds the attempts that run at a time, ``backends`` those on each backend;
    what is not named there is not limited.  ``resources`` is all that jobs may ask for under
    ``resources``; ``ids_in_use`` bounds how many ids of one are in use at a time.  Raises
    ``InputError`` for limits that make no sense.
    """

    max_parallel: int | None = None
    backends: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, ResourceLimit] = field(default_factory=dict)
    ids_in_use: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.max_parallel is not None and self.max_parallel < 1:
            problems.append(_no_slots("max_parallel", self.max_parallel))
        for name, limit in self.backends.items():
            if limit < 1:
                problems.append(_no_slots(f'the limit of backend "{name}"', limit))
        for name, amount in self.resources.items():
            problems += _resource_problems(name, amount)
        if problems:
            raise InputError(problems)

    def available(self, resource: str) -> int | None:
        """Return how much of a resource there is in all, ``None`` where there is no such one."""
        limit = self.resources.get(resource)
        if not isinstance(limit, tuple):
            return limit
        return min(len(limit), self.ids_in_use.get(resource, len(limit)))

    def problems(self, jobs: Iterable[JobRecord]) -> list[str]:
        """Return each request of a job that can never be met, with what there is."""
        return [
            problem
            for job in jobs
            if "resources" in job.rest
            for name, asked in job.resources.items()
            for problem in self._request_problems(job.id, name, asked)
        ]

    def changed(
        self,
        max_parallel: int | None = None,
        backends: Mapping[str, int] | None = None,
        resources: Mapping[str, ResourceLimit] | None = None,
    ) -> Limits:
        """Return these limits with some replaced; ``None`` leaves what it stands for as it is.

        A number for a resource that is handed out by id bounds how many of its ids are in use
        at a time.  Raises ``InputError`` for an unknown resource, for ids of a counted one, and
        as the constructor does.
        """
        counts, ids = dict(self.resources), dict(self.ids_in_use)
        problems: list[str] = []
        for name, limit in (resources or {}).items():
            problems += self._change_problems(name, limit)
            if isinstance(limit, int) and isinstance(counts.get(name), tuple):
                ids[name] = limit
            else:
                counts[name] = limit
        if problems:
            raise InputError(problems)
        return replace(
            self,
            max_parallel=self.max_parallel if max_parallel is None else max_parallel,
            backends={**self.backends, **(backends or {})},
            resources=counts,
            ids_in_use=ids,
        )

    def _request_problems(self, job_id: str, name: str, asked: int) -> list[str]:
        available = self.available(name)
        if available is None:
            return [f'job "{job_id}" asks for {asked} "{name}": {self._unknown(name)}']
        if asked > available:
            return [
                f'job "{job_id}" asks for {asked} "{name}", but there are only {available}; '
                "ask for less or raise the limit"
            ]
        return []

    def _change_problems(self, name: str, limit: ResourceLimit) -> list[str]:
        if name not in self.resources:
            return [self._unknown(name)]
        if isinstance(limit, tuple) and isinstance(self.resources[name], int):
            return [f'resource "{name}" is counted; give a number, not ids']
        return _resource_problems(name, limit)

    def _unknown(self, name: str) -> str:
        nearest = difflib.get_close_matches(name, self.resources, 1)
        names = ", ".join(sorted(self.resources)) if self.resources else "none"
        advice = f'did you mean "{nearest[0]}"?' if nearest else 'add it to "resources"'
        return f'there is no resource "{name}" (known: {names}); {advice}'


def _no_slots(what: str, limit: int) -> str:
    return f"{what} must be at least 1, not {limit}; to start nothing, pause the run"


def _resource_problems(name: str, limit: ResourceLimit) -> list[str]:
    if isinstance(limit, int):
        return [f'resource "{name}" must be at least 0, not {limit}'] if limit < 0 else []
    repeated = sorted({each for each in limit if limit.count(each) > 1})
    return [f'resource "{name}" has the id "{each}" twice; ids must differ' for each in repeated]
