"""The frame of an adapter in Python: reads cases, computes, takes the time, writes results.

An adapter is any program that is called as ``… CASES RESULTS``.  It reads the JSON file of cases
(``cases`` is a list) and writes a JSON object with

- ``results``: for each quantity a list with one value for each case;
- ``not_available`` (optional): for each quantity that the library does not have, the reason; or
  ``"status": "not available"`` and ``reason`` where it has none of them;
- ``performance`` (optional): ``per_op_ns``, a list with the nanoseconds for one case in each
  round of repetition after the warm-up;
- ``version``, ``dataset_fingerprint``, ``run_metadata`` (optional).

``run_adapter`` does all that for a program in Python.  Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tasks.atomic_file import write_atomically
from tasks.experiment_files import CaseSet
from tasks.experiment_results import COMPLETED, NOT_AVAILABLE

WARM_UP_ROUNDS = 1
"""Caches fill and lazy imports happen in these; their time is not counted."""


class NotAvailable(str):
    """Stands for the values of a quantity that the library does not have: the reason."""

    __slots__ = ()


Answers = Mapping[str, Any]
"""For each quantity: a list or array with one value for each case, or ``NotAvailable``."""

Prepare = Callable[[Sequence[Any]], Callable[[], Answers] | NotAvailable]
"""Turns cases into what the library takes, untimed; what it returns computes, timed."""


def run_adapter(
    library: str,
    experiments: Mapping[str, Prepare],
    *,
    distribution: str | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Answer the cases of a file with one of ``experiments``; returns the exit code.

    ``arguments`` (``sys.argv``) end in the paths of cases and results; the cases name their
    experiment.  ``distribution`` is the package whose version the results state.  What the
    library raises ends the program: the job fails with the traceback in its log.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) < 2:
        sys.stderr.write("usage: … CASES RESULTS\n")
        return 2
    case_set = CaseSet.read(Path(arguments[-2]))
    document: dict[str, Any] = {
        "experiment": case_set.experiment,
        "library": library,
        "version": _version(distribution),
        "dataset_fingerprint": case_set.dataset_fingerprint,
    }
    prepare = experiments.get(case_set.experiment)
    compute = (
        NotAvailable(f'{library} has nothing for "{case_set.experiment}"')
        if prepare is None
        else prepare(case_set.cases)
    )
    if isinstance(compute, NotAvailable):
        document |= {"status": NOT_AVAILABLE, "reason": str(compute)}
    else:
        document |= _computed(compute, case_set)
    write_atomically(Path(arguments[-1]), json.dumps(document, allow_nan=False))
    return 0


def _computed(compute: Callable[[], Answers], case_set: CaseSet) -> dict[str, Any]:
    load_before = _load_average()
    for _ in range(WARM_UP_ROUNDS):
        answers = compute()
    per_op_ns = [_timed(compute) / len(case_set.cases) for _ in range(case_set.rounds)]
    missing = {name: str(why) for name, why in answers.items() if isinstance(why, NotAvailable)}
    return {
        "status": COMPLETED,
        "not_available": missing,
        "results": {
            name: _plain(values) for name, values in answers.items() if name not in missing
        },
        "performance": {"per_op_ns": per_op_ns},
        "run_metadata": {
            "warm_up_rounds": WARM_UP_ROUNDS,
            "timed_alone": os.environ.get("EXPERIMENT_TIMING") == "alone",
            "load_average_1_min": load_before,
        },
    }


def _timed(compute: Callable[[], Answers]) -> int:
    start = time.perf_counter_ns()
    compute()
    return time.perf_counter_ns() - start


def _plain(values: Any) -> Any:
    """Return lists and numbers for what may be an array."""
    to_list = getattr(values, "tolist", None)
    return to_list() if to_list is not None else list(values)


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _version(distribution: str | None) -> str | None:
    if distribution is None:
        return None
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
