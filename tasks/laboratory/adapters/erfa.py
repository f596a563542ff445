"""The reference: ERFA, the open implementation of the IAU's SOFA algorithms, by pyerfa."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import erfa

from tasks.experiment_adapter import Answers, run_adapter
from tasks.laboratory.adapters.columns import column, two_part


def frame_rotation_bpn(cases: Sequence[Any]) -> Callable[[], Answers]:
    """Rotate by the bias-precession-nutation matrix, IAU 2006/2000A."""
    tt1, tt2 = two_part(cases, "tt")
    directions = column(cases, "direction")

    def compute() -> Answers:
        return {"direction": erfa.rxp(erfa.pnm06a(tt1, tt2), directions)}

    return compute


def gmst_era(cases: Sequence[Any]) -> Callable[[], Answers]:
    """Mean sidereal time of IAU 2006 and Earth rotation angle of IAU 2000."""
    ut1, tt = two_part(cases, "ut1"), two_part(cases, "tt")

    def compute() -> Answers:
        return {"gmst": erfa.gmst06(*ut1, *tt), "era": erfa.era00(*ut1)}

    return compute


if __name__ == "__main__":
    experiments = {"frame_rotation_bpn": frame_rotation_bpn, "gmst_era": gmst_era}
    sys.exit(run_adapter("erfa", experiments, distribution="pyerfa"))
