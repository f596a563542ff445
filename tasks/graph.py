"""The check that jobs form a graph that can be run: every need exists and nothing needs itself."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

from tasks.errors import InputError
from tasks.spec import JobRecord

_PATH_SHOWN = 20
"""How many jobs of a cycle a message names; one through a whole graph would fill the screen."""

_CYCLES_SHOWN = 10

_SUGGESTED_AMONG = 2_000
_SUGGESTIONS = 20
# Looking for the nearest name compares a name with all others: only for people-sized graphs.


def check_graph(jobs: Sequence[JobRecord], known: Collection[str] = ()) -> None:
    """Raise ``InputError`` with every reason why these jobs cannot be run together.

    ``known`` are the ids of jobs that exist already: they may be needed, not given again.
    Duplicate ids, needs that do not exist, and cycles, each with its path, are reported.
    """
    problems = graph_problems(jobs, known)
    if problems:
        raise InputError(problems)


def graph_problems(jobs: Sequence[JobRecord], known: Collection[str] = ()) -> list[str]:
    """Return what ``check_graph`` raises, in words; nothing where all is well."""
    duplicates, later = _walk_in_order(jobs, known)
    if not duplicates and not later:
        return []  # every need stands before the job that has it, so there is no cycle either
    by_id = {job.id: job for job in jobs}
    problems = [f'job id "{job_id}" is used twice; ids must differ' for job_id in duplicates]
    unknown = [(job, need) for job, need in later if need not in by_id]
    problems += _unknown_needs(unknown, by_id, known)
    problems += [cycle_message(cycle) for cycle in _cycles(by_id)]
    return problems


def cycles_among(jobs: Sequence[JobRecord]) -> list[list[str]]:
    """Return the ids along each cycle (the first ten), from its first job; no id comes twice.

    Needs that are not among the jobs are ignored.
    """
    return _cycles({job.id: job for job in jobs})


def topological_order(jobs: Sequence[JobRecord]) -> Sequence[int]:
    """Return the positions of the jobs so that each stands behind those that it needs.

    Needs that are not among the jobs are ignored.  The jobs must have passed ``check_graph``.
    Jobs that stand in such an order already keep it.
    """
    seen: set[str] = set()
    position = {job.id: index for index, job in enumerate(jobs)}
    for job in jobs:
        seen.add(job.id)
        if any(need in position and need not in seen for need in job.needs):
            return [position[job_id] for job_id in _DepthFirst({j.id: j for j in jobs}).order]
    return range(len(jobs))


def _walk_in_order(
    jobs: Iterable[JobRecord], known: Collection[str]
) -> tuple[list[str], list[tuple[JobRecord, str]]]:
    """Return the ids that come twice, and the needs that stand nowhere before their job."""
    seen: set[str] = set()
    duplicates: dict[str, None] = {}
    later: list[tuple[JobRecord, str]] = []
    for job in jobs:
        job_id = job.id
        for need in job.needs:
            if need not in seen and need not in known:
                later.append((job, need))  # noqa: PERF401 - a generator for each job costs more
        if job_id in seen or job_id in known:
            duplicates[job_id] = None
        seen.add(job_id)
    return list(duplicates), later


def _unknown_needs(
    unknown: Sequence[tuple[JobRecord, str]], by_id: Mapping[str, JobRecord], known: Collection[str]
) -> list[str]:
    names = [*by_id, *known] if len(by_id) + len(known) <= _SUGGESTED_AMONG else []
    problems = []
    for count, (job, need) in enumerate(unknown):
        nearest = difflib.get_close_matches(need, names, 1) if count < _SUGGESTIONS else []
        advice = f'did you mean "{nearest[0]}"?' if nearest else "add it or remove the need"
        problems.append(f'job "{job.id}" needs "{need}", which does not exist; {advice}')
    return problems


class _DepthFirst:
    """A walk from each job along its needs, without recursion: a chain may have a million jobs."""

    def __init__(self, by_id: Mapping[str, JobRecord]) -> None:
        self.order: list[str] = []
        """The ids of the jobs, each behind those that it needs."""
        self.cycles: list[list[str]] = []
        """The cycles met, up to a number: after these are mended the next ones show."""
        self._by_id = by_id
        self._is_done: dict[str, bool] = {}
        for job_id in by_id:
            if job_id not in self._is_done:
                self._walk_from(job_id)

    def _walk_from(self, start: str) -> None:
        by_id, is_done = self._by_id, self._is_done
        path = [start]
        ways = [iter(by_id[start].needs)]
        is_done[start] = False
        while path:
            for need in ways[-1]:
                done = is_done.get(need)
                if done is None and need in by_id:
                    is_done[need] = False
                    path.append(need)
                    ways.append(iter(by_id[need].needs))
                    break
                if done is False and len(self.cycles) < _CYCLES_SHOWN:
                    self.cycles.append(path[path.index(need) :])
            else:
                is_done[path[-1]] = True
                self.order.append(path.pop())
                ways.pop()


def _cycles(by_id: Mapping[str, JobRecord]) -> list[list[str]]:
    """Return cycles, each beginning with the job of it that was given first."""
    cycles = _DepthFirst(by_id).cycles
    position = {job_id: index for index, job_id in enumerate(by_id)} if cycles else {}
    for cycle in cycles:
        first = cycle.index(min(cycle, key=position.__getitem__))
        cycle[:] = [*cycle[first:], *cycle[:first]]
    return sorted(cycles, key=lambda cycle: position[cycle[0]])


def cycle_message(cycle: Sequence[str]) -> str:
    """Return what to say about a cycle that ``cycles_among`` found."""
    path = list(islice(cycle, _PATH_SHOWN))
    if len(cycle) > _PATH_SHOWN:
        path[-1:] = [f"({len(cycle) - _PATH_SHOWN} more)", cycle[-1]]
    path.append(cycle[0])
    return f'dependency cycle: {" -> ".join(path)}; remove one of these "needs"'
