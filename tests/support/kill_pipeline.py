"""A pipeline over text files, for tests that kill its worker processes.

The folder comes from the environment, so that the same file serves every test.  Each source notes
in the file ``started`` that it began.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasks.pipeline import FILTERED, Pipeline
from tasks.sinks import JsonLinesSink
from tasks.sources import Files
from tasks.stages import BatchResult, BatchStage

FOLDER = Path(os.environ["KILL_PIPELINE_FOLDER"])


def read(path: Path) -> list[str]:
    """Note that the file began, and return its lines."""
    note = os.open(FOLDER / "started", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(note, f"{path.relative_to(FOLDER / 'texts').as_posix()}\n".encode())
    os.close(note)
    return path.read_text().splitlines()


def work(line: str) -> object:
    """Take a little time, as real work would; drop some lines, divide others."""
    time.sleep(0.0005)
    if "drop" in line:
        return FILTERED
    return line.split(";")


class Pairs(BatchStage):
    """Join neighbours."""

    batch_size = 4

    def process_batch(self, items):
        """Join two by two."""
        places = range(0, len(items), 2)
        outputs = [{"text": "+".join(items[at : at + 2])} for at in places]
        parents = [range(at, min(at + 2, len(items))) for at in places]
        return BatchResult(outputs, parents)


pipeline = Pipeline(
    Files(FOLDER / "texts", "*.txt", read=read), [work, Pairs()], JsonLinesSink(FOLDER / "out")
)
