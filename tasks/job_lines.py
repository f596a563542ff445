"""Job graphs as JSON Lines, which ``tasks.dag_file`` reads back as equal records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TextIO

from tasks.job_graph import JobGraph
from tasks.spec import JobRecord


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no field of a job; this is a bug")


_encode = json.JSONEncoder(separators=(",", ":"), default=_plain).encode


def job_line(job: JobRecord) -> str:
    """Return the job as one line of ASCII, with its newline."""
    return _encode(job.to_json()) + "\n"


def head_line(head: Mapping[str, Any]) -> str:
    """Return the first line: the keys beside ``jobs``; what is ``None`` is left out."""
    return _encode({key: value for key, value in head.items() if value is not None}) + "\n"


def graph_head(graph: JobGraph) -> dict[str, Any]:
    """Return what the head says of a graph; its folder is named, so that the file may move."""
    head: dict[str, Any] = {"name": graph.name, "cwd": str(graph.cwd)}
    if graph.resources:
        head["resources"] = dict(graph.resources)
    if graph.max_parallel is not None:
        head["max_parallel"] = graph.max_parallel
    return head


def write_jobs_jsonl(stream: TextIO, graph: JobGraph) -> None:
    """Write the head of the graph and a line for each job; raises ``OSError`` as the stream."""
    stream.write(head_line(graph_head(graph)))
    stream.writelines(map(job_line, graph.jobs))
