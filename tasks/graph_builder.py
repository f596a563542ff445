"""Turns jobs as a file gives them into the checked records of a graph."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from pydantic import ValidationError

from tasks.dag_file_problems import SHOWN, Path, Problems
from tasks.dag_head import Head
from tasks.graph import cycle_message, cycles_among
from tasks.job_mapping import with_defaults, with_texts
from tasks.job_problems import job_problems
from tasks.matrix import expand_matrix
from tasks.nearest import did_you_mean
from tasks.need_globs import NeedGlobs, is_glob
from tasks.process_number import JOB_BITS
from tasks.record_pool import RecordPool
from tasks.shown import quoted, shown
from tasks.spec import JobRecord, JobSpec

MAX_JOBS = 2**JOB_BITS - 1
"""A job's number has to fit beside its run's number."""

MAX_GLOB_NEEDS = 20_000_000
"""How many needs the globs of a graph may stand for in all."""


class Origin(Protocol):
    """Where the entries of a graph (a place in ``jobs``, a line of JSON Lines) come from."""

    def line(self, entry: int, path: Path) -> int | None:
        """Return the line of a value inside an entry."""

    def label(self, entry: int, path: Path) -> str:
        """Return how messages name a value inside an entry."""

    def name(self, entry: int) -> str:
        """Return how messages name an entry: ``jobs[3] (line 14)``."""

    def spelling(self, entry: int, path: Path) -> str | None:
        """Return how a number or boolean inside an entry is written."""


class GraphBuilder:
    """Takes the entries of a graph one after the other; ``finish`` returns its records.

    Problems go to ``problems``; the caller raises them after ``finish``.
    """

    def __init__(self, head: Head, problems: Problems, origin: Origin) -> None:
        self._head = head
        self._problems = problems
        self._origin = origin
        self._limits = _limits(head)
        self._pool = RecordPool()
        self._by_id: dict[str, JobRecord] = {}
        self._entries = array("Q")
        """For each record the entry that it comes from."""
        self._duplicates: list[tuple[int, str]] = []
        self._later = array("Q")
        """The records with needs that are globs or no earlier job."""
        self._broken_ids: dict[str, int] = {}
        """Ids of jobs that are wrong otherwise, with the entries that they come from."""
        self._broken: list[tuple[int, Mapping[str, Any]]] = []
        self._ids_are_known = True

    def add(self, entry: int, job: object) -> None:
        """Take one entry: a job, or one with a matrix that stands for many."""
        if not isinstance(job, Mapping):
            self._report(entry, (), f"{shown(job)} is no job; give a mapping with id and command")
            self._ids_are_known = False
            return
        if not all(isinstance(key, str) for key in job):
            self._report(entry, (), "has a key that is no text; the keys are fields of a job")
            self._ids_are_known = False
            return
        job = with_texts(with_defaults(dict(job), self._head.defaults))
        if "matrix" not in job:
            self._validate(entry, job)
            return
        before = len(self._problems)
        jobs = expand_matrix(
            job,
            lambda path, text: self._report(entry, path, text),
            lambda path: self._origin.spelling(entry, path),
        )
        for expanded in jobs:
            self._validate(entry, expanded)
        if len(self._problems) > before:
            self._ids_are_known = False

    def keep(self, entry: int, spec: JobSpec) -> None:
        """Take one valid job without a matrix."""
        record = self._pool.record(spec)
        by_id = self._by_id
        if record.id in by_id or record.id in self._broken_ids:
            self._duplicates.append((entry, record.id))
            return
        needs = record.needs
        if needs:
            try:
                # The ids that the earlier records hold, so that each is in memory once.
                shared = [by_id[need].id for need in needs]
            except KeyError:
                self._later.append(len(by_id))
            else:
                record.needs = tuple(shared if _all_differ(shared) else dict.fromkeys(shared))
        by_id[record.id] = record
        self._entries.append(entry)

    def finish(self) -> Sequence[JobRecord]:
        """Check the graph as a whole and return its records in the order of their entries."""
        records = list(self._by_id.values())
        if len(records) > MAX_JOBS:
            self._problems.add(f"has {len(records):,} jobs; a run may have {MAX_JOBS:,}")
        self._report_duplicates()
        self._resolve_needs(records)
        self._check_resources(records)
        for entry, job in self._broken:
            self._check_broken(entry, job)
        if self._later:  # else every need stands before its job, and there can be no cycle
            self._report_cycles(records)
        return records

    @cached_property
    def _globs(self) -> NeedGlobs:
        """The ids of all good jobs: only when every entry has been taken."""
        return NeedGlobs(self._by_id)

    @cached_property
    def _broken_globs(self) -> NeedGlobs:
        return NeedGlobs(self._broken_ids)

    def _validate(self, entry: int, job: Mapping[str, Any]) -> None:
        try:
            spec = JobSpec.model_validate(job)
        except ValidationError as error:
            for path, text in job_problems(error, lambda path: self._origin.spelling(entry, path)):
                self._report(entry, path, text)
            self._note_broken(entry, job)
            return
        if len(self._by_id) > MAX_JOBS:
            self._problems.fail(f"has more than {MAX_JOBS:,} jobs, which a run may have")
        self.keep(entry, spec)

    def _report(self, entry: int, path: Path, text: str) -> None:
        line, label = self._origin.line(entry, path), self._origin.label(entry, path)
        self._problems.add(text, line=line, label=label)

    def _note_broken(self, entry: int, job: Mapping[str, Any]) -> None:
        """Remember a job that is wrong: its other fields are still checked against the graph.

        Others may need it, none may have its id too.
        """
        self._broken.append((entry, job))
        job_id = job.get("id")
        if not isinstance(job_id, str):
            return
        if job_id in self._by_id or job_id in self._broken_ids:
            self._duplicates.append((entry, job_id))
        else:
            self._broken_ids[job_id] = entry

    def _report_duplicates(self) -> None:
        if not self._duplicates:
            return
        entries = {**dict(zip(self._by_id, self._entries, strict=True)), **self._broken_ids}
        for entry, job_id in self._duplicates:
            other = entries[job_id]
            taken = (
                "the id of another combination"
                if other == entry
                else f"also the id of {self._origin.name(other)}"
            )
            self._report(entry, ("id",), f"{quoted(job_id)} is {taken}; ids must differ")

    def _resolve_needs(self, records: Sequence[JobRecord]) -> None:
        if not self._later:
            return
        count = 0
        for index in self._later:
            record = records[index]
            found: dict[str, None] = {}
            for position, need in enumerate(record.needs):
                known = self._by_id.get(need)
                if known is not None:
                    found[known.id] = None
                    continue
                matches = self._matches(self._globs, need, record.id)
                if not matches:
                    self._report_unmatched(self._entries[index], position, need)
                count += len(matches)
                if count > MAX_GLOB_NEEDS:
                    self._problems.fail(
                        f"its globs stand for more than {MAX_GLOB_NEEDS:,} needs; "
                        "put a job between, which needs all of them and is needed instead",
                        line=self._origin.line(self._entries[index], ("needs", position)),
                    )
                found.update(dict.fromkeys(matches))
            record.needs = tuple(found)

    def _matches(self, globs: NeedGlobs, need: str, job_id: str) -> Collection[str]:
        return globs.matches(need, job_id) if is_glob(need) else ()

    def _check_broken(self, entry: int, job: Mapping[str, Any]) -> None:
        """Tell what else is wrong with a job that has no record."""
        needs, resources = job.get("needs"), job.get("resources")
        for position, need in enumerate(needs if isinstance(needs, list | tuple) else ()):
            if isinstance(need, str) and need not in self._by_id:
                own_id = str(job.get("id"))
                if not self._matches(self._globs, need, own_id):
                    self._report_unmatched(entry, position, need)
        if isinstance(resources, Mapping):
            self._check_amounts(entry, resources)

    def _report_unmatched(self, entry: int, position: int, need: str) -> None:
        if not self._ids_are_known:
            return  # it may mean a job that is broken: then this would be noise
        if is_glob(need):
            if not self._broken_globs.matches(need, ""):
                text = f"{quoted(need)} matches no other job; mend the glob or take it away"
                self._report(entry, ("needs", position), text)
        elif need not in self._broken_ids:
            ids = [*self._by_id, *self._broken_ids] if len(self._problems) < SHOWN else ()
            advice = did_you_mean(need, ids, "add it or take the need away")
            self._report(entry, ("needs", position), f"{quoted(need)} is no job; {advice}")

    def _check_resources(self, records: Sequence[JobRecord]) -> None:
        if self._limits is None:
            return
        for index, record in enumerate(records):
            amounts = record.rest.get("resources")
            if amounts:
                self._check_amounts(self._entries[index], amounts)

    def _check_amounts(self, entry: int, amounts: Mapping[str, Any]) -> None:
        for name, amount in amounts.items():
            if self._limits is None or not isinstance(name, str) or type(amount) is not int:
                continue  # a broken job may ask for anything; that was told already
            if amount > self._limits.get(name, 0):
                self._report_amount(entry, name, amount, self._limits)

    def _report_amount(self, entry: int, name: str, amount: int, limits: Mapping[str, int]) -> None:
        if name in limits:
            text = f"asks for {shown(amount)}; there are {limits[name]}: see resources of the head"
        else:
            advice = did_you_mean(name, limits, "add it to resources of the head")
            text = f"{quoted(name)} is no resource of this file; {advice}"
        self._report(entry, ("resources", name), text)

    def _report_cycles(self, records: Sequence[JobRecord]) -> None:
        for cycle in cycles_among(records):
            entry = self._entries[list(self._by_id).index(cycle[0])]
            self._report(entry, ("needs",), cycle_message(cycle))


def _limits(head: Head) -> Mapping[str, int] | None:
    """Return how much there is of each resource; ``None`` where the head does not say."""
    if head.resources is None:
        return None
    return {
        name: amount if isinstance(amount, int) else len(amount)
        for name, amount in head.resources.items()
    }


def _all_differ(needs: Sequence[str]) -> bool:
    return len(needs) < 2 or len(set(needs)) == len(needs)
