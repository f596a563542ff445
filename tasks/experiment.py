"""What an experiment is: cases, programs that answer them, and how far answers lie apart.

A user writes one subclass of ``Experiment`` in one file; everything else (the graph of jobs, the
files, the figures, the publication) follows from it.  This file imports the standard library
alone, since every job of an experiment imports it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tasks.experiment_results import Results

NAME_PATTERN = r"[a-z][a-z0-9_]{0,63}"
"""Names of experiments and libraries: they become parts of job ids and file names."""

STEPS = ("generate", "compare")
"""The jobs of an experiment that are no library's; no library may have such a name."""

DEFAULT_N = 1000
DEFAULT_SEED = 42
DEFAULT_ROUNDS = 5
"""How often an adapter repeats its work to measure its speed."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One kind of difference, not negative, one figure for each case; 0 is full agreement."""

    name: str
    """How documents call it, with its unit: ``angular_error_mas``."""
    title: str
    """How tables call it: ``angular error``."""
    unit: str
    """How tables call its unit: ``mas``."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What agreement a candidate should reach: the median of a metric, and who says so."""

    metric: str
    p50_at_most: float
    source: str

    def to_json(self) -> dict[str, Any]:
        """Return the object that documents hold."""
        return {"metric": self.metric, "p50_at_most": self.p50_at_most, "source": self.source}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A program that answers the cases with one library.

    It is started as ``command CASES RESULTS``: it reads the file of cases and writes the file of
    results (both JSON, see ``tasks.experiment_adapter``, which does this for Python programs).
    """

    library: str
    command: tuple[str, ...]
    model: str = ""
    """What the library computes, as far as its own description tells."""
    parity: str = ""
    """How that model relates to the reference's."""
    expected: tuple[Expectation, ...] = ()
    distribution: str | None = None
    """The installed package whose version counts; a new version makes old results stale."""
    inputs: tuple[str, ...] = ()
    """Files whose change makes old results stale, such as the program itself."""
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the libraries agree to compute before their answers are compared."""

    quantity: str
    """What is computed, in a sentence."""
    model: str
    """The model that the reference follows."""
    units: Mapping[str, str] = field(default_factory=dict)
    time_scales: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Experiment(ABC):
    """One experiment; subclass it and give the attributes and two methods.

    The same ``n`` and ``seed`` give the same cases, on every machine and for ever: published
    results are compared across years.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    """The library that the others are held against; one of ``adapters``."""
    alignment: ClassVar[Alignment]
    metrics: ClassVar[tuple[Metric, ...]]
    adapters: ClassVar[tuple[Adapter, ...]]

    @abstractmethod
    def cases(self, n: int, seed: int) -> Sequence[Any]:
        """Return the cases, each a JSON value without NaN or infinity; at least one."""

    @abstractmethod
    def errors(
        self, cases: Sequence[Any], reference: Results, candidate: Results
    ) -> Mapping[str, Sequence[float] | None]:
        """Return, for each metric, the difference in each case; ``None`` where not available.

        It is also asked with a candidate on both sides, to find results that are unusable.
        Raises ``ResultsError`` (through the methods of ``Results``) for those.
        """

    @classmethod
    def adapter(cls, library: str) -> Adapter:
        """Return the adapter of a library; raises ``KeyError`` if there is none."""
        for adapter in cls.adapters:
            if adapter.library == library:
                return adapter
        raise KeyError(library)


def problems_of(experiment: type[Experiment]) -> list[str]:
    """Return everything that is wrong with a subclass, in words; nothing if it can run."""
    label = f'experiment class "{experiment.__name__}"'
    needed = ("name", "title", "reference", "alignment", "metrics", "adapters")
    missing = [attribute for attribute in needed if not hasattr(experiment, attribute)]
    if missing:
        return [f'{label} has no attribute "{attribute}"; give it one' for attribute in missing]
    found = []
    if not _is_name(experiment.name):
        found.append(
            f'{label}: name "{experiment.name}" is not allowed; '
            "use lower-case letters, digits and _, beginning with a letter"
        )
    if not experiment.metrics:
        found.append(f"{label} has no metrics; give it at least one Metric")
    found += [f"{label}: {problem}" for problem in _adapter_problems(experiment)]
    return found


def _adapter_problems(experiment: type[Experiment]) -> list[str]:
    libraries = [adapter.library for adapter in experiment.adapters]
    metrics = {metric.name for metric in experiment.metrics}
    found = []
    for library in dict.fromkeys(libraries):
        if not _is_name(library) or library in STEPS:
            found.append(
                f'library "{library}" is not allowed; use lower-case letters, digits and _, '
                f"beginning with a letter, and neither of {', '.join(STEPS)}"
            )
        if libraries.count(library) > 1:
            found.append(f'library "{library}" has more than one adapter; remove one')
    if experiment.reference not in libraries:
        found.append(
            f'the reference "{experiment.reference}" has no adapter; '
            f"there are {', '.join(libraries) or 'none'}"
        )
    for adapter in experiment.adapters:
        if not adapter.command:
            found.append(f'the adapter of "{adapter.library}" has an empty command')
        found += [
            f'the adapter of "{adapter.library}" expects something of "{expectation.metric}", '
            f"which is no metric; there are {', '.join(sorted(metrics))}"
            for expectation in adapter.expected
            if expectation.metric not in metrics
        ]
    return found


def _is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) is not None
