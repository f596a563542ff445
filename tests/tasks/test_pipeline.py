"""Every way an item can go, through the real pipeline and the real store, run and then resumed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.checkpoint.errors import CheckpointRefusedError
from tasks.checkpoint.record import Outcome
from tasks.checkpoint.store import CheckpointStore
from tasks.errors import InputError
from tasks.pipeline import FILTERED, BatchResult, Failed, Pipeline
from tasks.pipeline_resume import plan_pipeline
from tasks.pipeline_worker import Worker
from tasks.resume import resume_base
from tasks.shares import Share
from tasks.sinks import CollectingSink, JsonLinesSink, safe_name
from tasks.sources import BY_POSITION, Files, Items, check_names, stable_hash
from tasks.stages import AnsweringStage, BatchStage, Stage, stage
from tasks.status import RunStatus
from tasks.worker_config import WorkerConfig, WorkerCounts

ran: list[str] = []
"""The sources that were read since the test began."""


@pytest.fixture(autouse=True)
def _nothing_ran_yet():
    ran.clear()


class Words(Items):
    """Sources named by themselves; the items of one are its words."""

    def __init__(self, *texts: str, **options: Any) -> None:
        super().__init__(texts, **{"ids": lambda text: text.split()[0], **options})

    def read(self, ref):
        ran.append(ref.name)
        for text in super().read(ref):
            yield from text.split()


def run(
    pipeline: Pipeline, store: Path | None, *, mode="always", code_changes="keep", share=None
) -> WorkerCounts:
    """Run a pipeline once in this process, as its flow would."""
    share = share or Share()
    if store is None:
        return Worker(pipeline, WorkerConfig("", share)).run()
    with CheckpointStore(store) as opened:
        base = resume_base(opened, mode, share.label)
        generation = opened.begin("run", base=base, shard=share.label, facts=pipeline.facts())
        config = WorkerConfig(
            "", share, str(store), generation.number, base, code_changes=code_changes
        )
        counts = Worker(pipeline, config).run()
        status = RunStatus.COMPLETED if counts.is_complete else RunStatus.FAILED
        generation.end(status, counts.sources)
        return counts


def twice(pipeline: Pipeline, store: Path) -> tuple[WorkerCounts, WorkerCounts]:
    """Run, then resume."""
    return run(pipeline, store), run(pipeline, store)


def known(store: Path, name: str) -> Outcome | None:
    with CheckpointStore(store) as opened:
        record = opened.lookup(name)
        return record.outcome if record is not None else None


def test_items_go_through_all_stages_into_the_sink_and_nothing_runs_twice(tmp_path):
    sink = CollectingSink()
    pipeline = Pipeline(Words("a b", "c d"), [str.upper, lambda word: word + "!"], sink)
    first, second = twice(pipeline, tmp_path)
    assert sink.published == {"a": ["A!", "B!"], "c": ["C!", "D!"]}
    assert ran == ["a", "c"]
    assert (first.sources["done"], second.sources["done"]) == (2, 0)
    assert first.items["out"] == 4


def test_a_list_is_a_fan_out(tmp_path):
    sink = CollectingSink()
    pipeline = Pipeline(
        Words("ab cd"), [lambda word: list(word), lambda letter: [letter, letter * 2]], sink
    )
    twice(pipeline, tmp_path)
    assert sink.published == {"ab": ["a", "aa", "b", "bb", "c", "cc", "d", "dd"]}
    assert ran == ["ab"]


def test_a_filtered_item_counts_as_consumed(tmp_path):
    sink = CollectingSink()
    pipeline = Pipeline(
        Words("a bb ccc"), [lambda word: word if len(word) == 2 else FILTERED], sink
    )
    first, _ = twice(pipeline, tmp_path)
    assert sink.published == {"a": ["bb"]}
    assert first.items["filtered"] == 2
    assert ran == ["a"]


def test_an_empty_list_counts_as_filtered_and_says_so(tmp_path):
    sink = CollectingSink()
    first, _ = twice(Pipeline(Words("a b"), [lambda _: []], sink), tmp_path)
    assert sink.published == {"a": []}
    assert (first.items["empty"], first.items["filtered"]) == (2, 2)
    assert ran == ["a"]


def test_a_source_without_items_is_done_and_says_so(tmp_path):
    class Empty(Words):
        def read(self, ref):
            ran.append(ref.name)
            return []

    first, _ = twice(Pipeline(Empty("a"), [], CollectingSink()), tmp_path)
    assert first.items["empty"] == 1
    assert ran == ["a"]


def test_a_failed_item_keeps_its_source_open_and_it_runs_again_next_time(tmp_path):
    """Sabotage: count a failed item as consumed."""
    sink = CollectingSink()
    cured: list[str] = []

    def work(word):
        return Failed("not today") if word == "b" and not cured else word

    pipeline = Pipeline(Words("a b", "c d"), [work], sink)
    first = run(pipeline, tmp_path)
    assert (first.sources["done"], first.sources["failed"]) == (1, 1)
    assert first.failures == ['source "a": stage "' + pipeline.stages[0].name + '": not today']
    assert not first.is_complete
    assert sink.published == {"c": ["c", "d"]}
    assert known(tmp_path, "a") is Outcome.FAILED
    cured.append("yes")
    run(pipeline, tmp_path)
    assert ran == ["a", "c", "a"]
    assert sink.published["a"] == ["a", "b"]
    run(pipeline, tmp_path)
    assert ran == ["a", "c", "a"]


def test_what_a_stage_raises_fails_its_item_and_not_the_run(tmp_path):
    def picky(word):
        if word == "b":
            raise ValueError("not a b")
        return word

    counts = run(Pipeline(Words("a b", "c"), [picky], CollectingSink()), tmp_path)
    assert counts.sources == {"seen": 2, "failed": 1, "done": 1}
    assert "raised ValueError: not a b" in counts.failures[0]


def test_none_is_no_answer(tmp_path):
    counts = run(Pipeline(Words("a"), [lambda _: None], CollectingSink()), tmp_path)
    assert "answer FILTERED to drop an item" in counts.failures[0]
    assert known(tmp_path, "a") is Outcome.FAILED


def test_a_source_that_cannot_be_read_to_its_end_runs_again(tmp_path):
    class Torn(Words):
        def read(self, ref):
            yield from super().read(ref)
            raise OSError("unplugged")

    sink = CollectingSink()
    counts = run(Pipeline(Torn("a b"), [], sink), tmp_path)
    assert "reading it raised OSError: unplugged" in counts.failures[0]
    assert sink.published == {}
    assert known(tmp_path, "a") is Outcome.FAILED


class Batches(BatchStage):
    """A batch stage made of a function."""

    batch_size = 3

    def __init__(self, function) -> None:
        self._function = function

    def process_batch(self, items: Sequence[Any]) -> Any:
        return self._function(list(items))


def test_a_batch_stage_answers_for_each_of_its_items(tmp_path):
    sizes: list[int] = []

    def answer(items):
        sizes.append(len(items))
        return [
            FILTERED if item == "b" else [item, item] if item == "c" else item for item in items
        ]

    sink = CollectingSink()
    twice(Pipeline(Words("a b c d", "e f"), [Batches(answer)], sink), tmp_path)
    assert sink.published == {"a": ["a", "c", "c", "d"], "e": ["e", "f"]}
    assert sizes == [3, 1, 2]  # a batch never holds items of two sources
    assert ran == ["a", "e"]


def test_m_items_that_become_k_are_counted_exactly(tmp_path):
    """Sabotage: let each output count as the child of the input at its own place."""

    def pairs(items):
        outputs = ["+".join(items[at : at + 2]) for at in range(0, len(items), 2)]
        return BatchResult(
            outputs, [range(at, min(at + 2, len(items))) for at in (0, 2)][: len(outputs)]
        )

    sink = CollectingSink()
    pipeline = Pipeline(Words("a b c d e"), [Batches(pairs), str.upper], sink)
    first, _ = twice(pipeline, tmp_path)
    assert sink.published == {"a": ["A+B", "C", "D+E"]}
    assert first.items["filtered"] == 0
    assert ran == ["a"]


def test_an_input_that_no_output_came_from_counts_as_filtered(tmp_path):
    sink = CollectingSink()
    best = Batches(lambda items: BatchResult([max(items)], [items.index(max(items))]))
    first, _ = twice(Pipeline(Words("b a c"), [best], sink), tmp_path)
    assert sink.published == {"b": ["c"]}
    assert first.items["filtered"] == 2


def test_a_failure_behind_m_to_k_keeps_the_source_open(tmp_path):
    join = Batches(lambda items: BatchResult(["".join(items)], [range(len(items))]))
    fails = lambda _: Failed("no")  # noqa: E731
    run(Pipeline(Words("a b"), [join, fails], CollectingSink()), tmp_path)
    assert known(tmp_path, "a") is Outcome.FAILED


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda items: items[:1], "it answered 1 results for 2 items"),
        (lambda items: iter(items), "a list or a BatchResult is needed"),
        (lambda items: BatchResult(items, [0]), "2 outputs and 1 parents"),
        (lambda items: BatchResult(["x"], [5]), "output 0 of its BatchResult has parents [5]"),
        (lambda items: BatchResult(["x"], [[]]), "output 0 of its BatchResult has parents []"),
    ],
)
def test_an_answer_that_leaves_open_what_came_from_what_fails_its_items(tmp_path, answer, said):
    """Sabotage: guess by position."""
    counts = run(Pipeline(Words("a b"), [Batches(answer)], CollectingSink()), tmp_path)
    assert said in counts.failures[0]
    assert counts.items["failed"] == 2
    assert known(tmp_path, "a") is Outcome.FAILED


class Service(AnsweringStage):
    """Answers as a list says: for each item the answers, in order; ``late`` ones at the end."""

    def __init__(self, answers: dict[str, list[Any]], late: dict[str, list[Any]] | None = None):
        self._answers = answers
        self._late = late or {}
        self._open: list[tuple[str, Any]] = []

    @property
    def name(self) -> str:
        return "service"

    def start(self, item, to):
        self._open.append((item, to))
        for answer in self._answers.get(item, [item]):
            to.answer(answer)

    def close(self):
        pass

    def answer_late(self):
        for item, to in self._open:
            for answer in self._late.get(item, []):
                to.answer(answer)


def test_an_answer_that_is_repeated_is_ignored(tmp_path):
    """Sabotage: count each answer."""
    sink = CollectingSink()
    service = Service({"a": ["A", "A"], "b": [FILTERED, FILTERED, FILTERED]})
    first, _ = twice(Pipeline(Words("a b"), [service], sink), tmp_path)
    assert sink.published == {"a": ["A"]}
    assert first.items["repeated"] == 3
    assert ran == ["a"]


@pytest.mark.parametrize(
    ("answers", "published"),
    [
        (["x", "y"], ["Y"]),
        ([FILTERED, "y"], ["Y"]),
        (["x", FILTERED], []),
        ([["x", "xx"], "y"], ["Y"]),
        (["x", ["y", "z"]], ["Y", "Z"]),
        ([Failed("no"), "y"], ["Y"]),
        (["x", "y", "x"], ["X"]),
    ],
)
@pytest.mark.parametrize("behind", ["item by item", "in batches"])
def test_an_answer_that_is_corrected_replaces_the_first(tmp_path, answers, published, behind):
    """Sabotage: let both answers go on."""
    upper = str.upper if behind == "item by item" else Batches(lambda i: [x.upper() for x in i])
    sink = CollectingSink()
    first, _ = twice(Pipeline(Words("a"), [Service({"a": answers}), upper], sink), tmp_path)
    assert sink.published == {"a": published}
    assert first.items["corrected"] == len(answers) - 1
    assert known(tmp_path, "a") is Outcome.DONE
    assert ran == ["a"]


def test_an_answer_after_completion_reopens_the_source_and_is_reported(tmp_path):
    """Sabotage: ignore it, and the checkpoint is ahead of the work."""

    class Late(Words):
        def read(self, ref):
            if ref.name == "z":
                service.answer_late()
            return super().read(ref)

    service = Service({}, {"a": ["corrected"]})
    sink = CollectingSink()
    counts = run(Pipeline(Late("a", "z"), [service], sink), tmp_path)
    assert counts.sources["reopened"] == 1
    assert not counts.is_complete
    assert 'source "a" got an answer after it was complete, which is a bug' in counts.bugs[0]
    assert known(tmp_path, "a") is Outcome.WITHDRAWN
    assert known(tmp_path, "z") is Outcome.DONE
    service._late.clear()
    run(Pipeline(Late("a", "z"), [service], sink), tmp_path)
    assert ran == ["a", "z", "a"]
    assert known(tmp_path, "a") is Outcome.DONE


def test_a_repeat_after_completion_is_harmless(tmp_path):
    class Late(Words):
        def read(self, ref):
            if ref.name == "z":
                service.answer_late()
            return super().read(ref)

    service = Service({"a": ["A"]}, {"a": ["A"]})
    counts = run(Pipeline(Late("a", "z"), [service], CollectingSink()), tmp_path)
    assert counts.is_complete
    assert known(tmp_path, "a") is Outcome.DONE


def test_an_item_without_an_answer_keeps_its_source_open(tmp_path):
    counts = run(Pipeline(Words("a b"), [Service({"b": []})], CollectingSink()), tmp_path)
    assert counts.sources["failed"] == 1
    with CheckpointStore(tmp_path) as store:
        assert store.lookup("a").reason == "nothing was said of 1 of its items"


def test_answers_may_come_from_other_threads(tmp_path):
    class Threads(AnsweringStage):
        def __init__(self):
            self._threads: list[threading.Thread] = []

        def start(self, item, to):
            thread = threading.Thread(target=to.answer, args=(item.upper(),))
            self._threads.append(thread)
            thread.start()

        def finish(self):
            for thread in self._threads:
                thread.join()

    sink = CollectingSink()
    twice(Pipeline(Words("a b c d e f", "g h"), [Threads(), str.lower], sink), tmp_path)
    assert sink.published == {"a": ["a", "b", "c", "d", "e", "f"], "g": ["g", "h"]}
    assert ran == ["a", "g"]


def test_items_of_a_source_are_published_in_the_order_of_their_tree(tmp_path):
    class Backwards(AnsweringStage):
        def __init__(self):
            self._open: list[Any] = []

        def start(self, item, to):
            self._open.append((item, to))

        def finish(self):
            while self._open:
                item, to = self._open.pop()
                to.answer(item)

    sink = CollectingSink()
    run(Pipeline(Words("a b c"), [Backwards()], sink), tmp_path)
    assert sink.published == {"a": ["a", "b", "c"]}


# -- names ------------------------------------------------------------------------------------


def test_names_by_position_are_refused_unless_asked_for():
    with pytest.raises(InputError, match="whose order never changes, ids=BY_POSITION"):
        Items(["a", "b"])
    items = Items(["a", "b"], ids=BY_POSITION)
    assert [ref.name for ref in items.refs(lambda _: True)] == ["0", "1"]


def test_the_same_name_twice_names_both():
    with pytest.raises(InputError, match='same name "a": item 0 and item 2'):
        check_names(Items(["a 1", "b 2", "a 3"], ids=lambda text: text[0]))
    assert check_names(Items(list(map(str, range(20_000))), ids=str)) == 20_000


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(InputError, match="ids gave 7 for item 0"):
        check_names(Items([7], ids=lambda number: number))


def test_any_character_may_be_in_a_name(tmp_path):
    names = ["a/b", "../../x", "a:0", "('a', 0)", "\n", "", ".", "é" * 300, "half \udc80"]
    sink = JsonLinesSink(tmp_path / "out")
    pipeline = Pipeline(Items(names, ids=str), [lambda name: {"name": name}], sink)
    twice(pipeline, tmp_path / "checkpoint")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == len(names)
    assert all(path.suffix == ".jsonl" for path in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "out"]
    with CheckpointStore(tmp_path / "checkpoint") as store:
        assert list(store.missing(names)) == []


def test_different_names_have_different_files():
    names = ["a", "A", "a ", "%61", "a/", ".a", "%2Ea", "%", "", "x" * 500, "x" * 501]
    assert len({safe_name(name)[0] for name in names}) == len(names)


# -- what identifies the work -----------------------------------------------------------------


class Adds(Stage):
    def __init__(self, what: str = "!") -> None:
        self.what = what

    def process(self, item):
        return item + self.what


def test_another_version_or_parameter_of_a_stage_runs_everything_again(tmp_path):
    run(Pipeline(Words("a", "b"), [Adds()], CollectingSink()), tmp_path)
    changed = Pipeline(Words("a", "b"), [Adds("?")], CollectingSink())
    with CheckpointStore(tmp_path) as store:
        plan = plan_pipeline(changed, store)
    assert list(plan.lines()) == ['run  2 sources: the version or a parameter of "Adds" changed']
    run(changed, tmp_path)
    assert ran == ["a", "b", "a", "b"]
    changed.stages[0].version = "2"
    run(changed, tmp_path)
    assert len(ran) == 6
    run(changed, tmp_path)
    assert len(ran) == 6


def test_a_function_has_a_version_too(tmp_path):
    def work(word):
        return word

    run(Pipeline(Words("a"), [work], CollectingSink()), tmp_path)
    run(Pipeline(Words("a"), [stage(version="2")(work)], CollectingSink()), tmp_path)
    assert ran == ["a", "a"]


def test_source_text_that_changed_under_the_same_version_is_named_and_decided(tmp_path):
    """Sabotage: make the source text a part of the fingerprint, or no part of anything."""

    def one():
        def work(word):
            return word + "1"

        return work

    def two():
        def work(word):
            return word + "2"

        work.__qualname__ = one().__qualname__
        return work

    sink = CollectingSink()
    run(Pipeline(Words("a", "b"), [one()], sink), tmp_path)
    changed = Pipeline(Words("a", "b", "c"), [two()], sink)
    with CheckpointStore(tmp_path) as store:
        keep = plan_pipeline(changed, store)
        rerun = plan_pipeline(changed, store, code_changes="rerun")
    name = changed.stages[0].name
    assert list(keep.lines()) == [
        "run  1 sources: never done",
        "skip 2 sources: done",
        f'     2 of them were done before the source text of stage "{name}" changed under the '
        "same version; --code-changes rerun runs them again",
    ]
    assert rerun.reasons == {
        f'the source text of stage "{name}" changed': 2,
        "never done": 1,
    }
    run(changed, tmp_path)
    assert ran == ["a", "b", "c"]
    assert sink.published == {"a": ["a1"], "b": ["b1"], "c": ["c2"]}
    run(changed, tmp_path, code_changes="rerun")
    assert ran == ["a", "b", "c", "a", "b"]
    run(changed, tmp_path, code_changes="rerun")
    assert len(ran) == 5


def test_a_parameter_that_is_no_plain_value_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match='stage "Adds" has a parameter that is no plain value'):
        run(Pipeline(Words("a"), [Adds(object())], CollectingSink()), tmp_path)


def test_stages_of_the_same_name_are_told_apart_by_their_number(tmp_path):
    run(Pipeline(Words("a"), [Adds("1"), Adds("2")], CollectingSink()), tmp_path)
    changed = Pipeline(Words("a"), [Adds("1"), Adds("3")], CollectingSink())
    with CheckpointStore(tmp_path) as store:
        (reason,) = plan_pipeline(changed, store).reasons
    assert reason == 'the version or a parameter of "Adds (2)" changed'


def test_what_is_no_stage_is_refused():
    with pytest.raises(InputError, match="is no stage"):
        Pipeline(Words("a"), [Adds], CollectingSink())
    with pytest.raises(InputError, match="is no stage"):
        Pipeline(Words("a"), [7], CollectingSink())


class Shuffle(BatchStage):
    resumable = False
    batch_size = 100

    def process_batch(self, items):
        return BatchResult([f"{len(items)} items"], [range(len(items))])


def test_a_stage_that_mixes_sources_refuses_a_checkpoint_and_runs_without(tmp_path):
    sink = CollectingSink()
    pipeline = Pipeline(Words("a b", "c"), [Shuffle()], sink)
    with pytest.raises(InputError, match='stage "Shuffle" mixes sources') as caught:
        run(pipeline, tmp_path)
    assert caught.value.exit_code == 2
    with CheckpointStore(tmp_path) as store, pytest.raises(InputError, match="Shuffle"):
        plan_pipeline(pipeline, store)
    counts = run(pipeline, None)
    assert counts.is_complete
    assert sink.published == {"a": ["3 items"], "c": []}


# -- files ------------------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path) -> Path:
    folder = tmp_path / "texts"
    for name, text in {"b.txt": "two", "a.txt": "one", "deep/c.txt": "three", "x.md": "no"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def read(path: Path) -> list[dict[str, str]]:
    ran.append(path.name)
    return [{"text": path.read_text()}]


def outputs(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.jsonl")}


def test_files_are_sources_by_their_names_and_contents(texts, tmp_path):
    out, store = tmp_path / "out", tmp_path / "checkpoint"
    pipeline = Pipeline(Files(texts, "*.txt", read=read), [], JsonLinesSink(out))
    run(pipeline, store)
    assert ran == ["a.txt", "b.txt", "c.txt"]
    first = outputs(out)
    assert sorted(first.values()) == [
        b'{"text": "one"}\n',
        b'{"text": "three"}\n',
        b'{"text": "two"}\n',
    ]
    (texts / "a.txt").touch()
    run(pipeline, store)
    assert len(ran) == 3
    (texts / "b.txt").write_text("TWO")
    (texts / "new.txt").write_text("four")
    run(pipeline, store)
    assert ran[3:] == ["b.txt", "new.txt"]
    assert len(outputs(out)) == 4


def test_files_may_be_told_apart_without_reading_them(texts, tmp_path):
    import os

    source = Files(texts, "*.txt", read=read, fingerprint="stat")
    pipeline = Pipeline(source, [], JsonLinesSink(tmp_path / "out"))
    twice(pipeline, tmp_path / "checkpoint")
    assert len(ran) == 3
    os.utime(texts / "a.txt", (1, 1))
    run(pipeline, tmp_path / "checkpoint")
    assert ran[3:] == ["a.txt"]


@pytest.mark.parametrize("damage", ["remove", "truncate", "edit"])
def test_an_output_that_is_not_what_was_published_runs_its_source_again(texts, tmp_path, damage):
    out, store = tmp_path / "out", tmp_path / "checkpoint"
    pipeline = Pipeline(Files(texts, "*.txt", read=read), [], JsonLinesSink(out))
    run(pipeline, store)
    before = outputs(out)
    path = pipeline.sink.path_of("a.txt")
    if damage == "remove":
        path.unlink()
    else:
        path.write_text("" if damage == "truncate" else "{}")
    with CheckpointStore(store) as opened:
        assert next(plan_pipeline(pipeline, opened).lines()) == (
            "run  1 sources: its output is not there any more, or was changed"
        )
    run(pipeline, store)
    assert ran[3:] == ["a.txt"]
    assert outputs(out) == before


def test_a_source_of_which_nothing_is_left_has_no_file_any_more(texts, tmp_path):
    out, store = tmp_path / "out", tmp_path / "checkpoint"

    def short(item):
        return item if len(item["text"]) < 4 else FILTERED

    pipeline = Pipeline(Files(texts, "*.txt", read=read), [short], JsonLinesSink(out))
    run(pipeline, store)
    assert len(outputs(out)) == 2
    (texts / "a.txt").write_text("now it is long")
    run(pipeline, store)
    assert len(outputs(out)) == 1
    run(pipeline, store)
    assert len(ran) == 4


def test_an_item_that_cannot_be_written_fails_its_source_and_leaves_no_file(texts, tmp_path):
    out = tmp_path / "out"
    pipeline = Pipeline(Files(texts, "a.txt", read=lambda _: [{1, 2}]), [], JsonLinesSink(out))
    counts = run(pipeline, tmp_path / "checkpoint")
    assert "publishing raised TypeError" in counts.failures[0]
    assert [path for path in out.rglob("*") if path.is_file()] == []


def test_a_folder_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="is no folder with source files"):
        run(Pipeline(Files(tmp_path / "nothing"), [], CollectingSink()), None)


# -- shares -----------------------------------------------------------------------------------


def test_every_source_belongs_to_exactly_one_share():
    names = [f"source {number}" for number in range(500)]
    shares = [Share(s, 3, w, 4) for s in range(3) for w in range(4)]
    taken = [[name for name in names if share.has(name)] for share in shares]
    assert sorted(name for names in taken for name in names) == sorted(names)
    assert min(map(len, taken)) > 15


def test_a_share_is_the_same_in_every_process_and_release():
    """Sabotage: use ``hash``, which differs from process to process."""
    assert stable_hash("a") == 3_405_396_810_240_292_928
    assert stable_hash("half \udc80") == 12_280_955_603_172_137_026
    assert [name for name in "abcdef" if Share(0, 4).has(name)] == ["a", "b", "e"]


def test_shards_are_read_as_a_person_counts():
    assert Share.of_shard("3/8") == Share(2, 8)
    assert Share(2, 8).label == "3/8"
    assert Share().label == ""
    for text in ("0/8", "9/8", "3", "a/b", "3/8/1", "-1/8"):
        with pytest.raises(InputError, match="is no shard"):
            Share.of_shard(text)


def test_shards_complete_one_by_one_and_the_missing_ones_are_named(tmp_path):
    words = Words(*[f"w{number}" for number in range(40)])
    pipeline = Pipeline(words, [], CollectingSink())
    run(pipeline, tmp_path, share=Share(1, 3))
    with CheckpointStore(tmp_path) as store:
        assert store.missing_shards() == ["1/3", "3/3"]
    run(pipeline, tmp_path, share=Share(0, 3))
    run(pipeline, tmp_path, share=Share(2, 3))
    assert sorted(ran) == sorted(f"w{number}" for number in range(40))
    with CheckpointStore(tmp_path) as store:
        assert store.missing_shards() == []


# -- modes ------------------------------------------------------------------------------------


def test_modes_of_resume(tmp_path):
    pipeline = Pipeline(Words("a", "b"), [], CollectingSink())
    run(pipeline, tmp_path)
    run(pipeline, tmp_path, mode="auto")  # the first run ended: afresh
    assert ran == ["a", "b", "a", "b"]
    run(pipeline, tmp_path, mode="always")
    assert len(ran) == 4
    run(pipeline, tmp_path, mode="never")
    assert len(ran) == 6


def test_inputs_a_then_b_half_way_then_a_again_runs_again(tmp_path):
    """Sabotage: run a source without withdrawing what is known of it."""

    class Interrupted(Stage):
        name = "work"

        def process(self, item):
            raise SystemExit

    class Work(Stage):
        name = "work"

        def process(self, item):
            return item

    def source(content: bytes) -> Words:
        return Words("a", fingerprint=lambda _: content)

    sink = CollectingSink()
    run(Pipeline(source(b"A"), [Work()], sink), tmp_path)
    with pytest.raises(SystemExit):
        run(Pipeline(source(b"B"), [Interrupted()], sink), tmp_path)
    run(Pipeline(source(b"A"), [Work()], sink), tmp_path)
    assert ran == ["a", "a", "a"]


def test_a_checkpoint_of_a_newer_format_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "generations.jsonl").write_bytes(b"")
    from tasks.checkpoint.generations import _sealed

    (tmp_path / "generations.jsonl").write_bytes(_sealed({"v": 9, "mark": "start"}) + b"\n")
    with pytest.raises(CheckpointRefusedError):
        run(Pipeline(Words("a"), [], CollectingSink()), tmp_path)
    assert ran == []
