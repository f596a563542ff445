"""A driver that runs one small graph with a checkpoint, for tests that kill it.

Arguments: the folder of the graph and the directory of the checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support.small_graph import SmallGraph, job


def graph(folder: Path, store: Path) -> SmallGraph:
    """Sixteen leaves, four joins, one sum; some slower than others."""
    made = SmallGraph(folder, store)
    for leaf in range(16):
        made.jobs.append(
            job(
                f"leaf-{leaf}",
                f"sleep 0.0{leaf % 5}; tr a-z A-Z < {leaf}.txt > {leaf}.p; cp {leaf}.p {leaf}.out",
                inputs=(f"{leaf}.txt",),
                outputs=(f"{leaf}.out",),
            )
        )
    for join in range(4):
        leaves = range(join * 4, join * 4 + 4)
        made.jobs.append(
            job(
                f"join-{join}",
                f"cat {' '.join(f'{leaf}.out' for leaf in leaves)} > {join}.joined",
                needs=tuple(f"leaf-{leaf}" for leaf in leaves),
                outputs=(f"{join}.joined",),
            )
        )
    made.jobs.append(
        job("sum", "cat ?.joined | cksum > sum", needs=tuple(f"join-{n}" for n in range(4)))
    )
    return made


def main() -> None:
    """Run the graph as the command line would: with ``auto``."""
    folder, store = map(Path, sys.argv[1:3])
    graph(folder, store).run("auto")


if __name__ == "__main__":
    main()
