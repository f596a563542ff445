"""Takes sources through the stages of a pipeline into its sink, in one process."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.lineage import (
    Change,
    Effect,
    Fate,
    ItemId,
    Lineage,
    Update,
    children_of,
    children_of_several,
)
from tasks.pipeline import Pipeline
from tasks.sinks import Published, SinkPart
from tasks.sources import SourceRef
from tasks.stages import FILTERED, AnsweringStage, BatchResult, BatchStage, Failed

_FAILURES_SHOWN = 20
_SOURCES_REMEMBERED = 100
"""So many sources' answers are remembered, to tell a repeat from an answer that comes too late."""

_SUNK = Update(Fate.SUNK)
_FILTERED = Update(Fate.FILTERED)


@dataclass(slots=True)
class SourceEnd:
    """How one source ended."""

    ref: SourceRef
    published: Published | None
    """``None``: it is not done, and runs again."""
    reason: str = ""


@dataclass(slots=True)
class EngineCounts:
    """What went through the pipeline."""

    items: Counter[str] = field(default_factory=Counter)
    """``read``, ``out``, ``filtered``, ``empty``, ``failed``, ``repeated``, ``corrected``,
    ``late``."""
    failures: list[str] = field(default_factory=list)
    """The first few, in words."""


class Engine:
    """Runs sources one after the other.

    ``ended`` is called for each when all that came from it has arrived, was filtered, or failed;
    ``reopened`` for one that got an answer after that.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        ended: Callable[[SourceEnd], None],
        reopened: Callable[[str], None],
    ) -> None:
        self._pipeline = pipeline
        self._stages = pipeline.stages
        self._ended = ended
        self._reopened = reopened
        self._lineage = Lineage()
        self._parts: dict[str, SinkPart] = {}
        self._refs: dict[str, SourceRef] = {}
        self._batches: list[list[tuple[ItemId, Any]]] = [[] for _ in self._stages]
        self._answers: deque[_Answer] = deque()
        self._known_answers: OrderedDict[str, dict[tuple[int, ItemId], Any]] = OrderedDict()
        self._turns: Counter[tuple[int, ItemId]] = Counter()
        self.counts = EngineCounts()
        self._mixes = any(not stage.resumable for stage in self._stages)

    # -- one source ------------------------------------------------------------------------

    def run(self, ref: SourceRef) -> None:
        """Take one source through all stages."""
        root = self._lineage.open(ref.name)
        self._parts[ref.name] = SinkPart()
        self._refs[ref.name] = ref
        try:
            for place, item in enumerate(self._pipeline.source.read(ref)):
                self.counts.items["read"] += 1
                self._go_on(0, self._lineage.add(root, place), item)
        except Exception as error:  # noqa: BLE001 - one bad source never sinks the run
            self._fail(root, "source", f"reading it raised {_said(error)}")
        else:
            if not self._lineage.has_items(ref.name):
                self.counts.items["empty"] += 1
            self._settle(root, Update(Fate.DIVIDED), "source")
        if not self._mixes:
            self._flush()
            self._end(ref)

    def finish(self) -> None:
        """End the sources that are still open; no further ones will be run."""
        if self._mixes:
            self._flush()
            for ref in list(self._refs.values()):
                self._end(ref)
        self._take_answers()

    def _flush(self) -> None:
        for index, stage in enumerate(self._stages):
            self._run_batch(index)
            if isinstance(stage, AnsweringStage):
                self._finish_answers(index, stage)

    def _end(self, ref: SourceRef) -> None:
        self._take_answers()
        part = self._parts.pop(ref.name)
        del self._refs[ref.name]
        self._forget_answers_of_long_ago()
        if not self._lineage.is_done(ref.name):
            reason = self._why_open(ref.name)
            self._lineage.close(ref.name)
            self._ended(SourceEnd(ref, None, reason))
            return
        items = part.items()
        try:
            published = self._pipeline.sink.publish(ref.name, items)
        except OSError:
            raise  # the disk: no other source would fare better
        except Exception as error:  # noqa: BLE001 - an item that cannot be written is its failure
            self._lineage.close(ref.name)
            reason = f"publishing raised {_said(error)}"
            self._note(ref.name, reason)
            self._ended(SourceEnd(ref, None, reason))
            return
        self.counts.items["out"] += len(items)
        self._lineage.complete(ref.name)
        self._ended(SourceEnd(ref, published))

    def _why_open(self, source: str) -> str:
        failures = self._lineage.failures(source)
        if failures:
            first = next(iter(failures.values()))
            return first if len(failures) == 1 else f"{first} (and {len(failures) - 1} more)"
        return f"nothing was said of {len(self._lineage.unanswered(source))} of its items"

    # -- items -----------------------------------------------------------------------------

    def _go_on(self, index: int, item_id: ItemId, item: Any) -> None:
        """Take an item through the stages from ``index`` on."""
        while index < len(self._stages):
            stage = self._stages[index]
            if isinstance(stage, BatchStage):
                self._batches[index].append((item_id, item))
                if len(self._batches[index]) >= stage.batch_size:
                    self._run_batch(index)
                return
            if isinstance(stage, AnsweringStage):
                self._start(index, stage, item_id, item)
                return
            try:
                result = stage.process(item)
            except Exception as error:  # noqa: BLE001 - it is this item's end, not the run's
                result = Failed(f"raised {_said(error)}")
            if not self._passes_on(index, item_id, result):
                return
            item = result
            index += 1
        self._parts[str(item_id[0])].put(item_id, item)
        self._settle(item_id, _SUNK, "sink")

    def _passes_on(self, index: int, item_id: ItemId, result: Any) -> bool:
        """Deal with any answer but one item; whether it is one item, which goes on as it is."""
        name = self._stages[index].name
        if result is FILTERED:
            self._filter(item_id, name)
        elif isinstance(result, Failed):
            self._fail(item_id, name, result.reason)
        elif isinstance(result, list):
            self._divide(index, item_id, result)
        elif result is None:
            self._fail(item_id, name, "answered None; answer FILTERED to drop an item")
        else:
            return True
        return False

    def _divide(self, index: int, item_id: ItemId, results: list[Any]) -> None:
        name = self._stages[index].name
        if not results:
            self.counts.items["empty"] += 1
            self._filter(item_id, name)
            return
        children = children_of(item_id, len(results))
        self._settle(item_id, Update(Fate.DIVIDED, children), name)
        for child, result in zip(children, results, strict=True):
            # What a list holds are items: an answer in it would be ambiguous.
            self._go_on(index + 1, child, result)

    def _filter(self, item_id: ItemId, stage: str) -> None:
        if self._settle(item_id, _FILTERED, stage).effect is Effect.APPLIED:
            self.counts.items["filtered"] += 1

    def _fail(self, item_id: ItemId, stage: str, reason: str) -> None:
        said = f'stage "{stage}": {reason}' if stage != "source" else reason
        update = Update(Fate.FAILED, reason=said)
        if self._settle(item_id, update, stage).effect is Effect.APPLIED:
            self._note(str(item_id[0]), said)

    def _note(self, source: str, reason: str) -> None:
        self.counts.items["failed"] += 1
        if len(self.counts.failures) < _FAILURES_SHOWN:
            self.counts.failures.append(f'source "{source}": {reason}')

    def _settle(self, item_id: ItemId, update: Update, stage: str) -> Change:
        change = self._lineage.update(item_id, update, stage)
        self._take_back(item_id, change)
        return change

    def _take_back(self, item_id: ItemId, change: Change) -> None:
        if change.effect is Effect.CORRECTED:
            self.counts.items["corrected"] += 1
            part = self._parts[str(item_id[0])]
            for gone in change.gone:
                part.remove(gone)
        elif change.effect is Effect.TOO_LATE:
            self.counts.items["late"] += 1
            self._reopened(str(item_id[0]))

    # -- batches ---------------------------------------------------------------------------

    def _run_batch(self, index: int) -> None:
        batch, self._batches[index] = self._batches[index], []
        stage = self._stages[index]
        if not batch or not isinstance(stage, BatchStage):
            return
        try:
            answer = stage.process_batch([item for _, item in batch])
            if isinstance(answer, BatchResult):
                self._combine(index, batch, answer)
                return
            results = _one_for_each(answer, len(batch))
        except Exception as error:  # noqa: BLE001 - it is these items' end, not the run's
            for item_id, _ in batch:
                self._fail(item_id, stage.name, f"raised {_said(error)}")
            return
        for (item_id, _), result in zip(batch, results, strict=True):
            if self._passes_on(index, item_id, result):
                self._go_on(index + 1, item_id, result)

    def _combine(
        self, index: int, batch: Sequence[tuple[ItemId, Any]], answer: BatchResult
    ) -> None:
        """Follow outputs to the inputs they came from, and count both."""
        name = self._stages[index].name
        groups = _checked_parents(answer, len(batch))
        parents = [[batch[place][0] for place in group] for group in groups]
        children = children_of_several(parents)
        for item_id, _ in batch:
            mine = tuple(c for c, group in zip(children, parents, strict=True) if item_id in group)
            if not mine:
                self._filter(item_id, name)
            else:
                own = tuple(child for child in mine if child[: len(item_id)] == item_id)
                self._settle(item_id, Update(Fate.DIVIDED, own), name)
        for child, output in zip(children, answer.outputs, strict=True):
            self._go_on(index + 1, child, output)

    # -- answers that come when they like --------------------------------------------------

    def _start(self, index: int, stage: AnsweringStage, item_id: ItemId, item: Any) -> None:
        self._turns[index, item_id] += 1
        to = _AnswerTo(item_id, index, self._turns[index, item_id], self._answers)
        try:
            stage.start(item, to)
        except Exception as error:  # noqa: BLE001 - it is this item's end, not the run's
            self._fail(item_id, stage.name, f"raised {_said(error)}")
        self._take_answers()

    def _finish_answers(self, index: int, stage: AnsweringStage) -> None:
        try:
            stage.finish()
        except Exception as error:  # noqa: BLE001 - what has no answer keeps its source open
            self.counts.failures.append(f'stage "{stage.name}": finish raised {_said(error)}')
        self._take_answers()

    def _take_answers(self) -> None:
        while self._answers:
            self._take_answer(self._answers.popleft())

    def _take_answer(self, answer: _Answer) -> None:
        source, key = str(answer.item_id[0]), (answer.index, answer.item_id)
        known = self._known_answers.setdefault(source, {})
        if key in known and known[key] == answer.result:
            self.counts.items["repeated"] += 1
            return
        if answer.turn != self._turns[key] and source in self._parts:
            return  # to an item that was replaced by a correction of an earlier stage
        name = self._stages[answer.index].name
        change = self._lineage.reopen(answer.item_id, name)
        if change.effect is Effect.APPLIED and key in known:
            # The first answer has not arrived anywhere yet: it waits in a batch.
            change = Change(Effect.CORRECTED)
        self._take_back(answer.item_id, change)
        if change.effect is Effect.TOO_LATE:
            return
        if change.effect is Effect.CORRECTED:
            self._drop_waiting(answer.item_id)
        known[key] = answer.result
        if self._passes_on(answer.index, answer.item_id, answer.result):
            self._go_on(answer.index + 1, answer.item_id, answer.result)

    def _drop_waiting(self, item_id: ItemId) -> None:
        """Take an item that is being replaced, and what came from it, out of the batches."""
        for index, batch in enumerate(self._batches):
            self._batches[index] = [entry for entry in batch if entry[0][: len(item_id)] != item_id]

    def _forget_answers_of_long_ago(self) -> None:
        while len(self._known_answers) > _SOURCES_REMEMBERED:
            _, known = self._known_answers.popitem(last=False)
            for key in known:
                self._turns.pop(key, None)


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer, on its way to the thread that runs the engine."""

    item_id: ItemId
    index: int
    turn: int
    result: Any


class _AnswerTo:
    """Takes the answers for one item, from any thread."""

    __slots__ = ("_answers", "_index", "_turn", "item_id")

    def __init__(self, item_id: ItemId, index: int, turn: int, answers: deque[_Answer]) -> None:
        self.item_id = item_id
        self._index = index
        self._turn = turn
        self._answers = answers

    def answer(self, result: Any) -> None:
        """Say what became of the item."""
        self._answers.append(_Answer(self.item_id, self._index, self._turn, result))


def _one_for_each(answer: Any, count: int) -> Sequence[Any]:
    if not isinstance(answer, list | tuple):
        raise TypeError(f"it answered {type(answer).__name__}; a list or a BatchResult is needed")
    if len(answer) != count:
        raise ValueError(
            f"it answered {len(answer)} results for {count} items; say with "
            "BatchResult(outputs, parents) which came from which"
        )
    return answer


def _checked_parents(answer: BatchResult, count: int) -> list[Sequence[int]]:
    if len(answer.outputs) != len(answer.parents):
        raise ValueError(
            f"its BatchResult has {len(answer.outputs)} outputs and {len(answer.parents)} parents"
        )
    groups: list[Sequence[int]] = [
        (given,) if isinstance(given, int) else tuple(dict.fromkeys(given))
        for given in answer.parents
    ]
    for place, group in enumerate(groups):
        if not group or not all(0 <= parent < count for parent in group):
            raise ValueError(f"output {place} of its BatchResult has parents {list(group)}")
    return groups


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
