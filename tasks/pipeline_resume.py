"""Which sources of a pipeline run, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import tee
from typing import Any, NamedTuple

from tasks.checkpoint.generations import Mark
from tasks.checkpoint.record import Outcome, Record
from tasks.checkpoint.store import CheckpointStore
from tasks.pipeline import CodeChanges, Pipeline, changed_parts, source_fingerprint
from tasks.resume import ResumeMode, resume_base
from tasks.shares import Share
from tasks.sources import SourceRef


class ToRun(NamedTuple):
    """A source that must run."""

    name: str
    fingerprint: bytes
    ref: SourceRef


class PipelineResume:
    """Decides for the sources of one pipeline against one store.

    ``base`` is the generation from which on records count; ``None``: none does.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        store: CheckpointStore,
        base: int | None,
        code_changes: CodeChanges = "keep",
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._base = base
        self._facts = pipeline.facts()
        self._fingerprint = pipeline.fingerprint()
        self._marks: Mapping[int, Mark] = store.generations().marks
        self._changed_code = {
            number: changed_parts(mark, self._facts, "code") for number, mark in self._marks.items()
        }
        self._reruns_changed_code = code_changes == "rerun"

    def undone(self, refs: Iterable[SourceRef]) -> Iterator[tuple[ToRun, Record | None]]:
        """Yield the sources that must run, and what is known of each."""
        entries = (
            ToRun(ref.name, source_fingerprint(self._fingerprint, ref.fingerprint), ref)
            for ref in refs
        )
        return self._store.undone(entries, self._records_count_from, self._holds)

    @property
    def _records_count_from(self) -> int:
        # No generation is as high: nothing is spared, and what is known must still be withdrawn.
        return self._base if self._base is not None else 1 << 63

    def _holds(self, record: Record) -> bool:
        return not self.why_not(record)

    def decide(self, refs: Iterable[SourceRef]) -> Iterator[tuple[Record | None, str]]:
        """Yield for every source what is known of it, and why it runs: empty if it is spared."""
        first, second = tee(refs)  # look-ups run ahead by one block: that is all that waits
        records = self._store.lookup_many(ref.name for ref in first)
        for ref, record in zip(second, records, strict=True):
            fingerprint = source_fingerprint(self._fingerprint, ref.fingerprint)
            yield record, self._reason(record, fingerprint)

    def why_not(self, record: Record) -> str:
        """Say why a record with the right fingerprint spares its source no longer; empty if so."""
        if self._reruns_changed_code and (changed := self._code_changed_since(record)):
            return f'the source text of stage "{changed[0]}" changed'
        if not self._pipeline.sink.holds(record.source, record.outputs):
            return "its output is not there any more, or was changed"
        return ""

    def _code_changed_since(self, record: Record) -> list[str]:
        known = self._changed_code.get(record.generation)
        return known if known is not None else ["unknown"]

    def _reason(self, record: Record | None, fingerprint: bytes) -> str:
        if record is None:
            return "never done"
        if self._base is None:
            return "all starts afresh"
        if record.generation < self._base:
            return "not done since the work was started afresh"
        if record.outcome is Outcome.WITHDRAWN:
            return "started and did not end"
        if record.outcome is Outcome.FAILED:
            return f"failed: {record.reason}"
        if record.fingerprint != fingerprint:
            return self._what_changed(record)
        return self.why_not(record)

    def _what_changed(self, record: Record) -> str:
        mark = self._marks.get(record.generation)
        parts = changed_parts(mark, self._facts, "parts") if mark is not None else []
        if not parts:
            return "its content changed"
        return f'the version or a parameter of "{parts[0]}" changed'

    def kept_in_spite_of(self, record: Record) -> list[str]:
        """Return the stages whose source text changed since a source was done that is spared."""
        return [] if self._reruns_changed_code else self._code_changed_since(record)


@dataclass(slots=True)
class PipelinePlan:
    """What would run; counts, since there may be millions of sources."""

    skip: int = 0
    run: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """How many sources run for each reason."""
    kept: Counter[str] = field(default_factory=Counter)
    """How many are spared though the source text of a stage, by its name, changed since."""

    def lines(self) -> Iterator[str]:
        """Yield what ``--plan`` prints."""
        for reason, count in self.reasons.most_common():
            yield f"run  {count:,} sources: {reason}"
        if self.skip:
            yield f"skip {self.skip:,} sources: done"
        for stage, count in self.kept.most_common():
            yield (
                f'     {count:,} of them were done before the source text of stage "{stage}" '
                "changed under the same version; --code-changes rerun runs them again"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the plan for programs."""
        counts = {"run": self.run, "skip": self.skip}
        return {"counts": counts, "reasons": dict(self.reasons), "code_changed": dict(self.kept)}


def plan_pipeline(
    pipeline: Pipeline,
    store: CheckpointStore,
    mode: ResumeMode = "always",
    *,
    code_changes: CodeChanges = "keep",
    share: Share | None = None,
) -> PipelinePlan:
    """Return what would run; reads the sources' names and fingerprints, changes nothing.

    Raises ``InputError`` for a pipeline with a stage that mixes sources.
    """
    pipeline.check_resumable()
    share = share if share is not None else Share()
    resume = PipelineResume(pipeline, store, resume_base(store, mode, share.label), code_changes)
    plan = PipelinePlan()
    pipeline.source.open(store.directory if store.directory.is_dir() else None)
    for record, reason in resume.decide(pipeline.source.refs(share.has)):
        if reason:
            plan.run += 1
            plan.reasons[reason] += 1
        else:
            plan.skip += 1
            if record is not None:
                plan.kept.update(resume.kept_in_spite_of(record))
    return plan
