"""What a checkpoint costs: starting on many completed sources, and recording them.

    python benchmarks/checkpoint.py [--sources 1000000] [--directory DIR]

Each figure is taken in a process of its own, on the disk of ``--directory``.  Memory is anonymous
memory, the most that was seen: the pages of the map belong to the disk's cache and are given back
whenever somebody needs them.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.checkpoint.store import CheckpointStore
from tasks.pipeline import Pipeline
from tasks.pipeline_worker import Worker
from tasks.sinks import JsonLinesSink
from tasks.sources import Items, SourceRef
from tasks.status import RunStatus
from tasks.worker_config import WorkerConfig

WORDS = [f"word{number}" for number in range(500)]

FINGERPRINT = b"0123456789abcdef"
"""What each source says of itself: making it up is no part of what is measured."""


def sources(count: int) -> Iterator[str]:
    """Yield names as a tree of data files has them, in order."""
    return (f"crawl/part-{index // 1000:06d}/{index % 1000:03d}.jsonl" for index in range(count))


def anonymous_bytes() -> int:
    """Return this process's anonymous memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


def fill(directory: Path, count: int, writers: int) -> dict[str, float]:
    """Record ``count`` sources through ``writers`` files; the run ends interrupted."""
    started = time.perf_counter()
    with CheckpointStore(directory) as store:
        generation = store.begin("fill")
        files = [generation.writer() for _ in range(writers)]
        for index, source in enumerate(sources(count)):
            files[index % writers].record(source, FINGERPRINT)
        for file in files:
            file.close()
    return {"seconds": time.perf_counter() - started}


def compact(directory: Path) -> dict[str, float]:
    """Start once, so that what dead writers left becomes one file."""
    with CheckpointStore(directory) as store:
        started = time.perf_counter()
        generation = store.begin("compact", base=0)
        seconds = time.perf_counter() - started
        generation.end(RunStatus.CANCELLED)
    return {"seconds": seconds, "files": len(list(directory.glob("*.mdb")))}


def scan(directory: Path, count: int) -> dict[str, float]:
    """Start, look every source up, and skip those whose fingerprint is the recorded one."""
    peak = 0

    def entries() -> Iterator[tuple[str, bytes]]:
        nonlocal peak
        for index, source in enumerate(sources(count)):
            if index % 50_000 == 0:
                peak = max(peak, anonymous_bytes())
            yield source, FINGERPRINT

    started = time.perf_counter()
    with CheckpointStore(directory) as store:
        store.begin("scan", base=0)
        begun = time.perf_counter()
        peak = anonymous_bytes()
        rest = sum(1 for _ in store.undone(entries()))
        ended = time.perf_counter()
    if rest:
        raise SystemExit(f"{rest} of {count} sources would run again")
    return {
        "seconds": ended - started,
        "begin_seconds": begun - started,
        "anonymous_mb": peak / 1e6,
    }


def durable(directory: Path, count: int) -> dict[str, float]:
    """Record as fast as one process can; every group is on the disk when it counts."""
    names = list(sources(count))
    with CheckpointStore(directory) as store:
        writer = store.begin("durable").writer()
        started = time.perf_counter()
        for source in names:
            writer.record(source, FINGERPRINT)
        writer.flush()
        seconds = time.perf_counter() - started
        writer.close()
    return {"seconds": seconds, "records_per_second": count / seconds}


def text_of(source: str) -> str:
    """Return the text of a small source: two pages, 7 KB."""
    rng = random.Random(source)
    return " ".join(rng.choice(WORDS) for _ in range(1_000))


def count_words(item: dict[str, str]) -> dict[str, object]:
    """Do what a small stage does: look at every word."""
    counts: dict[str, int] = {}
    for word in item["text"].split():
        counts[word] = counts.get(word, 0) + 1
    return {
        "source": item["source"],
        "words": counts,
        "digest": sha256(item["text"].encode()).hexdigest(),
    }


class Pages(Items):
    """Small sources that are made when they are read."""

    def read(self, ref: SourceRef) -> list[dict[str, str]]:
        """Make the page."""
        return [{"source": ref.name, "text": text_of(ref.name)}]


def pipeline(directory: Path, count: int, checkpointed: int) -> dict[str, float]:
    """Run a pipeline of small sources, each with a file of its own, with a checkpoint or not."""
    work = Pipeline(
        Pages([f"page {number}" for number in range(count)], ids=str),
        [count_words],
        JsonLinesSink(directory / f"out-{checkpointed}"),
    )
    started = time.perf_counter()
    if checkpointed:
        store = directory / "store"
        with CheckpointStore(store) as opened:
            generation = opened.begin("pipeline", base=0, facts=work.facts())
            config = WorkerConfig("", checkpoint=str(store), generation=generation.number, base=0)
            counts = Worker(work, config).run()
            generation.end(RunStatus.COMPLETED)
    else:
        counts = Worker(work, WorkerConfig("")).run()
    if counts.sources["done"] != count:
        raise SystemExit(f"{count - counts.sources['done']} sources failed")
    return {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time()}


STEPS = {"fill": fill, "compact": compact, "scan": scan, "durable": durable, "pipeline": pipeline}


def step(name: str, directory: Path, *numbers: int) -> dict[str, float]:
    """Run one step in a process of its own and return its figures."""
    command = [sys.executable, __file__, "--step", name, "--directory", str(directory)]
    done = subprocess.run([*command, *map(str, numbers)], stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def report(count: int, parent: Path) -> None:
    """Take all figures and print them."""
    with tempfile.TemporaryDirectory(dir=parent, prefix="checkpoint-benchmark-") as folder:
        one, many, fast = (Path(folder, name) for name in ("one", "many", "fast"))
        step("fill", one, count, 2)
        merged = step("compact", one)
        size = sum(path.stat().st_size for path in one.glob("*.mdb"))
        print(f"{count:,} sources in {merged['files']:.0f} file, {size / 1e6:.0f} MB")
        print(f"merging two files into it: {merged['seconds']:.2f} s")
        first = step("scan", one, count)
        show("start, scan, skip", first)
        step("fill", many, count, 16)
        show("the same, 16 writers' files", step("scan", many, count), first["seconds"])
        shutil.rmtree(one)
        shutil.rmtree(many)
        rate = step("durable", fast, min(count, 1_000_000))["records_per_second"]
        print(f"durable completions in groups: {rate:,.0f}/s")
        report_pipeline(Path(folder), min(count // 10, 100_000))


def report_pipeline(folder: Path, count: int) -> None:
    """Run the same pipeline without and with a checkpoint, in turns; compare the best of each."""
    taken: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    for _ in range(3):
        for checkpointed in (0, 1):
            place = folder / "pipeline"
            place.mkdir()
            taken[checkpointed].append(step("pipeline", place, count, checkpointed))
            shutil.rmtree(place)
    print(f"pipeline of {count:,} small sources, with a checkpoint:", end=" ")
    for what, unit in (("seconds", "s"), ("cpu_seconds", "s of processor time")):
        without, with_it = (min(figures[what] for figures in taken[kind]) for kind in (0, 1))
        change = 100 * (with_it / without - 1)
        each_us = 1e6 * (with_it - without) / count
        print(
            f"{without:.2f} -> {with_it:.2f} {unit} ({change:+.1f} %, {each_us:.0f} µs each)",
            end="; ",
        )
    print()


def show(what: str, figures: dict[str, float], beside: float | None = None) -> None:
    """Print one scan."""
    times = f" ({figures['seconds'] / beside:.2f} times as long)" if beside else ""
    print(
        f"{what}: {figures['seconds']:.2f} s{times}, of which start {figures['begin_seconds']:.2f} "
        f"s; {figures['anonymous_mb']:.0f} MB anonymous"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sources", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("numbers", nargs="*", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(STEPS[given.step](given.directory, *given.numbers)))
    else:
        report(given.sources, given.directory)


if __name__ == "__main__":
    main()
