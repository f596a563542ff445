from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkpoint_process import PRELUDE, environment
from support.power_cut import Disk, Entry, build_recorder, moments, read_log, write_out

from tasks.checkpoint.record import Outcome
from tasks.checkpoint.store import CheckpointStore

WORK = """
import json
directory = Path(sys.argv[1])
promises = os.open(directory.parent / "promises", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def promise(kind, names, state):
    os.write(promises, json.dumps([kind, names, state]).encode() + b"\\n")

def run(names, fingerprint, close=True):
    store = CheckpointStore(directory)
    generation = store.begin("run", base=0)
    writer = generation.writer()
    known = [name for name, record in zip(names, store.lookup_many(names)) if record]
    if known:
        promise("maybe", known, "")
        writer.withdraw(known)
        promise("surely", known, "")
    for start in range(0, len(names), 7):
        some = names[start:start + 7]
        promise("maybe", some, fingerprint)
        for name in some:
            writer.record(name, fingerprint.encode())
        writer.flush()
        promise("surely", some, fingerprint)
    if close:
        writer.close()
        generation.end(RunStatus.COMPLETED)
        store.close()

names = [f"source {number:02}" for number in range(40)]
run(names, "one")
run(names[:20], "two")
run(names[5:12], "three", close=False)
os._exit(0)
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> tuple[Path, list[Entry]]:
    """What a process that ran three times did to its disk, and the folder it did it in."""
    folder = tmp_path_factory.mktemp("recording")
    library = build_recorder(folder)
    if library is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs a C compiler for the power-cut tests")
        pytest.skip("recording writes needs a C compiler")
    below = folder / "disk"
    below.mkdir()
    subprocess.run(
        [sys.executable, "-c", PRELUDE + WORK, below / "checkpoint"],
        env={
            **environment(),
            "LD_PRELOAD": str(library),
            "RECORD_LOG": str(folder / "log"),
            "RECORD_BELOW": str(below),
        },
        check=True,
    )
    entries = read_log(folder / "log")
    kinds = {entry.kind for entry in entries}
    assert kinds >= set("cmrwds"), kinds  # or the recorder missed how this system writes
    return below, entries


def allowed(entries: list[Entry]) -> dict[str, set[str]]:
    """Return what may be known of each source at the end of these entries."""
    states: dict[str, set[str]] = {}
    for entry in entries:
        if entry.path.endswith("/promises") and entry.kind == "w":
            kind, names, state = json.loads(entry.data)
            for name in names:
                known = states.setdefault(name, {""})
                states[name] = known | {state} if kind == "maybe" else {state}
    return states


def check_cuts(recording, work: Path, seed: int, count: int) -> None:
    below, entries = recording
    rng = random.Random(seed)
    disk = Disk()
    done = 0
    for moment in moments(entries, rng, count):
        disk.replay(entries[done:moment])
        done = moment
        write_out(disk.cut(rng), below, work)
        states = allowed(entries[:moment])
        for start in ("look", "begin"):
            with CheckpointStore(work / "checkpoint") as store:
                if start == "begin":
                    store.begin("after the cut", base=0)
                for name, record in zip(states, store.lookup_many(states), strict=True):
                    is_done = record is not None and record.outcome is Outcome.DONE
                    state = record.fingerprint.decode() if is_done else ""
                    assert state in states[name], (
                        f"{start} after entry {moment} of {len(entries)}, seed {seed}: "
                        f"{name} is {state!r}, may be {states[name]}; {store.messages}"
                    )


@pytest.mark.parametrize("seed", range(3))
def test_after_a_power_cut_every_promise_holds(recording, tmp_path, seed):
    """Sabotage: open a writer's file with ``sync=False``, or rename a merged file unsynced."""
    check_cuts(recording, tmp_path / "work", seed, 20)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_power_cuts_at_full_size(recording, tmp_path, seed):
    check_cuts(recording, tmp_path / "work", seed, 200)
