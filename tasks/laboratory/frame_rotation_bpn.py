"""ICRS directions to the true equator and equinox of date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.experiment import Alignment, Expectation, Experiment, Metric
from tasks.experiment_results import Results, ResultsError
from tasks.laboratory.angles import MAS_PER_RAD, separation
from tasks.laboratory.programs import library_adapter
from tasks.laboratory.sampling import directions, epochs

_ERROR = "angular_error_mas"


class FrameRotationBpn(Experiment):
    """Bias, precession and nutation as one rotation, and nothing else."""

    name = "frame_rotation_bpn"
    title = "Rotation by bias, precession and nutation"
    reference = "erfa"
    metrics = (Metric(_ERROR, "angular error", "mas"),)
    alignment = Alignment(
        quantity=(
            "Directions in the ICRS are rotated to the true equator and equinox of date by frame "
            "bias, precession and nutation; the metric is the angle between the results."
        ),
        model="IAU 2006 precession and IAU 2000A nutation with the IAU 2006 adjustments (pnm06a)",
        units={"direction": "unit vector", _ERROR: "milliarcseconds"},
        time_scales={
            "tt": "Julian date in TT, in two parts; TDB is taken as TT where a model asks for TDB"
        },
        notes=(
            "A rotation alone: no aberration, light deflection, parallax or proper motion.",
            "Epochs: ten named ones from 1900 to 2100, then uniform in J2000.0 + [0, 30 years]; "
            "directions: both poles, +X, +Y and two diagonals at the named epochs, then uniform.",
        ),
    )
    adapters = (
        library_adapter(
            "erfa",
            distribution="pyerfa",
            model="IAU 2006/2000A: matrix by pnm06a, applied by rxp",
            parity="the reference itself",
            expected=(Expectation(_ERROR, 0.0, "The same figures on both sides."),),
        ),
        library_adapter(
            "astropy",
            distribution="astropy",
            model=(
                "IAU 2006/2000A: GCRS to TETE at the same epoch, seen from the geocentre, where "
                "only the rotation is left"
            ),
            parity="the same model by the same ERFA routines, so that 0 is to be expected",
            expected=(
                Expectation(
                    _ERROR,
                    0.001,
                    "astropy's transform from GCRS to TETE takes its matrix from ERFA's pnm06a "
                    "(its source says so); what is left is rounding.",
                ),
            ),
        ),
        library_adapter(
            "skyfield",
            distribution="skyfield",
            model="IAU 2006 precession, IAU 2000A nutation, frame bias of IERS 2003: Time.M",
            parity=(
                "the same theories without the IAU 2006 adjustments of the nutation, and the "
                "frame bias as a matrix of its own"
            ),
            expected=(
                Expectation(
                    _ERROR,
                    0.02,
                    "The adjustments scale the nutation by 0.5 millionths and by 2.8 millionths "
                    "a century (Wallace and Capitaine 2006, A&A 459, 981, eq. 5): some "
                    "microarcseconds of its 17 arcseconds, 50 in the year 1900.",
                ),
            ),
        ),
        library_adapter(
            "pymeeus",
            distribution="PyMeeus",
            model=(
                "Meeus, Astronomical Algorithms, chapters 21 and 22: IAU 1976 precession, the 63 "
                "largest terms of the IAU 1980 nutation, ecliptic of date; no frame bias"
            ),
            parity=(
                "an older model: IAU 1976/1980 instead of IAU 2006/2000A.  Precession goes by "
                "precession_ecliptical, since precession_equatorial of PyMeeus 0.5.12 returns "
                "wrong declinations north of +85 degrees"
            ),
            expected=(
                Expectation(
                    _ERROR,
                    100.0,
                    "Frame bias 23 mas; the precession of 1976 is 300 mas a century too fast "
                    "(IERS Conventions 2010, chapter 5): tens of mas within 30 years of J2000.0.",
                ),
            ),
        ),
    )

    def cases(self, n: int, seed: int) -> Sequence[Any]:
        """Return epochs (two-part JD, TT) with directions (unit vectors in the ICRS)."""
        return [
            {"tt": date, "direction": direction}
            for date, direction in zip(epochs(n, seed), directions(n, seed), strict=True)
        ]

    def errors(
        self,
        cases: Sequence[Any],
        reference: Results,
        candidate: Results,
    ) -> Mapping[str, Sequence[float] | None]:
        """Return the angles between the two directions of date in milliarcseconds."""
        ours, theirs = reference.vectors("direction", 3), candidate.vectors("direction", 3)
        if ours is None or theirs is None:
            return {_ERROR: None}
        return {
            _ERROR: [
                MAS_PER_RAD * separation(_direction(a), _direction(b))
                for a, b in zip(ours, theirs, strict=True)
            ]
        }


def _direction(vector: tuple[float, ...]) -> tuple[float, ...]:
    # A vector of length 0 lies at an angle of 0 to every other: full agreement out of nothing.
    if not any(vector):
        raise ResultsError('"direction" has a vector of length 0')
    return vector
