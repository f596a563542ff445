from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import checkpoint_damage
from support.checkpoint_history import AGAIN, ALL, NEW, WITHDRAWN, make, spared, wrongly_spared
from support.checkpoint_process import environment

import tasks.checkpoint.header
import tasks.checkpoint.seal
from tasks.checkpoint.errors import CheckpointRefusedError
from tasks.checkpoint.header import NewerFormatError
from tasks.checkpoint.store import CheckpointStore


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("pristine") / "checkpoint"
    make(directory)
    with CheckpointStore(directory) as store:
        assert len(list(spared(store))) == ALL - WITHDRAWN + AGAIN
        assert wrongly_spared(store) == []
        assert store.messages == []
    return directory


def trials(pristine: Path, work: Path, kind: str, seed: int, count: int) -> None:
    done = subprocess.run(
        [sys.executable, checkpoint_damage.__file__, pristine, work, kind, str(seed), str(count)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout.splitlines() or ["nothing"]
    assert said[-1] == "all done", f"{said[-1]}: exit {done.returncode}\n{done.stderr}"


@pytest.mark.parametrize(
    ("kind", "seed", "count"),
    [("cut_at_pages", 0, 0), ("cut_anywhere", 1, 3), ("flip", 2, 8), ("overwrite", 3, 4)],
)
def test_damage_never_makes_the_store_skip_wrongly_and_is_always_named(
    pristine, tmp_path, kind, seed, count
):
    """Sabotage: open files without ``check_size`` in the reading process: SIGBUS.

    Or: let ``_read_logs`` return at once: withdrawn sources read as done again.
    """
    trials(pristine, tmp_path / "work", kind, seed, count)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["cut_anywhere", "flip", "overwrite"])
def test_damage_at_full_size(pristine, tmp_path, kind, seed):
    trials(pristine, tmp_path / "work", kind, 1_000 + seed, 60)


def files(directory: Path) -> tuple[Path, Path]:
    """Return the merged file of the first run and the file of the killed writer."""
    killed = next(directory.glob("*.withdrawn")).with_suffix(".mdb")
    first = next(path for path in directory.glob("*.mdb") if path != killed)
    return first, killed


@pytest.fixture
def damaged(pristine, tmp_path) -> Path:
    import shutil

    return shutil.copytree(pristine, tmp_path / "checkpoint")


def test_a_damaged_file_is_set_aside_by_name_and_the_next_start_is_quiet(damaged):
    _, killed = files(damaged)
    killed.write_bytes(killed.read_bytes()[: 5 * 4096])
    with CheckpointStore(damaged) as store:
        store.begin("third", base=0)
        assert f'checkpoint file "{killed}" is damaged: it has 20,480 bytes' in store.messages[0]
        assert store.show().set_aside == (f"{killed.name}.damaged-1",)
        assert all(number >= WITHDRAWN for number, _ in spared(store))
    with CheckpointStore(damaged) as store:
        store.begin("fourth", base=0)
        assert store.messages == []


def test_looking_at_a_damaged_store_changes_nothing_in_it(damaged):
    _, killed = files(damaged)
    killed.write_bytes(killed.read_bytes()[: 5 * 4096])
    before = sorted((path.name, path.stat().st_size) for path in damaged.iterdir())
    with CheckpointStore(damaged) as store:
        assert wrongly_spared(store) == []
        assert len(store.messages) == 1
    assert sorted((path.name, path.stat().st_size) for path in damaged.iterdir()) == before


def test_a_second_damaged_file_of_the_same_name_gets_the_next_number(damaged):
    for _ in range(2):
        (damaged / "foreign.mdb").write_bytes(b"no database at all" * 1_000)
        with CheckpointStore(damaged) as store:
            store.begin("again", base=0)
    names = sorted(path.name for path in damaged.glob("*.damaged-*"))
    assert names == ["foreign.mdb.damaged-1", "foreign.mdb.damaged-2"]


def test_a_foreign_file_is_set_aside_and_nothing_else_is_lost(damaged):
    import lmdb

    with (
        lmdb.open(str(damaged / "foreign.mdb"), subdir=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"s" + b"data/000/", b"something else")
    (damaged / "text.mdb").write_text("not even LMDB\n" * 1_000)
    with CheckpointStore(damaged) as store:
        store.begin("third", base=0)
        assert len(list(spared(store))) == ALL - WITHDRAWN + AGAIN
        messages = "\n".join(store.messages)
    assert 'foreign.mdb" is damaged: it is no checkpoint file' in messages
    assert 'text.mdb" is damaged: it is no LMDB file' in messages
    assert (damaged / "foreign.mdb.damaged-1").exists()


def test_a_missing_file_whose_log_is_left_takes_back_what_it_had_withdrawn(damaged):
    _, killed = files(damaged)
    killed.unlink()
    with CheckpointStore(damaged) as store:
        store.begin("third", base=0)
        assert wrongly_spared(store) == []
        assert len(list(spared(store))) == ALL - WITHDRAWN
        assert f'checkpoint file "{killed}" is gone' in store.messages[0]


def test_when_file_and_log_are_damaged_nothing_is_believed(damaged):
    _, killed = files(damaged)
    killed.write_bytes(killed.read_bytes()[: 5 * 4096])
    log = killed.with_suffix(".withdrawn")
    log.write_bytes(b"\xff" * 100)
    with CheckpointStore(damaged) as store:
        assert list(spared(store)) == []
    with CheckpointStore(damaged) as store:
        store.begin("third", base=0)
        assert list(spared(store)) == []
        assert "everything runs again" in store.messages[-1]
    with CheckpointStore(damaged) as store:
        store.begin("fourth", base=0)
        assert list(spared(store)) == []
        assert store.messages == []


def test_a_file_that_lost_its_last_commits_does_not_bring_a_withdrawn_source_back(
    tmp_path,
):
    """With its newer meta page made the oldest, the file is the one before the last commit.

    Sabotage: compare no numbers of commits in ``_read_logs``.
    """
    from support.checkpoint_process import end, start

    code = """
writer = CheckpointStore(Path(sys.argv[1])).begin("killed").writer()
writer.record("a", b"f")
writer.flush()
writer.withdraw(["a"])
os.kill(os.getpid(), 9)
"""
    process = start(code, tmp_path)
    process.wait()
    end(process)
    (file,) = tmp_path.glob("*.mdb")
    content = bytearray(file.read_bytes())
    pages = [content[:4096], content[4096:8192]]
    newest = max((0, 1), key=lambda page: pages[page][16 + 24 + 96 + 8 : 16 + 24 + 96 + 16])
    content[newest * 4096 + 16 + 24 + 96 + 8 : newest * 4096 + 16 + 24 + 96 + 16] = bytes(8)
    file.write_bytes(content)
    with CheckpointStore(tmp_path) as store:
        record = store.lookup("a")
        assert record is None or record.outcome.name != "DONE"


def test_a_store_of_a_newer_format_is_refused_by_name_and_left_alone(tmp_path, monkeypatch):
    for module in (tasks.checkpoint.header, tasks.checkpoint.seal):
        monkeypatch.setattr(module, "FORMAT", 99)
    contents = tasks.checkpoint.seal.Contents
    monkeypatch.setattr(
        tasks.checkpoint.header.Header, "__init__", _with_format(tasks.checkpoint.header.Header)
    )
    monkeypatch.setattr(contents, "__init__", _with_format(contents))
    with CheckpointStore(tmp_path) as store, store.begin("future").writer() as writer:
        writer.record("a", NEW)
    monkeypatch.undo()
    before = sorted(path.name for path in tmp_path.glob("*.mdb"))
    for use in (lambda store: store.lookup("a"), lambda store: store.begin("now")):
        refused = pytest.raises(NewerFormatError, match="has format 99; this version reads up to 1")
        with CheckpointStore(tmp_path) as store, refused:
            use(store)
    assert sorted(path.name for path in tmp_path.glob("*.mdb")) == before


def _with_format(kind):
    original = kind.__init__

    def init(self, *args, **options):
        original(self, *args, **{**options, "format": 99})

    return init


def test_an_unsealed_file_of_a_newer_format_is_refused_too(damaged):
    import lmdb

    _, killed = files(damaged)
    with (
        lmdb.open(str(killed), subdir=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(*tasks.checkpoint.header.Header("future", 1, 99).item())
    with CheckpointStore(damaged) as store, pytest.raises(CheckpointRefusedError) as caught:
        store.begin("third")
    assert caught.value.exit_code == 2
    assert "install a newer Holdfast" in str(caught.value)


def test_marks_of_a_newer_format_are_refused(tmp_path):
    from tasks.checkpoint.generations import _sealed

    (tmp_path / "generations.jsonl").write_bytes(_sealed({"v": 2, "mark": "start"}) + b"\n")
    refused = pytest.raises(CheckpointRefusedError, match="was written in format 2")
    with CheckpointStore(tmp_path) as store, refused:
        store.begin("now")
