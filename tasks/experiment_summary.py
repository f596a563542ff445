"""Documents of an experiment as a page that a person reads; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.experiment_statistics import QUANTILES

_UNITS_OF_TIME = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def figure_text(figure: float) -> str:
    """Return a figure with three significant digits; exactly ``0`` for none at all."""
    return "0" if figure == 0 else f"{figure:.3g}"


def nanoseconds_text(duration_ns: float) -> str:
    """Return a duration with three significant digits in the unit that suits it."""
    for size, unit in _UNITS_OF_TIME:
        if duration_ns >= size:
            return f"{duration_ns / size:.3g} {unit}"
    return f"{duration_ns:.3g} ns"


def summary_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return the page (Markdown) for the documents of one experiment."""
    first = documents[0]
    alignment, inputs = first["alignment"], first["inputs"]
    lines = [f"# {first['title']}", "", alignment["quantity"], ""]
    lines += [f"- Reference: {first['reference_library']}: {alignment['model']}"]
    lines += [f"- Unit of {name}: {unit}" for name, unit in alignment["units"].items()]
    lines += [f"- Time scale of {name}: {text}" for name, text in alignment["time_scales"].items()]
    lines += [
        f"- Cases: {inputs['count']}, seed {inputs['seed']}, `{inputs['dataset_fingerprint']}`"
    ]
    lines += [f"- {note}" for note in alignment["notes"]]
    lines += ["", "## Accuracy", "", *_accuracy_table(documents)]
    lines += ["", "Quantiles are linear between neighbouring figures; `max` is the worst case."]
    lines += ["", "## Speed", "", *_speed_table(documents)]
    lines += ["", "## Libraries", ""]
    for document in documents:
        lines += _library_lines(document)
    return "\n".join(lines).rstrip() + "\n"


def _accuracy_table(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"| library | metric | {' | '.join(QUANTILES)} |"]
    lines += ["|---|---|" + "---:|" * len(QUANTILES)]
    for document in documents:
        for name, metric in document["metrics"].items():
            figures = (document["accuracy"] or {}).get(name)
            cells = (
                [document["status"] if document["accuracy"] is None else "not available"]
                + [""] * (len(QUANTILES) - 1)
                if figures is None
                else [figure_text(figures[quantile]) for quantile in QUANTILES]
            )
            label = f"{metric['title']} ({metric['unit']})"
            lines.append(f"| {document['candidate_library']} | {label} | {' | '.join(cells)} |")
    return lines


def _speed_table(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| library | time for one case (median) | variation | rounds | timed |"]
    lines += ["|---|---:|---:|---:|---|"]
    for document in documents:
        performance = document["performance"]
        if performance is None:
            continue
        variation = performance["per_op_ns_cv_pct"]
        alone = document["run_metadata"]["adapter"].get("timed_alone")
        lines.append(
            f"| {document['candidate_library']} "
            f"| {nanoseconds_text(performance['per_op_ns_median'])} "
            f"| {'' if variation is None else f'{variation:.1f} %'} "
            f"| {performance['rounds']} | {'alone' if alone else 'beside other jobs'} |"
        )
    return lines if len(lines) > 2 else ["No library was timed."]


def _library_lines(document: Mapping[str, Any]) -> list[str]:
    version = document["run_metadata"]["library_version"]
    lines = [f"### {document['candidate_library']}{f' {version}' if version else ''}", ""]
    if document["cause"] is not None:
        lines += [f"- Failed: {_line(document['cause']['message'])}"]
    if document["reason"] is not None:
        lines += [f"- Not available: {_line(document['reason'])}"]
    for quantity, reason in document["not_available"].items():
        lines += [f"- No {quantity}: {_line(reason)}"]
    alignment = document["alignment"]
    if alignment["models"]["candidate"]:
        lines += [f"- Model: {alignment['models']['candidate']}"]
    if alignment["parity"]:
        lines += [f"- Parity: {alignment['parity']}"]
    for expectation in alignment["expected_agreement"]:
        unit = document["metrics"][expectation["metric"]]["unit"]
        verdict = {True: "met", False: "NOT met", None: "not known"}[expectation["met"]]
        lines += [
            f"- Expected: p50 of {expectation['metric']} at most "
            f"{figure_text(expectation['p50_at_most'])} {unit}: {verdict}. "
            f"{expectation['source']}"
        ]
    return [*lines, ""]


def _line(text: str) -> str:
    """Return a foreign message as one line of a page."""
    return " ".join(text.split())
