"""The checks in the order in which a person reads them, each isolated from the others."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from flows.diagnosis.finding import Finding, problem

if TYPE_CHECKING:
    from flows.diagnosis.examination import Examination

Check = Callable[["Examination"], Iterable[Finding]]
"""Looks at one thing and yields what it found; what it raises becomes a finding too."""

CHECKS: Mapping[str, str] = MappingProxyType(
    {
        "Versions": "flows.diagnosis.versions:check_versions",
        "Places": "flows.diagnosis.places:check_places",
        "Limits": "flows.diagnosis.limits:check_limits",
        "Kernel": "flows.diagnosis.kernel:check_kernel",
        "Keeper": "flows.diagnosis.keeper:check_keeper",
        "Cgroups": "flows.diagnosis.cgroups:check_cgroups",
        "Sockets": "flows.diagnosis.sockets:check_sockets",
        "Runs": "flows.diagnosis.runs:check_runs",
        "Keepers": "flows.diagnosis.keepers:check_keepers",
        "Strays": "flows.diagnosis.strays:check_strays",
        "Locks": "flows.diagnosis.locks:check_locks",
        "Prefect": "flows.diagnosis.prefect_server:check_prefect",
        "Slurm": "flows.diagnosis.slurm:check_slurm",
    }
)
"""Each group of findings and its check, imported when its turn comes: a package that is broken
costs the checks that need it, not the doctor."""


def diagnose(
    examination: Examination, checks: Mapping[str, str] = CHECKS
) -> Iterator[tuple[str, Finding]]:
    """Yield each finding with its group, as soon as it is known; never raises."""
    for group, target in checks.items():
        try:
            for finding in _load(target)(examination):
                yield group, finding
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding itself
            yield group, _failed(group, error)


def _load(target: str) -> Check:
    module, _, name = target.partition(":")
    check: Check = getattr(importlib.import_module(module), name)
    return check


def _failed(group: str, error: Exception) -> Finding:
    if isinstance(error, ImportError):
        advice = "install what is missing: python -m pip install --upgrade holdfast"
    else:
        advice = "the other checks are not affected; this is a bug, please report it"
    return problem(group.lower(), f"cannot be checked: {type(error).__name__}: {error}", advice)
