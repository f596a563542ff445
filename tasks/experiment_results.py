"""What a library answered, read so strictly that nonsense cannot pass as a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 30
"""A larger file is no results file: it would fill the memory of the job that reads it."""

COMPLETED = "completed"
NOT_AVAILABLE = "not available"


class ResultsError(Exception):
    """A file of cases or results that cannot be used; the message says why."""


class Results:
    """The answers of one library: for each quantity one value for each case.

    The methods return ``None`` for a quantity that the library says it does not have, and raise
    ``ResultsError`` for one that is absent, has the wrong length, or holds what is no number.
    """

    def __init__(self, document: Mapping[str, Any], count: int) -> None:
        self.document = document
        self.count = count

    @property
    def is_available(self) -> bool:
        """Whether the library computes anything of this experiment."""
        return bool(self.document.get("status", COMPLETED) != NOT_AVAILABLE)

    @property
    def reason(self) -> str:
        """Why nothing is available, in the adapter's words."""
        return str(self.document.get("reason") or "the library has no such quantity")

    @property
    def not_available(self) -> dict[str, str]:
        """Why single quantities are not available, in the adapter's words."""
        said = self.document.get("not_available")
        if not isinstance(said, Mapping):
            return {}
        return {str(quantity): str(reason) for quantity, reason in said.items()}

    def values(self, quantity: str) -> Sequence[Any] | None:
        """Return one value of any kind for each case."""
        if not self.is_available or quantity in self.not_available:
            return None
        results = self.document.get("results")
        if not isinstance(results, Mapping) or quantity not in results:
            raise ResultsError(f'there is no "{quantity}" in its results')
        values = results[quantity]
        if not isinstance(values, list):
            raise ResultsError(f'"{quantity}" is no list')
        if len(values) != self.count:
            raise ResultsError(
                f'"{quantity}" has {len(values)} values for {self.count} cases; '
                "one for each case is needed"
            )
        return values

    def numbers(self, quantity: str) -> list[float] | None:
        """Return one finite number for each case."""
        values = self.values(quantity)
        if values is None:
            return None
        return [_number(value, quantity, case) for case, value in enumerate(values)]

    def vectors(self, quantity: str, size: int) -> list[tuple[float, ...]] | None:
        """Return ``size`` finite numbers for each case."""
        values = self.values(quantity)
        if values is None:
            return None
        return [_vector(value, size, quantity, case) for case, value in enumerate(values)]


def _number(value: object, quantity: str, case: int) -> float:
    # bool is an int to Python; to a person "true" is no angle.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ResultsError(f'"{quantity}" of case {case} is {_shown(value)}, which is no number')
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ResultsError(f'"{quantity}" of case {case} is not finite')
    return number


def _vector(value: object, size: int, quantity: str, case: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != size:
        raise ResultsError(
            f'"{quantity}" of case {case} is {_shown(value)}; {size} numbers are needed'
        )
    return tuple(_number(part, quantity, case) for part in value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; raises ``ResultsError`` for anything else.

    NaN and infinity are no JSON, though Python's reader would let them pass.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ResultsError(f'"{path.name}" has {size} bytes; at most {MAX_BYTES} are read')
        document = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise ResultsError(f'there is no "{path.name}"') from None
    except OSError as error:
        raise ResultsError(f'"{path.name}" cannot be read: {error.strerror}') from error
    except RecursionError:
        raise ResultsError(f'"{path.name}" is nested too deeply') from None
    except ValueError as error:
        raise ResultsError(f'"{path.name}" is no JSON document: {error}') from error
    if not isinstance(document, dict):
        raise ResultsError(f'"{path.name}" is no JSON object')
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")


def read_results(path: Path, count: int, dataset_fingerprint: str) -> Results:
    """Return what a library answered to ``count`` cases.

    Raises ``ResultsError`` where the file cannot be used, also where it names another set of
    cases than the one with this fingerprint.
    """
    document = read_document(path)
    named = document.get("dataset_fingerprint", dataset_fingerprint)
    if named != dataset_fingerprint:
        raise ResultsError(
            f'"{path.name}" answers other cases ({_shown(named)} instead of '
            f'"{dataset_fingerprint}")'
        )
    status = document.get("status", COMPLETED)
    if status not in (COMPLETED, NOT_AVAILABLE):
        raise ResultsError(
            f'"{path.name}" has the status {_shown(status)}; '
            f'"{COMPLETED}" and "{NOT_AVAILABLE}" are allowed'
        )
    return Results(document, count)
