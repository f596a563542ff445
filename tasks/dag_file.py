"""The DAG file: a job graph as people and programs write it (see docs/formats.md).

Reading tells everything that is wrong at once, with lines; nothing is started before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from tasks.dag_file_format import Format, decoded, format_of, sniffed_format
from tasks.dag_file_json import read_json_document
from tasks.dag_file_jsonl import BLOCK_BYTES, JobLines
from tasks.dag_file_places import Document, Places
from tasks.dag_file_problems import Path as Place
from tasks.dag_file_problems import Problems, field_label
from tasks.dag_file_toml import read_toml_document
from tasks.dag_file_yaml import read_yaml_document
from tasks.dag_head import NAME_ALLOWED, Head, is_name, name_from, read_head
from tasks.graph_builder import GraphBuilder
from tasks.job_graph import JobGraph
from tasks.shown import quoted, shown

__all__ = ["STDIN", "JobGraph", "parse_dag", "parse_dag_text", "read_dag_file"]

STDIN = "-"
MAX_DOCUMENT_BYTES = 512 << 20

_READERS = {
    "yaml": read_yaml_document,
    "toml": read_toml_document,
    "json": read_json_document,
}


def read_dag_file(path: str, *, name: str | None = None) -> JobGraph:
    """Return the checked graph of a file; ``-`` is standard input.

    The suffix names the format (``.yaml``, ``.yml``, ``.toml``, ``.json``, ``.jsonl``,
    ``.ndjson``); the content of other files and of standard input tells it.  ``name`` overrides
    the graph's own; a graph without one is called like its file.  ``cwd`` is the file's folder
    unless the head names another one.

    Raises ``InputError`` with a line for each problem, also for a file that cannot be read.
    """
    if path == STDIN:
        problems = Problems("stdin")
        stream = getattr(sys.stdin, "buffer", None)
        if stream is None:
            problems.fail("there is no standard input; give a DAG file")
        return _read(stream, None, problems, name, "stdin", Path.cwd())
    problems = Problems(path)
    try:
        file = Path(path)
        with file.open("rb") as stream:
            folder = Path.cwd() / file.parent
            return _read(stream, format_of(path), problems, name, _stem(path), folder)
    except IsADirectoryError:
        problems.fail("is a folder; give a DAG file")
    except FileNotFoundError:
        problems.fail("there is no such file; give a DAG file, or - for standard input")
    except OSError as error:
        problems.fail(f"cannot be read: {error.strerror or error}")
    except ValueError:  # a NUL character, or half of one, in the path
        problems.fail("is no path of a file; give a DAG file")


def parse_dag_text(
    text: str | bytes,
    *,
    format: Format | None = None,  # noqa: A002 - the word that the documentation uses
    source: str = "dag",
    name: str | None = None,
    cwd: Path | None = None,
) -> JobGraph:
    """Return the checked graph of a text; ``format`` ``None`` means: as its content tells.

    ``source`` stands where messages name the file.  ``cwd``: else the working directory.  Raises
    ``InputError`` with a line for each problem.
    """
    problems = Problems(source)
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return _read(BytesIO(content), format, problems, name, source, cwd or Path.cwd())


def parse_dag(
    graph: Mapping[str, Any],
    *,
    source: str = "dag",
    name: str | None = None,
    cwd: Path | None = None,
) -> JobGraph:
    """Return the checked graph of a mapping, as a deployment gets it as a parameter.

    The mapping is what a JSON DAG file holds.  ``source``, ``name`` and ``cwd`` as in
    ``parse_dag_text``.  Raises ``InputError`` with a line for each problem.
    """
    problems = Problems(source)
    return _from_document(Document(graph), problems, name, source, cwd or Path.cwd())


def _read(
    stream: BinaryIO,
    given: Format | None,
    problems: Problems,
    name: str | None,
    stem: str,
    folder: Path,
) -> JobGraph:
    first = stream.read(BLOCK_BYTES)
    if not first.strip():
        problems.fail("is empty; give a graph with jobs")
    kind = sniffed_format(first) if given is None else given
    if kind == "jsonl":
        head, builder = JobLines(problems).read(stream, first)
        return _graph(head, builder, problems, name, stem, folder)
    content = first + stream.read(MAX_DOCUMENT_BYTES - len(first) + 1)
    if len(content) > MAX_DOCUMENT_BYTES:
        limit = f"{MAX_DOCUMENT_BYTES >> 20} MiB"
        problems.fail(f"is larger than {limit}; write JSON Lines, which is read as a stream")
    document = _READERS[kind](decoded(content, problems), problems)
    return _from_document(document, problems, name, stem, folder)


def _from_document(
    document: Document, problems: Problems, name: str | None, stem: str, folder: Path
) -> JobGraph:
    graph = document.value
    if not isinstance(graph, Mapping):
        found = "is empty" if graph is None else f"{shown(graph)} is no graph"
        problems.fail(f'{found}; give a mapping with "jobs"')
    if not all(isinstance(key, str) for key in graph):
        problems.fail("has a key that is no text")
    origin = _DocumentOrigin(document)

    def report(path: Place, text: str) -> None:
        problems.add(text, line=document.places().line(path), label=field_label(path))

    rest = {key: value for key, value in graph.items() if key != "jobs"}
    head = read_head(rest, report, lambda path: document.places().spelling(path))
    builder = GraphBuilder(head, problems, origin)
    jobs = graph.get("jobs")
    if isinstance(jobs, list | tuple):
        for entry, job in enumerate(jobs):
            builder.add(entry, job)
    elif "jobs" not in graph:
        report(("jobs",), "is missing; give a list of jobs")
    else:
        report(("jobs",), f"{shown(jobs)} is no list; give a list of jobs")
    return _graph(head, builder, problems, name, stem, folder)


def _graph(
    head: Head,
    builder: GraphBuilder,
    problems: Problems,
    name: str | None,
    stem: str,
    folder: Path,
) -> JobGraph:
    jobs = builder.finish()
    if name is not None and not is_name(name):
        problems.add(f"the name {quoted(name)} is not allowed; give {NAME_ALLOWED}")
    if not jobs and not len(problems):
        problems.add("has no jobs; give at least one")
    problems.raise_if_any()
    return JobGraph(
        name=name if name is not None else head.name if head.name is not None else name_from(stem),
        resources={} if head.resources is None else head.resources,
        max_parallel=head.max_parallel,
        jobs=jobs,
        cwd=folder if head.cwd is None else folder / head.cwd,
    )


class _DocumentOrigin:
    """The entries of ``jobs`` in a document."""

    def __init__(self, document: Document) -> None:
        self._places: Any = document.places

    def line(self, entry: int, path: Place) -> int | None:
        """Return the line of the value, where the format has lines."""
        return self._now().line(("jobs", entry, *path))

    def label(self, entry: int, path: Place) -> str:
        """Return the path from the top."""
        return field_label(("jobs", entry, *path))

    def name(self, entry: int) -> str:
        """Return the entry with its line."""
        line = self.line(entry, ())
        return self.label(entry, ()) + ("" if line is None else f" on line {line}")

    def spelling(self, entry: int, path: Place) -> str | None:
        """Return how a number or boolean is written."""
        return self._now().spelling(("jobs", entry, *path))

    def _now(self) -> Places:
        places: Places = self._places()
        return places


def _stem(path: str) -> str:
    return PurePath(path).name.lstrip(".").split(".")[0]
