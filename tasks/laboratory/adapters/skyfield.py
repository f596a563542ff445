"""Skyfield, with the time scale that is built into it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from skyfield.api import load
from skyfield.earthlib import earth_rotation_angle

from tasks.experiment_adapter import Answers, run_adapter
from tasks.laboratory.adapters.columns import column, two_part
from tasks.laboratory.gmst_era import TT_MINUS_UT1_S


def frame_rotation_bpn(cases: Sequence[Any]) -> Callable[[], Answers]:
    """Rotate by ``Time.M``: frame bias, precession, nutation."""
    timescale = load.timescale(builtin=True)
    tt1, tt2 = two_part(cases, "tt")
    directions = column(cases, "direction")

    def compute() -> Answers:
        # A new Time for each round: it keeps the matrix that it has computed.
        matrices = timescale.tt_jd(tt1, tt2).M
        return {"direction": np.einsum("ijn,nj->ni", matrices, directions)}

    return compute


def gmst_era(cases: Sequence[Any]) -> Callable[[], Answers]:
    """``Time.gmst`` with a constant TT - UT1, and the angle of the Earth's rotation."""
    timescale = load.timescale(delta_t=TT_MINUS_UT1_S, builtin=True)
    (ut1, ut2), (tt1, tt2) = two_part(cases, "ut1"), two_part(cases, "tt")

    def compute() -> Answers:
        gmst_hours = timescale.tt_jd(tt1, tt2).gmst
        turns = earth_rotation_angle(ut1, ut2)
        return {"gmst": gmst_hours * (math.pi / 12.0), "era": turns * math.tau}

    return compute


if __name__ == "__main__":
    experiments = {"frame_rotation_bpn": frame_rotation_bpn, "gmst_era": gmst_era}
    sys.exit(run_adapter("skyfield", experiments, distribution="skyfield"))
