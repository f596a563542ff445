"""Curate the Python source files of this very installation: a pipeline over thousands of files.

Files of the standard library and of site-packages are decoded; generated and very short ones are
dropped; the rest is split into functions; near-duplicates within a file are dropped; tokens are
counted; what is left is written as JSON Lines, one file for each source file, with statistics and
a plot beside them.

    python examples/curate_python.py --out curated           # stop it whenever you like ...
    python examples/curate_python.py --out curated           # ... and it goes on where it stopped

With worker processes that nothing survives: `python -m flows.run curate
examples/curate_python.py:pipeline` (the folder is then `$CURATE_OUT`, or `curated`).
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import statistics
import sys
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from html import escape
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.atomic_file import write_atomically, write_json_atomically
from tasks.checkpoint.store import CheckpointStore
from tasks.pipeline import FILTERED, BatchResult, Pipeline
from tasks.pipeline_resume import plan_pipeline
from tasks.pipeline_worker import Worker
from tasks.sinks import JsonLinesSink
from tasks.sources import Files, Source, SourceRef
from tasks.stages import BatchStage, stage
from tasks.status import RunStatus
from tasks.worker_config import WorkerConfig

GENERATED = re.compile(r"generated (by|from|file|code)|do not edit|@generated", re.IGNORECASE)
TOKEN = re.compile(r"\w+|[^\w\s]")
SHORTEST_FILE_LINES = 10
SHORTEST_FUNCTION_TOKENS = 20


# -- source -----------------------------------------------------------------------------------


class PythonFiles(Source):
    """The Python files below several folders, each called by a name of its own."""

    names_are_unique = True

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._parts = {name: Files(folder, "*.py") for name, folder in folders.items()}

    def open(self, cache: Path | None) -> None:
        """Make the parts ready; they share what saves time."""
        for part in self._parts.values():
            part.open(cache)

    def refs(self, wanted: Callable[[str], bool]) -> Iterator[SourceRef]:
        """Yield the files, part by part, as ``part/path``."""
        for name, part in self._parts.items():
            # The part's own names are relative to it; what is wanted is asked by the whole name.
            for ref in part.refs(lambda path, name=name: self._is_own(name, path, wanted)):
                yield ref._replace(name=f"{name}/{ref.name}")

    def _is_own(self, name: str, path: str, wanted: Callable[[str], bool]) -> bool:
        # The packages beside the standard library are another interpreter's, or a part by itself.
        return not path.startswith("site-packages/") and wanted(f"{name}/{path}")

    def read(self, ref: SourceRef) -> Iterable[Any]:
        """Yield the one file as it is."""
        return [{"source": ref.name, "content": Path(ref.origin).read_bytes()}]


# -- stages -----------------------------------------------------------------------------------


@stage(version="1")
def decode(item: dict[str, Any]) -> Any:
    """Read the text in the encoding that the file declares."""
    content = item["content"]
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return FILTERED
    return {"source": item["source"], "text": text}


@stage(version="1")
def drop_generated_and_short(item: dict[str, Any]) -> Any:
    """Keep what a person wrote and what has something to say."""
    lines = item["text"].splitlines()
    if sum(1 for line in lines if line.strip()) < SHORTEST_FILE_LINES:
        return FILTERED
    if any(GENERATED.search(line) for line in lines[:10]):
        return FILTERED
    return item


@stage(version="1")
def split_into_functions(item: dict[str, Any]) -> Any:
    """Return every function and method, with the names of what it stands in."""
    try:
        tree = ast.parse(item["text"])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return FILTERED
    lines = item["text"].splitlines(keepends=True)
    return [
        {
            "source": item["source"],
            "name": name,
            "line": node.lineno,
            "code": "".join(lines[node.lineno - 1 : node.end_lineno]),
        }
        for name, node in functions_in(tree)
    ]


def functions_in(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the outermost functions of a module and of its classes."""
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, parent = waiting.pop(0)
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name, node
            elif isinstance(node, ast.ClassDef):
                waiting.append((f"{prefix}{node.name}.", node))


class DropNearDuplicates(BatchStage):
    """Keep the first of functions in a file that say nearly the same.

    Two are nearly the same when their sets of five tokens in a row overlap by ``overlap``.  Only
    those that share one of their smallest hashes are compared.
    """

    batch_size = 100_000
    """More functions than any file has: a file is looked at as a whole."""

    def __init__(self, overlap: float = 0.85) -> None:
        self.overlap = overlap

    def process_batch(self, items: Sequence[dict[str, Any]]) -> BatchResult:
        """Return those that are kept, each from the one that it is."""
        kept: list[int] = []
        by_hash: dict[int, list[int]] = {}
        shingles = [shingles_of(item["code"]) for item in items]
        for place, mine in enumerate(shingles):
            smallest = sorted(mine)[:8]
            near = {other for value in smallest for other in by_hash.get(value, ())}
            if any(self._overlap(mine, shingles[other]) for other in near):
                continue
            kept.append(place)
            for value in smallest:
                by_hash.setdefault(value, []).append(place)
        return BatchResult([items[place] for place in kept], kept)

    def _overlap(self, mine: set[int], other: set[int]) -> bool:
        return len(mine & other) >= self.overlap * len(mine | other)


def shingles_of(code: str) -> set[int]:
    """Return a hash of each five tokens in a row."""
    tokens = TOKEN.findall(code)
    rows = zip(*(tokens[start:] for start in range(5)), strict=False)
    return {
        int.from_bytes(blake2b(" ".join(row).encode(), digest_size=6).digest(), "little")
        for row in rows
    }


@stage(version="1")
def count_tokens(item: dict[str, Any]) -> Any:
    """Add the number of tokens; drop what is too short to learn from."""
    tokens = len(TOKEN.findall(item["code"]))
    if tokens < SHORTEST_FUNCTION_TOKENS:
        return FILTERED
    return {**item, "tokens": tokens}


# -- the pipeline -----------------------------------------------------------------------------


def installed() -> dict[str, Path]:
    """Return the folders of this installation's Python files."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = Path(sysconfig.get_path("purelib"))
    folders = {"stdlib": library, "site-packages": packages}
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


def make_pipeline(folders: Mapping[str, Path], out: Path) -> Pipeline:
    """Return the pipeline over these folders."""
    stages = [
        decode,
        drop_generated_and_short,
        split_into_functions,
        DropNearDuplicates(),
        count_tokens,
    ]
    return Pipeline(PythonFiles(folders), stages, JsonLinesSink(out / "functions"))


def pipeline() -> Pipeline:
    """Return the pipeline that ``curate`` runs."""
    return make_pipeline(installed(), Path(os.environ.get("CURATE_OUT", "curated")))


# -- statistics -------------------------------------------------------------------------------


def functions_of(out: Path) -> Iterator[dict[str, Any]]:
    """Yield every function that was published, in an order that stays the same."""
    for path in sorted((out / "functions").rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def describe(out: Path) -> dict[str, Any]:
    """Write statistics and a plot of what was curated, and return the statistics."""
    tokens: list[int] = []
    packages: Counter[str] = Counter()
    sources: set[str] = set()
    for function in functions_of(out):
        tokens.append(function["tokens"])
        sources.add(function["source"])
        packages["/".join(function["source"].split("/")[:2]).removesuffix(".py")] += 1
    cuts = statistics.quantiles(tokens, n=100) if len(tokens) > 1 else [0.0] * 99
    described = {
        "files": len(sources),
        "functions": len(tokens),
        "tokens": sum(tokens),
        "tokens_per_function": {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]},
        "largest_packages": dict(packages.most_common(15)),
    }
    write_json_atomically(out / "statistics.json", described)
    write_atomically(out / "tokens.svg", plot(tokens))
    return described


def plot(tokens: Sequence[int]) -> str:
    """Return a picture of how long functions are: one bar for each doubling."""
    counts = Counter(max(4, value.bit_length() - 1) for value in tokens)
    bars = range(min(counts, default=4), max(counts, default=4) + 1)
    most = max(counts.values(), default=1)
    width, height, left = 46, 240, 20
    parts = []
    for place, bar in enumerate(bars):
        x, tall = left + place * width, round(height * counts[bar] / most)
        label = f"{2**bar}-{2 ** (bar + 1) - 1}"
        parts.append(
            f'<rect x="{x}" y="{height + 30 - tall}" width="{width - 6}" height="{tall}" '
            f'fill="#47a"/><text x="{x + 20}" y="{height + 46}">{escape(label)}</text>'
            f'<text x="{x + 20}" y="{height + 24 - tall}">{counts[bar]:,}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left * 2 + width * len(bars)}" '
        f'height="{height + 60}" font-family="sans-serif" font-size="9" text-anchor="middle">'
        f'<text x="{left}" y="14" text-anchor="start" font-size="12">functions by their tokens'
        f"</text>{''.join(parts)}</svg>\n"
    )


def main() -> None:
    """Run in this process, resumed where an earlier run stopped, and describe the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("curated"))
    parser.add_argument("--folder", type=Path, action="append", help="instead of the installation")
    parser.add_argument("--plan", action="store_true", help="say what would run, and why")
    given = parser.parse_args()
    folders = {folder.name: folder for folder in given.folder} if given.folder else installed()
    work = make_pipeline(folders, given.out)
    with CheckpointStore(given.out / ".checkpoint") as store:
        if given.plan:
            print("\n".join(plan_pipeline(work, store).lines()))
            return
        generation = store.begin("curate", base=0, facts=work.facts())
        config = WorkerConfig(
            "", checkpoint=str(store.directory), generation=generation.number, base=0
        )
        counts = Worker(work, config).run()
        status = RunStatus.COMPLETED if counts.is_complete else RunStatus.FAILED
        generation.end(status, counts.sources)
    print(f"files: {dict(counts.sources)}; items: {dict(counts.items)}")
    for failure in counts.failures:
        print(failure)
    print(json.dumps(describe(given.out), indent=2))


if __name__ == "__main__":
    main()
