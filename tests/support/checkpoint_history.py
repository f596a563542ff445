"""A checkpoint with a past, and what must not be believed about it.

Generation 1 did all sources with the fingerprint OLD.  Generation 2 withdrew the first hundred, did
fifty of them again with the fingerprint NEW, and was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tasks.checkpoint.record import Outcome
from tasks.checkpoint.store import CheckpointStore
from tasks.status import RunStatus

ROOT = Path(__file__).parents[2]
OLD, NEW = b"old fingerprint.", b"new fingerprint."
ALL, WITHDRAWN, AGAIN = 300, 100, 50


def source(number: int) -> str:
    """Return the name of a source."""
    return f"data/{number:03d}/" + "x" * (number % 40)


def first_run(directory: Path) -> None:
    """Do all sources; the run ends in good order."""
    with CheckpointStore(directory) as store:
        generation = store.begin("first")
        with generation.writer() as writer:
            for number in range(ALL):
                writer.record(source(number), OLD)
        generation.end(RunStatus.COMPLETED)


def second_run(directory: Path) -> None:
    """Withdraw some, do half of these again, and be killed with SIGKILL."""
    store = CheckpointStore(directory)
    writer = store.begin("second", base=0).writer()
    writer.withdraw(source(number) for number in range(WITHDRAWN))
    for number in range(AGAIN):
        writer.record(source(number), NEW)
        if number % 10 == 9:
            writer.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def run_killed(statement: str) -> None:
    """Run a statement of this module in a process that ends itself with SIGKILL."""
    code = f"from support.checkpoint_history import *; {statement}"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


def make(directory: Path) -> None:
    """Make the checkpoint."""
    first_run(directory)
    run_killed(f"second_run(Path({str(directory)!r}))")


def spared(store: CheckpointStore) -> Iterator[tuple[int, bytes]]:
    """Yield the sources that the store calls done, with the fingerprint it says."""
    records = store.lookup_many(source(number) for number in range(ALL))
    for number, record in enumerate(records):
        if record is not None and record.outcome is Outcome.DONE:
            yield number, record.fingerprint


def wrongly_spared(store: CheckpointStore) -> list[tuple[int, bytes]]:
    """Return what the store says and must not say."""
    return [
        (number, fingerprint)
        for number, fingerprint in spared(store)
        if (fingerprint == OLD and number < WITHDRAWN)
        or (fingerprint == NEW and number >= AGAIN)
        or fingerprint not in (OLD, NEW)
    ]
