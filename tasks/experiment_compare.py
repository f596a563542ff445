"""From raw results to documents: one for each library, whatever became of it."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.atomic_file import write_atomically
from tasks.experiment import Adapter, Experiment
from tasks.experiment_files import CaseSet, ExperimentFiles
from tasks.experiment_results import (
    COMPLETED,
    NOT_AVAILABLE,
    Results,
    ResultsError,
    read_document,
    read_results,
)
from tasks.experiment_statistics import quantile, summary, variation_pct
from tasks.experiment_summary import summary_text

FAILED = "failed"

_TOLD_BY_THE_JOB = ("exit_code", "signal")
"""Causes that the adapter's job can describe better than whoever watched it end."""

_MAX_VERSION = 100
"""Characters of a version that an adapter may state."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found."""

    documents: Mapping[str, Document]
    """For each library, in the order of the adapters."""
    rejected: Mapping[str, str]
    """Libraries whose job passed though what they answered cannot be compared, and why."""


def compare(experiment: Experiment, files: ExperimentFiles) -> Comparison:
    """Hold every library's results against the reference's.

    Raises ``ResultsError`` where the cases or the reference's results cannot be used: without
    them nothing is known of anybody.
    """
    case_set = CaseSet.read(files.cases)
    comparer = _Comparer(experiment, files, case_set)
    documents, rejected = {}, {}
    for adapter in experiment.adapters:
        try:
            documents[adapter.library] = comparer.document(adapter)
        except ResultsError as error:
            rejected[adapter.library] = str(error)
            documents[adapter.library] = comparer.failed(
                adapter, {"kind": "unusable_results", "message": str(error)}
            )
    return Comparison(documents, rejected)


def publishable(comparison: Comparison, files: ExperimentFiles) -> Path:
    """Write the documents and their summary; the folder appears complete, by one rename."""
    temporary = files.folder / f"documents.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for library, document in comparison.documents.items():
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        write_atomically(temporary / f"{library}.json", text)
    write_atomically(temporary / "summary.md", summary_text(list(comparison.documents.values())))
    files.documents.parent.mkdir(parents=True, exist_ok=True)
    if files.documents.exists():
        # An earlier attempt of this job; it was never published.
        shutil.rmtree(files.documents)
    temporary.rename(files.documents)
    return files.documents


def checked_errors(
    experiment: Experiment, cases: Sequence[Any], reference: Results, candidate: Results
) -> dict[str, list[float] | None]:
    """Return the differences for each metric of the experiment, in its order.

    Raises ``ResultsError`` for results that are unusable, and where the experiment's own
    comparison gives what is no difference.
    """
    try:
        found = experiment.errors(cases, reference, candidate)
    except ResultsError:
        raise
    except Exception as error:
        raise ResultsError(f"the comparison raised {type(error).__name__}: {error}") from error
    checked: dict[str, list[float] | None] = {}
    for metric in experiment.metrics:
        figures = found.get(metric.name)
        checked[metric.name] = None if figures is None else list(figures)
        if figures is not None and not figures:
            raise ResultsError(f'"{metric.name}" has no figures')
        for figure in figures or ():
            if not (math.isfinite(figure) and figure >= 0):
                raise ResultsError(f'"{metric.name}" has the figure {figure!r}')
    return checked


def failure_of(files: ExperimentFiles, library: str, job: str) -> dict[str, str]:
    """Return why a library has no usable results, from whoever knows it best.

    The job itself knows more of an exit code than the journal does; of a time limit or a lack
    of memory it knew nothing when it was killed.
    """
    recorded = _cause_in_journal(files.root / "events.jsonl", job)
    if recorded is not None and recorded["kind"] not in _TOLD_BY_THE_JOB:
        return recorded
    try:
        said = read_document(files.failure(library))
        return {"kind": str(said["kind"]), "message": str(said["message"])}
    except (ResultsError, KeyError):
        pass
    message = f'job "{job}" ended without results; its log says more'
    return recorded or {"kind": "missing_output", "message": message}


def _cause_in_journal(journal: Path, job: str) -> dict[str, str] | None:
    """Return the recorded cause of a job's last end; the journal may be torn or absent."""
    try:
        lines = journal.read_bytes().splitlines()
    except OSError:
        return None
    name = json.dumps(job).encode()
    for line in reversed(lines):
        if name not in line:
            continue
        try:
            event = json.loads(line)
            cause = event["cause"]
            if event["event"] == "job_status" and event["job"] == job and cause is not None:
                return {"kind": str(cause["kind"]), "message": str(cause["message"])}
        except (ValueError, KeyError, TypeError):
            continue
    return None


class _Comparer:
    """Makes the documents of one experiment."""

    def __init__(self, experiment: Experiment, files: ExperimentFiles, case_set: CaseSet) -> None:
        self.experiment = experiment
        self.files = files
        self.case_set = case_set
        try:
            self.reference = self._read(experiment.reference)
        except ResultsError as error:
            cause = failure_of(files, experiment.reference, self._job(experiment.reference))
            raise ResultsError(
                f'the reference "{experiment.reference}" has no usable results '
                f"({cause['message']}), so nothing can be compared"
            ) from error
        self.reference_model = experiment.adapter(experiment.reference).model

    def document(self, adapter: Adapter) -> Document:
        """Return the document of a library; raises ``ResultsError`` for unusable results."""
        if not self.files.results(adapter.library).exists():
            cause = failure_of(self.files, adapter.library, self._job(adapter.library))
            return self.failed(adapter, cause)
        results = self._read(adapter.library)
        if not results.is_available:
            return self._document(adapter, NOT_AVAILABLE, reason=results.reason, results=results)
        errors = checked_errors(self.experiment, self.case_set.cases, self.reference, results)
        accuracy = {
            metric: None if figures is None else summary(figures)
            for metric, figures in errors.items()
        }
        if all(figures is None for figures in accuracy.values()):
            reason = "; ".join(results.not_available.values()) or results.reason
            return self._document(adapter, NOT_AVAILABLE, reason=reason, results=results)
        return self._document(adapter, COMPLETED, accuracy=accuracy, results=results)

    def failed(self, adapter: Adapter, cause: Mapping[str, str]) -> Document:
        """Return the document of a library that has no usable results."""
        return self._document(adapter, FAILED, cause=cause)

    def _read(self, library: str) -> Results:
        return read_results(
            self.files.results(library),
            len(self.case_set.cases),
            self.case_set.dataset_fingerprint,
        )

    def _job(self, library: str) -> str:
        return f"{self.experiment.name}.{library}"

    def _document(
        self,
        adapter: Adapter,
        status: str,
        *,
        cause: Mapping[str, str] | None = None,
        reason: str | None = None,
        accuracy: Mapping[str, Mapping[str, float] | None] | None = None,
        results: Results | None = None,
    ) -> Document:
        return {
            "experiment": self.experiment.name,
            "title": self.experiment.title,
            "candidate_library": adapter.library,
            "reference_library": self.experiment.reference,
            "status": status,
            "cause": None if cause is None else dict(cause),
            "reason": reason,
            "alignment": self._alignment(adapter, accuracy),
            "metrics": {
                metric.name: {"title": metric.title, "unit": metric.unit}
                for metric in self.experiment.metrics
            },
            "inputs": {
                "count": len(self.case_set.cases),
                "n": self.case_set.n,
                "seed": self.case_set.seed,
                "dataset_fingerprint": self.case_set.dataset_fingerprint,
            },
            "accuracy": accuracy,
            "not_available": {} if results is None else results.not_available,
            "performance": None if results is None else _performance(results),
            "run_metadata": self._run_metadata(results),
        }

    def _alignment(
        self, adapter: Adapter, accuracy: Mapping[str, Mapping[str, float] | None] | None
    ) -> dict[str, Any]:
        alignment = self.experiment.alignment
        return {
            "quantity": alignment.quantity,
            "model": alignment.model,
            "units": dict(alignment.units),
            "time_scales": dict(alignment.time_scales),
            "models": {"reference": self.reference_model, "candidate": adapter.model},
            "parity": adapter.parity,
            "expected_agreement": [
                {**expectation.to_json(), "met": _is_met(expectation.to_json(), accuracy)}
                for expectation in adapter.expected
            ],
            "notes": list(alignment.notes),
        }

    def _run_metadata(self, results: Results | None) -> dict[str, Any]:
        document = {} if results is None else results.document
        return {
            "run": os.environ.get("HOLDFAST_RUN"),
            "library_version": _version(document),
            "reference_version": _version(self.reference.document),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "compared_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "adapter": _adapter_metadata(document.get("run_metadata")),
        }


def _version(document: Mapping[str, Any]) -> str | None:
    version = document.get("version")
    return None if version is None else " ".join(str(version).split())[:_MAX_VERSION]


def _adapter_metadata(said: Any) -> dict[str, Any]:
    """Return what is known of the circumstances; a foreign program may have said anything."""
    known = ("warm_up_rounds", "timed_alone", "load_average_1_min")
    told = said if isinstance(said, Mapping) else {}
    return {
        name: value
        for name in known
        if isinstance(value := told.get(name), int | float) or value is None
    }


def _is_met(
    expectation: Mapping[str, Any], accuracy: Mapping[str, Mapping[str, float] | None] | None
) -> bool | None:
    figures = None if accuracy is None else accuracy.get(expectation["metric"])
    return None if figures is None else figures["p50"] <= expectation["p50_at_most"]


def _performance(results: Results) -> dict[str, Any] | None:
    """Return the speed that the adapter measured; ``None`` where it measured none."""
    said = results.document.get("performance")
    rounds = said.get("per_op_ns") if isinstance(said, Mapping) else None
    if not isinstance(rounds, list) or not rounds:
        return None
    figures = Results({"results": {"per_op_ns": rounds}}, len(rounds)).numbers("per_op_ns")
    if figures is None or min(figures) < 0:
        raise ResultsError('"per_op_ns" is negative')
    return {
        "per_op_ns_median": quantile(sorted(figures), 0.5),
        "per_op_ns_cv_pct": variation_pct(figures),
        "rounds": len(figures),
    }
