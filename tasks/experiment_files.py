"""Where the jobs of an experiment find each other's files, and the file of cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.atomic_file import write_atomically
from tasks.experiment_results import ResultsError, read_document

WORK_FOLDER = "experiments"
"""In the run directory: cases and raw results, a folder for each experiment."""

PUBLICATION_FOLDER = "publication"
"""In the run directory: complete documents, a folder for each experiment that has them."""


@dataclass(frozen=True, slots=True)
class ExperimentFiles:
    """The files of one experiment in one run; ``root`` is the run directory.

    A relative ``root`` gives the paths as job specifications hold them, so that the same job has
    the same specification in every run.
    """

    root: Path
    experiment: str

    @property
    def folder(self) -> Path:
        """Where the jobs of the experiment write."""
        return self.root / WORK_FOLDER / self.experiment

    @property
    def cases(self) -> Path:
        """The file that every adapter reads."""
        return self.folder / "cases.json"

    def results(self, library: str) -> Path:
        """The file that stands for a library's usable results."""
        return self.folder / f"{library}.results.json"

    def raw_results(self, library: str) -> Path:
        """The file that the adapter's program writes; it may be half or nonsense."""
        return self.folder / f"{library}.raw.json"

    def failure(self, library: str) -> Path:
        """The file that says why there are no usable results, where somebody could say it."""
        return self.folder / f"{library}.failure.json"

    @property
    def documents(self) -> Path:
        """The folder that is there when the experiment is complete."""
        return self.root / PUBLICATION_FOLDER / self.experiment


@dataclass(frozen=True, slots=True)
class CaseSet:
    """The cases of one experiment, as ``generate`` wrote them."""

    experiment: str
    n: int
    seed: int
    rounds: int
    """How often each adapter repeats its computation to measure its speed; 0: not at all."""
    cases: Sequence[Any]
    dataset_fingerprint: str

    @classmethod
    def of(cls, experiment: str, n: int, seed: int, rounds: int, cases: Sequence[Any]) -> CaseSet:
        """Return the cases with their fingerprint; raises ``ValueError`` for what is no JSON."""
        if not cases:
            raise ValueError(f'experiment "{experiment}" made no cases of n = {n}; make one')
        return cls(experiment, n, seed, rounds, cases, fingerprint(cases))

    def write(self, path: Path) -> None:
        """Replace the file by this, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "experiment": self.experiment,
            "n": self.n,
            "seed": self.seed,
            "rounds": self.rounds,
            "count": len(self.cases),
            "dataset_fingerprint": self.dataset_fingerprint,
            "cases": self.cases,
        }
        write_atomically(path, json.dumps(document, allow_nan=False))

    @classmethod
    def read(cls, path: Path) -> CaseSet:
        """Return what ``write`` wrote; raises ``ResultsError`` for anything else."""
        document = read_document(path)
        try:
            return cls(
                experiment=str(document["experiment"]),
                n=int(document["n"]),
                seed=int(document["seed"]),
                rounds=int(document["rounds"]),
                cases=list(document["cases"]),
                dataset_fingerprint=str(document["dataset_fingerprint"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ResultsError(f'"{path.name}" is no file of cases: {error!r}') from error


def fingerprint(cases: Sequence[Any]) -> str:
    """Return what two sets of cases have in common only if they are equal, bit by bit."""
    canonical = json.dumps(cases, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
