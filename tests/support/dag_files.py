"""Graphs as text: what is read from them, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tasks.dag_file import parse_dag_text, read_dag_file
from tasks.dag_file_format import Format
from tasks.errors import InputError
from tasks.job_graph import JobGraph


def graph(text: str | bytes, kind: Format | None = "yaml", **options: Any) -> JobGraph:
    """Return the graph of the text; common indentation is taken away."""
    return parse_dag_text(_dedented(text), format=kind, **options)


def jobs(text: str | bytes, kind: Format | None = "yaml") -> list[dict[str, Any]]:
    """Return the jobs of the text, each as what differs from the defaults."""
    return [job.to_json() for job in graph(text, kind).jobs]


def problems(text: str | bytes, kind: Format | None = "yaml") -> list[str]:
    """Return what is said about the text, without the source's name in front."""
    with pytest.raises(InputError) as error:
        graph(text, kind, source="F")
    for problem in error.value.problems:
        assert problem.startswith(("F:", "and ")), problem
    return [problem.removeprefix("F:").lstrip() for problem in error.value.problems]


def file_problems(path: Path | str) -> list[str]:
    """Return what is said about a file, each problem after its path."""
    with pytest.raises(InputError) as error:
        read_dag_file(str(path))
    assert error.value.exit_code == 2
    return [problem.removeprefix(f"{path}:").lstrip() for problem in error.value.problems]


def _dedented(text: str | bytes) -> str | bytes:
    return dedent(text) if isinstance(text, str) else text
