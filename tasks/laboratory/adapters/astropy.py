"""astropy, by its public interface: frames, representations, ``Time``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import erfa
from astropy.coordinates import GCRS, TETE, CartesianRepresentation
from astropy.time import Time
from astropy.utils import data, iers
from astropy.utils.exceptions import AstropyWarning

from tasks.experiment_adapter import Answers, run_adapter
from tasks.laboratory.adapters.columns import Floats, column, two_part

_SECONDS_PER_DAY = 86400.0


def stay_offline() -> None:
    """Let astropy use the tables that are installed with it, and ask nobody for newer ones."""
    iers.conf.auto_download = False
    data.conf.allow_internet = False
    # From 1900 to 2100 there are epochs beyond the tables of polar motion and leap seconds.  The
    # directions seen from the geocentre do not depend on them, and UT1 is given.
    warnings.filterwarnings("ignore", category=AstropyWarning, message="Tried to get polar motion")
    warnings.filterwarnings("ignore", category=erfa.ErfaWarning, message=".*dubious year")


def frame_rotation_bpn(cases: Sequence[Any]) -> Callable[[], Answers]:
    """Take directions from GCRS to TETE at the same epoch.

    The axes of GCRS are those of ICRS.  From ICRS itself, astropy would also apply light
    deflection and aberration; between GCRS and TETE with the same epoch and the geocentre as the
    place, the matrix of bias, precession and nutation is all there is.
    """
    tt1, tt2 = two_part(cases, "tt")
    directions = column(cases, "direction").T

    def compute() -> Answers:
        epoch = Time(tt1, tt2, format="jd", scale="tt")
        there = GCRS(CartesianRepresentation(directions), obstime=epoch)
        of_date = there.transform_to(TETE(obstime=epoch))
        return {"direction": of_date.cartesian.xyz.value.T}

    return compute


def gmst_era(cases: Sequence[Any]) -> Callable[[], Answers]:
    """Mean sidereal time and Earth rotation angle of a ``Time`` in UT1, at the TIO.

    Not at ``longitude=0``, where astropy adds the TIO locator.
    """
    (ut1, ut2), (tt1, tt2) = two_part(cases, "ut1"), two_part(cases, "tt")

    def compute() -> Answers:
        epoch = _time_in_ut1(ut1, ut2, tt1, tt2)
        gmst = epoch.sidereal_time("mean", "tio", model="IAU2006")
        era = epoch.earth_rotation_angle("tio")
        return {"gmst": gmst.to_value("rad"), "era": era.to_value("rad")}

    return compute


def _time_in_ut1(ut1: Floats, ut2: Floats, tt1: Floats, tt2: Floats) -> Any:
    """Return the epochs in UT1 so that their TT is the given one.

    astropy gets from UT1 to TT by way of UTC, so it is told UT1 - UTC, not looked up.  That
    difference follows from the leap seconds at the epoch; where the given TT falls on the very
    leap second the first guess is a second off, which a look at the TT that it gives puts right.
    """
    utc = Time(tt1, tt2, format="jd", scale="tt").utc
    ut1_minus_utc = ((ut1 - utc.jd1) + (ut2 - utc.jd2)) * _SECONDS_PER_DAY
    for _ in range(2):
        epoch = Time(ut1, ut2, format="jd", scale="ut1")
        epoch.delta_ut1_utc = ut1_minus_utc
        tt = epoch.tt
        ut1_minus_utc = ut1_minus_utc + ((tt.jd1 - tt1) + (tt.jd2 - tt2)) * _SECONDS_PER_DAY
    return epoch


if __name__ == "__main__":
    stay_offline()
    experiments = {"frame_rotation_bpn": frame_rotation_bpn, "gmst_era": gmst_era}
    sys.exit(run_adapter("astropy", experiments, distribution="astropy"))
