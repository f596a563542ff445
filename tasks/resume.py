"""Which jobs of a graph run and which are spared by the checkpoint, each with its reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.checkpoint.record import Outcome, Record
from tasks.checkpoint.store import CheckpointStore
from tasks.content_hashes import ContentHashes
from tasks.fingerprint import Fingerprints, UnknownContentError
from tasks.graph import topological_order
from tasks.outputs import changed_output
from tasks.spec import JobRecord

ResumeMode = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a job runs, and why."""

    runs: bool
    reason: str
    changed: str = ""
    """The field of the fingerprint that changed, ``outputs``, or ``needs``; else empty."""

    def __str__(self) -> str:
        return f"{'run' if self.runs else 'skip'}: {self.reason}"


@dataclass(slots=True)
class ResumePlan:
    """What becomes of each job of a graph."""

    mode: ResumeMode
    base: int | None
    """The generation from which on records count, for ``CheckpointStore.begin``."""
    decisions: dict[str, Decision] = field(default_factory=dict)
    """In the order in which the jobs were given."""
    fingerprints: dict[str, bytes] = field(default_factory=dict)
    """Of the jobs that are spared."""
    recorded: dict[str, Record] = field(default_factory=dict)
    """What is known of jobs that run: their records must be withdrawn before."""

    @property
    def spared(self) -> set[str]:
        """The jobs that do not run."""
        return set(self.fingerprints)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many jobs ``run`` and how many are to ``skip``."""
        runs = sum(decision.runs for decision in self.decisions.values())
        return {"run": runs, "skip": len(self.decisions) - runs}

    def lines(self) -> Iterator[str]:
        """Yield a line for each job, as ``--plan`` prints it."""
        for name, decision in self.decisions.items():
            verb = "run " if decision.runs else "skip"
            yield f"{verb} {name}: {decision.reason}"

    def reasons(self) -> Mapping[str, int]:
        """Return how many jobs have each reason, most first: for large graphs."""
        counted = Counter(str(decision) for decision in self.decisions.values())
        return dict(counted.most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the plan for programs."""
        jobs = [
            {
                "id": name,
                "action": "run" if decision.runs else "skip",
                "reason": decision.reason,
                "changed": decision.changed or None,
            }
            for name, decision in self.decisions.items()
        ]
        return {"mode": self.mode, "counts": dict(self.counts), "jobs": jobs}


def resume_base(store: CheckpointStore, mode: ResumeMode, shard: str = "") -> int | None:
    """Return the generation from which on records count; ``None``: none does, all starts afresh.

    ``auto`` resumes a run that was interrupted, and what that one resumed in its turn; ``always``
    whatever was ever done; ``never`` nothing.
    """
    if mode == "always":
        return 0
    last = store.last(shard) if mode == "auto" else None
    return last.base if last is not None and last.was_interrupted else None


class Planner:
    """Decides for the jobs of one graph; ``folder`` is the graph's own, where its jobs run."""

    def __init__(self, store: CheckpointStore, mode: ResumeMode, folder: Path) -> None:
        self._store = store
        self._mode = mode
        self.hashes = ContentHashes(store.directory)
        """What is known of contents by now; whoever records goes on with it, and saves it."""
        self._fingerprints = Fingerprints(folder, self.hashes)
        self._afresh = ""
        self._started = time.monotonic()

    def plan(self, jobs: Sequence[JobRecord]) -> ResumePlan:
        """Decide for jobs that passed ``check_graph``; nothing is changed on disk.

        Never spares a job whose command, parameters, environment, inputs, program or outputs are
        not what they were when it passed, nor one that needs a job which runs.
        """
        plan = ResumePlan(self._mode, resume_base(self._store, self._mode))
        self._afresh = self._why_afresh(plan)
        self._started = time.monotonic()
        plan.decisions = {job.id: _UNDECIDED for job in jobs}
        ordered = [jobs[position] for position in topological_order(jobs)]
        records = self._store.lookup_many(job.id for job in ordered)
        for job, record in zip(ordered, records, strict=True):
            decision = self._decide(job, record, plan)
            plan.decisions[job.id] = decision
            if decision.runs and record is not None:
                plan.recorded[job.id] = record
        return plan

    def _why_afresh(self, plan: ResumePlan) -> str:
        if plan.base is not None:
            return ""
        if self._mode == "never":
            return "nothing is spared with --resume never"
        if self._store.last() is None:
            return "no earlier run"
        return "the last run ended, so all starts afresh (--resume always spares what passed)"

    def _decide(self, job: JobRecord, record: Record | None, plan: ResumePlan) -> Decision:
        for need in job.needs:
            # A need outside these jobs was added earlier: what it made is not known here.
            known = plan.decisions.get(need)
            if known is None or known.runs:
                return Decision(True, f'needs "{need}", which runs', "needs")
        if plan.base is None:
            return Decision(True, self._afresh)
        if record is None:
            return Decision(True, "never passed")
        if record.generation < plan.base:
            return Decision(True, "did not pass since the work was started afresh")
        if record.outcome is Outcome.WITHDRAWN:
            return Decision(True, "started and did not end")
        if record.outcome is Outcome.FAILED:
            return Decision(True, f"did not pass: {record.reason}")
        return self._compare(job, record, plan)

    def _compare(self, job: JobRecord, record: Record, plan: ResumePlan) -> Decision:
        try:
            used = self._fingerprints.used_files(job, self._started)
            fingerprint = self._fingerprints.of(job, used, plan.fingerprints.get)
        except UnknownContentError as error:
            return Decision(True, str(error), "inputs")
        if fingerprint.digest != record.fingerprint:
            name, words = fingerprint.what_changed(record.fields)
            return Decision(True, words, name)
        cwd = self._fingerprints.working_directory(job)
        if job.outputs:
            words = changed_output(job, record.outputs, cwd, self.hashes)
            if words:
                return Decision(True, words, "outputs")
        plan.fingerprints[job.id] = fingerprint.digest
        return Decision(False, f"passed in generation {record.generation}")


_UNDECIDED = Decision(True, "not decided")
