from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.checkpoint_process import end, heard, run, start

from tasks.checkpoint.errors import CheckpointBusyError, CheckpointError
from tasks.checkpoint.owner import has_live_owner
from tasks.checkpoint.store import CheckpointStore

HOLDS = """
store = CheckpointStore(Path(sys.argv[1]))
writer = store.begin("holds", base=0).writer
writer = store.writer(1, stem="shared-name")
writer.record("a", b"f")
writer.flush()
say("holds")
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """A live process that writes the file ``shared-name.mdb``."""
    process = start(HOLDS, tmp_path)
    assert heard(process) == "holds"
    yield process
    end(process)


def test_a_second_live_owner_is_refused_by_name(tmp_path, holder):
    """Sabotage: judge by the pid in the owner's file, which two containers may share."""
    with CheckpointStore(tmp_path) as store, pytest.raises(CheckpointBusyError) as caught:
        store.writer(2, stem="shared-name")
    assert caught.value.exit_code == 3
    assert f'checkpoint file "{tmp_path / "shared-name.mdb"}" is being written by process ' in str(
        caught.value
    )
    assert f"process {holder.pid} on " in str(caught.value)


def test_a_second_owner_in_the_same_process_is_refused_too(tmp_path):
    with CheckpointStore(tmp_path) as store, store.begin("first").writer() as writer:
        with pytest.raises(CheckpointBusyError, match=rf"this process \({os.getpid()}\)"):
            store.writer(2, stem=writer.place.stem)
        writer.record("a", b"f")
        writer.flush()
        assert has_live_owner(writer.place.live_file)


def test_a_killed_owner_is_ignored_and_its_records_are_kept(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with CheckpointStore(tmp_path) as store:
        generation = store.begin("next", base=0)
        with store.writer(generation.number, stem="shared-name") as writer:
            writer.record("b", b"f")
        assert list(store.missing(["a", "b"])) == []
        assert store.messages == []


def test_a_child_that_outlives_a_killed_owner_does_not_keep_its_claim(tmp_path):
    """Sabotage: claim with ``flock``, which a fork inherits."""
    code = """
store = CheckpointStore(Path(sys.argv[1]))
writer = store.begin("forks").writer()
writer.record("a", b"f")
writer.flush()
child = os.fork()
if child == 0:
    sys.stdin.readline()
    os._exit(0)
say(child, writer.place.stem)
os.kill(os.getpid(), 9)
"""
    process = start(code, tmp_path)
    child, stem = heard(process).split()
    process.wait()
    try:
        os.kill(int(child), 0)
        assert not has_live_owner(tmp_path / f"{stem}.mdb")
        with CheckpointStore(tmp_path) as store:
            store.begin("next", base=0)
            assert list(store.missing(["a"])) == []
    finally:
        os.kill(int(child), signal.SIGKILL)
        end(process)


def test_a_fork_may_not_use_what_its_parent_opened_but_may_open_its_own(tmp_path):
    """Sabotage: drop ``check_process``; LMDB's reader table then knows the child as its parent."""
    code = """
store = CheckpointStore(Path(sys.argv[1]))
writer = store.begin("parent").writer()
writer.record("parent", b"f")
writer.flush()
store.lookup("parent")
if os.fork() == 0:
    for use in (
        lambda: store.lookup("parent"),
        lambda: store.begin("child"),
        lambda: writer.record("child", b"f"),
        lambda: writer.flush(),
    ):
        try:
            use()
            say("allowed")
        except CheckpointError as error:
            say("a fork of it: open" in str(error))
    store.close()
    writer.close()
    with CheckpointStore(Path(sys.argv[1])) as own:
        say(own.lookup("parent"))
        with own.writer(1) as second:
            second.record("child", b"f")
    os._exit(0)
os.wait()
writer.record("parent again", b"f")
writer.close()
say(list(CheckpointStore(Path(sys.argv[1])).missing(["parent", "parent again", "child"])))
"""
    said = run(code, tmp_path).splitlines()
    assert said == [
        "True",
        "True",
        "True",
        "True",
        "Record('parent', DONE, generation 1)",
        "[]",
    ]


def test_a_fork_in_the_middle_of_commits_disturbs_neither_side(tmp_path):
    """Sabotage: fork without ``_hold_still``: the child may inherit a transaction half done."""
    code = """
import threading
store = CheckpointStore(Path(sys.argv[1]))
writer = store.begin("busy").writer()
stop = threading.Event()

def keep_writing():
    number = 0
    while not stop.is_set():
        writer.record(f"{number:06}", b"f")
        number += 1
    say(number)

thread = threading.Thread(target=keep_writing)
thread.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        with CheckpointStore(Path(sys.argv[1])) as own:
            own.lookup("000000")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
writer.close()
"""
    count = int(run(code, tmp_path))
    with CheckpointStore(tmp_path) as store:
        assert list(store.missing(f"{number:06}" for number in range(count))) == []
        assert store.messages == []


def test_readers_that_were_killed_are_cleared_from_a_live_file(tmp_path, holder):
    """LMDB's table has room for 126 readers, and killed ones stay in it.

    Sabotage: open without ``reader_check``.
    """
    code = """
store = CheckpointStore(Path(sys.argv[1]))
environment = store._open_view()._files[0][0]
with environment.reading() as transaction:
    transaction.get(b"s" + b"a")
    say("read")
    os.kill(os.getpid(), 9)
"""
    for _ in range(3):
        process = start(code, tmp_path)
        assert heard(process) == "read"
        process.wait()
        end(process)
    count = """
store = CheckpointStore(Path(sys.argv[1]))
environment = store._open_view()._files[0][0]
with environment.reading():
    say(len(environment._env.readers().splitlines()) - 1)
"""
    assert run(count, tmp_path) == "1\n"


def test_two_starts_at_the_same_time_take_different_generations(tmp_path):
    code = """
numbers = []
for _ in range(5):
    with CheckpointStore(Path(sys.argv[1])) as store:
        numbers.append(store.begin("one of two").number)
say(*numbers)
"""
    processes = [start(code, tmp_path) for _ in range(3)]
    numbers: list[str] = []
    for process in processes:
        numbers += heard(process).split()
        process.wait()
        end(process)
    assert sorted(map(int, numbers)) == list(range(1, 16))


def test_writers_of_several_processes_share_one_directory(tmp_path):
    code = """
with CheckpointStore(Path(sys.argv[1])) as store:
    with store.begin("shard", base=0, shard=sys.argv[2] + "/4").writer() as writer:
        for number in range(int(sys.argv[2]), 2_000, 4):
            writer.record(f"{number:06}", b"f")
"""
    processes = [start(code, tmp_path, index) for index in range(4)]
    for process in processes:
        assert process.wait() == 0
        end(process)
    with CheckpointStore(tmp_path) as store:
        assert list(store.missing(f"{number:06}" for number in range(2_000))) == []
        assert store.messages == []


def test_a_closed_writer_says_so(tmp_path):
    with CheckpointStore(Path(tmp_path)) as store:
        writer = store.begin("closed").writer()
        writer.close()
        writer.close()
        with pytest.raises(CheckpointError, match="is closed"):
            writer.record("a", b"f")
