from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from support.checkpoint_process import end, heard, run, start
from support.waiting import wait_for

from tasks.checkpoint.errors import CheckpointBusyError
from tasks.checkpoint.record import Outcome, Output, Record
from tasks.checkpoint.settings import StoreSettings
from tasks.checkpoint.store import CheckpointStore
from tasks.errors import UnknownError
from tasks.status import RunStatus

OLD, NEW = b"old fingerprint.", b"new fingerprint."


def record_run(
    directory: Path,
    done: dict[str, bytes],
    *,
    withdrawn: tuple[str, ...] = (),
    status: RunStatus | None = RunStatus.COMPLETED,
    shard: str = "",
) -> int:
    """Run once: withdraw, record, end.  Returns the generation."""
    with CheckpointStore(directory) as store:
        generation = store.begin("a run", base=0, shard=shard)
        with generation.writer() as writer:
            writer.withdraw(withdrawn)
            for source, fingerprint in done.items():
                writer.record(source, fingerprint)
        if status is not None:
            generation.end(status)
        return generation.number


def known(store: CheckpointStore, source: str) -> tuple[Outcome, bytes] | None:
    record = store.lookup(source)
    return None if record is None else (record.outcome, record.fingerprint)


def test_a_store_that_nobody_wrote_knows_nothing_and_does_not_import_lmdb(tmp_path):
    said = run(
        """
with CheckpointStore(Path(sys.argv[1])) as store:
    say(store.interrupted(), store.last(), store.lookup("a"), list(store.missing(["a", "b"])))
say("lmdb" in sys.modules)
""",
        tmp_path / "never",
    )
    assert said == "False None None ['a', 'b']\nFalse\n"
    assert not (tmp_path / "never").exists()


def test_asking_whether_a_run_was_interrupted_does_not_import_lmdb(tmp_path):
    record_run(tmp_path, {"a": OLD}, status=RunStatus.CANCELLED)
    code = "say(CheckpointStore(Path(sys.argv[1])).interrupted(), 'lmdb' in sys.modules)"
    assert run(code, tmp_path) == "True False\n"


def test_what_was_recorded_is_found_by_the_next_start(tmp_path):
    outputs = (Output("out/a.txt", 12, 1_700_000_000_123_456_789, "ab12"), Output("b", 0, 5))
    with CheckpointStore(tmp_path) as store, store.begin("first").writer() as writer:
        writer.record("done", OLD, outputs=outputs, fields={"command": "c0ffee"})
        writer.record("failed", NEW, Outcome.FAILED, reason="exit code 3")
    with CheckpointStore(tmp_path) as store:
        done, failed, missing = store.lookup_many(["done", "failed", "nobody"])
    assert done is not None
    assert failed is not None
    assert missing is None
    assert (done.outcome, done.generation, done.fingerprint) == (Outcome.DONE, 1, OLD)
    assert done.outputs == outputs
    assert done.fields == {"command": "c0ffee"}
    assert (failed.outcome, failed.reason, failed.outputs) == (Outcome.FAILED, "exit code 3", ())


NAMES = [
    "",
    "/",
    "a b\nc\td",
    "nul\0inside",
    "ünï/ço∂é/\N{PILE OF POO}",
    "half \ud800 a character",
    "x" * 479,
    "x" * 480,
    "x" * 481,
    "x" * 481 + "y",
    "long/" * 2_000 + "a",
    "long/" * 2_000 + "b",
    "\0holdfast checkpoint",
]


def test_any_text_can_be_the_name_of_a_source(tmp_path):
    """Sabotage: cut long names without a digest, and the two longest become one source."""
    with CheckpointStore(tmp_path) as store, store.begin("names").writer() as writer:
        for number, name in enumerate(NAMES):
            writer.record(name, b"%d" % number)
    with CheckpointStore(tmp_path) as store:
        store.begin("again", base=0)
        records = list(store.lookup_many(NAMES))
        assert [record and record.fingerprint for record in records] == [
            b"%d" % number for number in range(len(NAMES))
        ]
        assert sorted(record.source for record in store.records()) == sorted(NAMES)


def test_the_newest_generation_wins_and_not_the_union(tmp_path):
    """Sabotage: take the first file that has the source, whatever its generation."""
    record_run(tmp_path, {"a": OLD, "b": OLD, "c": OLD})
    record_run(tmp_path, {"a": NEW}, withdrawn=("a", "b"))
    with CheckpointStore(tmp_path) as store:
        assert known(store, "a") == (Outcome.DONE, NEW)
        assert known(store, "b") == (Outcome.WITHDRAWN, b"")
        assert known(store, "c") == (Outcome.DONE, OLD)
        assert list(store.missing(["a", "b", "c", "d"])) == ["b", "d"]


def test_the_newest_generation_still_wins_after_the_files_were_merged(tmp_path):
    record_run(tmp_path, {"a": OLD, "b": OLD, "c": OLD})
    record_run(tmp_path, {"a": NEW}, withdrawn=("a", "b"))
    with CheckpointStore(tmp_path) as store:
        store.begin("third", base=0)
        assert len(list(tmp_path.glob("*.mdb"))) == 1
        assert known(store, "a") == (Outcome.DONE, NEW)
        assert known(store, "b") is None
        assert known(store, "c") == (Outcome.DONE, OLD)


def test_a_record_beats_the_withdrawal_of_its_own_generation_in_another_file(tmp_path):
    with CheckpointStore(tmp_path) as store:
        generation = store.begin("driver and worker")
        with generation.writer() as driver, generation.writer() as worker:
            driver.withdraw(["a", "b"])
            worker.record("a", NEW)
            worker.flush()
            assert known(store, "a") == (Outcome.DONE, NEW)
            assert known(store, "b") == (Outcome.WITHDRAWN, b"")
    with CheckpointStore(tmp_path) as store:
        assert known(store, "a") == (Outcome.DONE, NEW)
        assert known(store, "b") == (Outcome.WITHDRAWN, b"")


def test_a_source_that_is_withdrawn_after_its_record_is_open_again(tmp_path):
    with CheckpointStore(tmp_path) as store, store.begin("reopened").writer() as writer:
        writer.record("a", OLD)
        writer.withdraw(["a"])
        assert known(store, "a") == (Outcome.WITHDRAWN, b"")


@pytest.mark.parametrize(
    ("status", "interrupted"),
    [
        (None, True),
        (RunStatus.CANCELLED, True),
        (RunStatus.CRASHED, True),
        (RunStatus.COMPLETED, False),
        (RunStatus.FAILED, False),
    ],
)
def test_a_run_without_an_end_mark_or_cancelled_or_crashed_was_interrupted(
    tmp_path, status, interrupted
):
    record_run(tmp_path, {"a": OLD}, status=RunStatus.COMPLETED)
    record_run(tmp_path, {"b": OLD}, status=status)
    with CheckpointStore(tmp_path) as store:
        assert store.interrupted() is interrupted
        assert store.last().number == 2


def test_shards_are_interrupted_each_for_itself_and_the_missing_ones_are_named(tmp_path):
    record_run(tmp_path, {"a": OLD}, shard="1/3", status=RunStatus.COMPLETED)
    record_run(tmp_path, {"b": OLD}, shard="2/3", status=None)
    with CheckpointStore(tmp_path) as store:
        assert [store.interrupted(f"{index}/3") for index in (1, 2, 3)] == [False, True, False]
        assert store.missing_shards() == ["2/3", "3/3"]
    record_run(tmp_path, {"b": OLD}, shard="2/3")
    record_run(tmp_path, {"c": OLD}, shard="3/3")
    with CheckpointStore(tmp_path) as store:
        assert store.missing_shards() == []


def test_undone_spares_only_the_same_fingerprint_done_from_the_base_on(tmp_path):
    first = record_run(tmp_path, {"a": OLD, "b": OLD, "c": OLD})
    second = record_run(tmp_path, {"b": NEW}, withdrawn=("c",))
    asked = [("a", OLD), ("b", OLD), ("b", NEW), ("c", OLD), ("d", OLD)]
    with CheckpointStore(tmp_path) as store:
        rest = [entry for entry, _ in store.undone(asked, first)]
        assert rest == [("b", OLD), ("c", OLD), ("d", OLD)]
        reasons = {source: record for (source, _), record in store.undone(asked, second)}
        assert set(reasons) == {"a", "b", "c", "d"}
        assert reasons["a"].generation == first
        assert reasons["c"].outcome is Outcome.WITHDRAWN
        assert reasons["d"] is None


def test_a_failed_source_is_not_spared(tmp_path):
    with CheckpointStore(tmp_path) as store:
        with store.begin("fails").writer() as writer:
            writer.record("a", OLD, Outcome.FAILED, reason="no")
        assert [entry for entry, _ in store.undone([("a", OLD)])] == [("a", OLD)]


def test_numbers_go_on_above_the_records_when_the_marks_are_lost(tmp_path):
    """Sabotage: count the marks alone; generation 1 comes again and old records win over new."""
    record_run(tmp_path, {"a": OLD})
    record_run(tmp_path, {"a": OLD})
    (tmp_path / "generations.jsonl").unlink()
    assert record_run(tmp_path, {"a": NEW}) == 3
    with CheckpointStore(tmp_path) as store:
        assert known(store, "a") == (Outcome.DONE, NEW)


def test_a_torn_line_of_marks_is_named_and_does_not_swallow_the_next(tmp_path):
    record_run(tmp_path, {"a": OLD})
    with (tmp_path / "generations.jsonl").open("a") as stream:
        stream.write('{"crc": "00000000", "v": 1, "gener')
    with CheckpointStore(tmp_path) as store:
        assert store.begin("next").number == 3
        assert "line 3 is damaged" in store.messages[0]
    with CheckpointStore(tmp_path) as store:
        assert store.last().number == 3
        assert store.messages == []
    assert (tmp_path / "generations.jsonl.damaged-1").exists()


def test_reset_forgets_the_named_sources_and_leaves_the_others(tmp_path):
    record_run(tmp_path, {"a": OLD, "b": OLD}, status=RunStatus.CANCELLED)
    with CheckpointStore(tmp_path) as store:
        assert store.reset(["a"]) == 1
        assert known(store, "a") is None
        assert known(store, "b") == (Outcome.DONE, OLD)
        assert store.interrupted()
    with CheckpointStore(tmp_path) as store:
        assert list(store.missing(["a", "b"])) == ["a"]


def test_reset_forgets_everything_and_numbers_go_on(tmp_path):
    """Sabotage: remove the files without the mark, and a kill in between brings old ones back."""
    record_run(tmp_path, {"a": OLD, "b": OLD})
    with CheckpointStore(tmp_path) as store:
        assert store.reset() == 2
        assert list(store.records()) == []
    assert record_run(tmp_path, {"a": NEW}) == 3
    with CheckpointStore(tmp_path) as store:
        assert [record.source for record in store.records()] == ["a"]


def test_reset_of_an_unknown_source_names_it_and_forgets_nothing(tmp_path):
    record_run(tmp_path, {"a": OLD})
    with CheckpointStore(tmp_path) as store:
        with pytest.raises(UnknownError, match='no record of "nobody"'):
            store.reset(["a", "nobody"])
        assert known(store, "a") == (Outcome.DONE, OLD)


def test_reset_is_refused_while_a_writer_lives(tmp_path):
    busy = pytest.raises(CheckpointBusyError, match=f"process {os.getpid()} ")
    with CheckpointStore(tmp_path) as store, store.begin("lives").writer(), busy:
        store.reset()


def test_show_counts_what_the_newest_records_say(tmp_path):
    record_run(tmp_path, {"a": OLD, "b": OLD, "c": OLD})
    with CheckpointStore(tmp_path) as store, store.begin("second", base=0).writer() as writer:
        writer.withdraw(["a"])
        writer.record("b", NEW, Outcome.FAILED, reason="no")
        writer.flush()
        summary = store.show()
    assert dict(summary.counts) == {"done": 1, "failed": 1, "withdrawn": 1}
    assert [mark.number for mark in summary.generations] == [1, 2]
    assert [(file.state, file.entries) for file in summary.files] == [("sealed", 3), ("live", 2)]
    assert summary.set_aside == ()


def test_many_runs_leave_few_files(tmp_path):
    for number in range(12):
        record_run(tmp_path, {f"source {number}": OLD})
    assert len(list(tmp_path.glob("*.mdb"))) <= 2
    with CheckpointStore(tmp_path) as store:
        assert len(list(store.records())) == 12


def test_a_large_file_is_not_written_again_for_a_small_one(tmp_path):
    """Sabotage: merge every file at every start."""
    record_run(tmp_path, {f"{number:06}": OLD for number in range(40_000)})
    large = max(tmp_path.glob("*.mdb"), key=lambda path: path.stat().st_size)
    inode = large.stat().st_ino
    for number in range(3):
        record_run(tmp_path, {f"{number:06}": NEW}, withdrawn=(f"{number:06}",))
    assert large.stat().st_ino == inode
    with CheckpointStore(tmp_path) as store:
        store.begin("last", base=0)
        assert [known(store, f"{number:06}") for number in (0, 2, 3)] == [
            (Outcome.DONE, NEW),
            (Outcome.DONE, NEW),
            (Outcome.DONE, OLD),
        ]


def test_random_histories_say_the_same_as_a_dictionary(tmp_path):
    """Every way the files can be cut and merged, against the simplest thing that is right."""
    rng = random.Random(20_261_121)
    names = [f"source {number}" for number in range(30)]
    expected: dict[str, tuple[Outcome, bytes]] = {}
    for number in range(25):
        with CheckpointStore(tmp_path) as store:
            generation = store.begin(f"run {number}", base=0)
            writers = [generation.writer() for _ in range(rng.randint(1, 3))]
            chosen = rng.sample(names, rng.randint(1, 12))
            writers[0].withdraw([name for name in chosen if name in expected])
            for name in chosen:
                outcome = rng.choice([Outcome.DONE, Outcome.DONE, Outcome.FAILED])
                fingerprint = rng.randbytes(16)
                rng.choice(writers).record(name, fingerprint, outcome)
                expected[name] = (outcome, fingerprint)
            for writer in writers:
                writer.close()
            assert {r.source: (r.outcome, r.fingerprint) for r in store.records()} == expected
        with CheckpointStore(tmp_path) as store:
            assert [known(store, name) for name in names] == [expected.get(n) for n in names]


def test_a_map_of_64_kib_takes_100_000_sources(tmp_path):
    """Sabotage: after a full map go on with the next transaction and drop the lost one."""
    settings = StoreSettings(tmp_path, map_bytes=1 << 16)
    with CheckpointStore(settings) as store, store.begin("small map").writer() as writer:
        for number in range(100_000):
            writer.record(f"{number:06}", OLD)
    with CheckpointStore(settings) as store:
        entries = ((f"{number:06}", OLD) for number in range(100_000))
        assert list(store.undone(entries)) == []


def test_a_reader_follows_a_map_that_another_process_grows(tmp_path):
    """Sabotage: let MapResizedError through."""
    code = """
store = CheckpointStore(StoreSettings(Path(sys.argv[1]), map_bytes=1 << 16))
writer = store.begin("grows").writer()
writer.record("first", b"1")
writer.flush()
say("ready")
sys.stdin.readline()
for number in range(20_000):
    writer.record(f"{number:06}", b"2")
writer.flush()
say("grown")
sys.stdin.readline()
"""
    process = start(code, tmp_path)
    try:
        assert heard(process) == "ready"
        with CheckpointStore(tmp_path) as store:
            assert known(store, "first") == (Outcome.DONE, b"1")
            process.stdin.write("\n")
            process.stdin.flush()
            assert heard(process) == "grown"
            assert known(store, "019999") == (Outcome.DONE, b"2")
    finally:
        end(process)


def test_a_record_becomes_durable_by_itself(tmp_path):
    with CheckpointStore(tmp_path) as store, store.begin("alone").writer() as writer:
        writer.record("a", OLD)
        wait_for(lambda: writer.durable == 1, "the record was never committed")


def test_a_full_group_is_committed_without_waiting_for_the_clock(tmp_path):
    with CheckpointStore(tmp_path) as store:
        writer = store.begin("groups").writer()
        writer._group_s = 3600.0
        for number in range(1_000):
            writer.record(str(number), OLD)
        wait_for(lambda: writer.durable >= 1_000, "a full group was never committed")
        writer.close()


@pytest.mark.parametrize("seed", range(3))
def test_what_flush_returned_for_survives_sigkill(tmp_path, seed):
    """Sabotage: let ``flush`` return when the records are in the group."""
    code = """
store = CheckpointStore(Path(sys.argv[1]))
writer = store.begin("killed").writer()
for number in range(1_000_000):
    writer.record(f"{number:06}", b"f")
    if number % 7 == 0:
        writer.flush()
        say(number)
"""
    process = start(code, tmp_path)
    last = ""
    for _ in range(random.Random(seed).randint(20, 200)):
        last = heard(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end(process)
    with CheckpointStore(tmp_path) as store:
        store.begin("next", base=0)
        names = [f"{number:06}" for number in range(int(last) + 1)]
        assert list(store.missing(names)) == []
        assert store.messages == []


def test_a_killed_writer_is_healed_without_a_word_and_its_file_tidied_away(tmp_path):
    code = """
writer = CheckpointStore(Path(sys.argv[1])).begin("killed").writer()
writer.record("a", b"f")
writer.flush()
os.kill(os.getpid(), 9)
"""
    process = start(code, tmp_path)
    process.wait()
    end(process)
    assert list(tmp_path.glob("*.owner"))
    with CheckpointStore(tmp_path) as store:
        store.begin("next", base=0)
        assert known(store, "a") == (Outcome.DONE, b"f")
    assert not list(tmp_path.glob("*.owner"))
    assert not list(tmp_path.glob("*-lock"))
    assert store.messages == []


def test_memory_stays_flat_with_the_number_of_sources(tmp_path):
    """Sabotage: collect what ``undone`` finds in a list before yielding it."""
    code = """
def anonymous_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

count = 150_000
directory = Path(sys.argv[1])
with CheckpointStore(directory) as store:
    with store.begin("fill").writer() as writer:
        for number in range(count):
            writer.record(f"{number:08}", b"f" * 16)
with CheckpointStore(directory) as store:
    store.begin("scan", base=0)
    before = anonymous_kb()
    names = ((f"{number:08}", b"another") for number in range(count))
    assert sum(1 for _ in store.undone(names)) == count
    say(anonymous_kb() - before)
"""
    assert int(run(code, tmp_path)) < 8_000


def test_a_record_reads_as_what_it_is():
    assert repr(Record("a", Outcome.DONE, 3, b"", b"")) == "Record('a', DONE, generation 3)"
