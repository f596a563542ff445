"""The results of experiments as a table for the terminal; nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from flows.publish import Document, Published
from tasks.experiment_statistics import QUANTILES
from tasks.experiment_summary import figure_text, nanoseconds_text

_STATUS_STYLE = {"failed": "bold red", "not available": "dim"}


def results_table(published: Published) -> Table:
    """Return a table of tables: for each experiment a row for each library and metric.

    Figures are never cut; at 80 columns they fit beside names of usual length.  A median beyond
    what was to be expected is marked with ``!``; a library without results says its status.
    """
    table = Table.grid()
    for index, (name, documents) in enumerate(published.experiments.items()):
        if index:
            table.add_row("")
        table.add_row(_experiment_table(name, documents))
    return table


def failures_text(published: Published) -> Text:
    """Return the libraries without usable results and why, a line for each; empty for none."""
    lines = [
        Text.assemble((candidate, "bold red"), ": ", _one_line(message))
        for candidate, message in published.failures.items()
    ]
    return Text("\n").join(lines)


def _one_line(message: str) -> str:
    """Return a foreign message without line breaks and without orders to the terminal."""
    printable = "".join(each if each.isprintable() else " " for each in message)
    return " ".join(printable.split())


def _experiment_table(name: str, documents: Mapping[str, Document]) -> Table:
    first = next(iter(documents.values()))
    inputs = first["inputs"]
    facts = f"  against {first['reference_library']}, n {inputs['count']}, seed {inputs['seed']}"
    table = Table(
        title=Text.assemble((name, "bold"), (facts, "dim")),
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("library", min_width=8)
    table.add_column("metric", min_width=17)
    for quantile in QUANTILES:
        table.add_column(quantile, justify="right", no_wrap=True, min_width=8)
    table.add_column("per case", justify="right", no_wrap=True, min_width=8)
    for document in documents.values():
        for row in _rows(document):
            table.add_row(*row)
    return table


def _rows(document: Document) -> Iterator[list[Text]]:
    library = Text(document["candidate_library"])
    if document["accuracy"] is None:
        status = document["status"]
        cells = [Text("–", "dim")] * len(QUANTILES)
        yield [library, Text(status, _STATUS_STYLE.get(status, "")), *cells, Text("")]
        return
    performance = document["performance"]
    speed = "" if performance is None else nanoseconds_text(performance["per_op_ns_median"])
    for metric, figures in document["accuracy"].items():
        described = document["metrics"][metric]
        label = Text(f"{described['title']} {described['unit']}")
        yield [
            library,
            label,
            *_cells(figures, is_missed=_is_missed(document, metric)),
            Text(speed),
        ]
        library, speed = Text(""), ""


def _is_missed(document: Document, metric: str) -> bool:
    return any(
        expectation["metric"] == metric and expectation["met"] is False
        for expectation in document["alignment"]["expected_agreement"]
    )


def _cells(figures: Mapping[str, Any] | None, *, is_missed: bool) -> list[Text]:
    if figures is None:
        return [Text("n/a", "dim"), *[Text("")] * (len(QUANTILES) - 1)]
    cells = [Text(figure_text(figures[quantile])) for quantile in QUANTILES]
    if is_missed:
        cells[0] = Text(f"{cells[0].plain} !", "bold yellow")
    return cells
