"""An experiment of one's own in one file: do two sorting programs agree?

    python -m flows.run experiment --suite examples/sorting_suite.py --n 200

Python's own ``sorted`` is the reference, the candidate is the ``sort`` program of the system.
The same file holds the experiment and both adapters: started with a library's name, the path of
the cases and the path of the results, it is the adapter of that library.
"""

from __future__ import annotations

import random
import subprocess
import sys

from tasks.experiment import Adapter, Alignment, Expectation, Experiment, Metric
from tasks.experiment_adapter import run_adapter

LIST_LENGTH = 100


class Sorting(Experiment):
    """Lists of integers, sorted by two programs and compared item by item."""

    name = "sorting"
    title = "Two sorting programs"
    reference = "python"
    metrics = (Metric("misplaced_items", "misplaced", "items"),)
    alignment = Alignment(
        quantity=f"Lists of {LIST_LENGTH} integers are sorted in ascending order.",
        model="sorted() of Python",
        units={"misplaced_items": "items of a list that differ from the reference's"},
    )
    adapters = (
        Adapter("python", (sys.executable, __file__, "python"), model="Timsort"),
        Adapter(
            "coreutils",
            (sys.executable, __file__, "coreutils"),
            model="sort -n",
            parity="the same order: numeric, in the C locale",
            expected=(Expectation("misplaced_items", 0.0, "POSIX, sort, option -n."),),
        ),
    )

    def cases(self, n, seed):
        """Return n lists of integers, some of them equal, some negative."""
        generator = random.Random(seed)
        return [[generator.randint(-1000, 1000) for _ in range(LIST_LENGTH)] for _ in range(n)]

    def errors(self, cases, reference, candidate):
        """Count the items that stand in another place than in the reference's list."""
        pairs = zip(reference.values("sorted"), candidate.values("sorted"), strict=True)
        return {
            "misplaced_items": [
                sum(ours != theirs for ours, theirs in zip(a, b, strict=True)) for a, b in pairs
            ]
        }


def sort_with_python(cases):
    """Sort with ``sorted``."""
    return lambda: {"sorted": [sorted(case) for case in cases]}


def sort_with_coreutils(cases):
    """Sort with ``sort -n``, a process for each list."""
    texts = ["".join(f"{item}\n" for item in case) for case in cases]

    def compute():
        return {"sorted": [_sort_lines(text) for text in texts]}

    return compute


def _sort_lines(text):
    command = ["sort", "-n"]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
    )
    return [int(line) for line in done.stdout.splitlines()]


PROGRAMS = {"python": sort_with_python, "coreutils": sort_with_coreutils}

if __name__ == "__main__":
    library = sys.argv[1]
    sys.exit(run_adapter(library, {"sorting": PROGRAMS[library]}))
