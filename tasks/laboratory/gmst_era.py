"""Greenwich mean sidereal time and Earth rotation angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.experiment import Alignment, Expectation, Experiment, Metric
from tasks.experiment_results import Results
from tasks.laboratory.angles import ARCSEC_PER_RAD, angle_between
from tasks.laboratory.programs import library_adapter
from tasks.laboratory.sampling import epochs

TT_MINUS_UT1_S = 69.184
_SECONDS_PER_DAY = 86400.0

_GMST = "gmst_error_arcsec"
_ERA = "era_error_rad"
_ROUNDING = 1e-6
"""In arcseconds: far above the rounding of doubles, far below every difference of models."""


class GmstEra(Experiment):
    """Where the Earth stands in its daily turn, in both ways of telling it."""

    name = "gmst_era"
    title = "Greenwich mean sidereal time and Earth rotation angle"
    reference = "erfa"
    metrics = (
        Metric(_GMST, "GMST error", "arcsec"),
        Metric(_ERA, "ERA error", "rad"),
    )
    alignment = Alignment(
        quantity=(
            "Greenwich mean sidereal time and Earth rotation angle for given UT1 and TT; the "
            "metrics are the absolute differences, whole turns left out."
        ),
        model="GMST of IAU 2006 (gmst06), Earth rotation angle of IAU 2000 (era00)",
        units={
            "gmst": "radians",
            "era": "radians",
            _GMST: "arcseconds of angle (15 in a second of time)",
            _ERA: "radians",
        },
        time_scales={
            "ut1": "Julian date in UT1, in two parts",
            "tt": f"Julian date in TT, in two parts; TT = UT1 + {TT_MINUS_UT1_S} s",
        },
        notes=(
            "TT - UT1 is a convention of this experiment, not the real one: no library looks it "
            "up.",
            "Epochs: ten named ones from 1900 to 2100, then uniform in J2000.0 + [0, 30 years].",
        ),
    )
    adapters = (
        library_adapter(
            "erfa",
            distribution="pyerfa",
            model="IAU 2006 GMST (gmst06), IAU 2000 Earth rotation angle (era00)",
            parity="the reference itself",
            expected=(
                Expectation(_GMST, 0.0, "The same figures on both sides."),
                Expectation(_ERA, 0.0, "The same figures on both sides."),
            ),
        ),
        library_adapter(
            "astropy",
            distribution="astropy",
            model=(
                'Time.sidereal_time("mean", "tio", model="IAU2006") and '
                'Time.earth_rotation_angle("tio")'
            ),
            parity="the same model by the same ERFA routines; TT by way of UTC and TAI",
            expected=(
                Expectation(
                    _GMST,
                    _ROUNDING,
                    "Time.sidereal_time is documented to return what ERFA's function gives for "
                    'the longitude "tio".',
                ),
                Expectation(
                    _ERA,
                    1e-12,
                    "Time.earth_rotation_angle is documented to return what era00 gives for the "
                    'longitude "tio".',
                ),
            ),
        ),
        library_adapter(
            "skyfield",
            distribution="skyfield",
            model=(
                "GMST by the equinox method of USNO Circular 179, 2.6.2, with the P03 precession: "
                "Time.gmst; Earth rotation angle of IAU 2000: earthlib.earth_rotation_angle"
            ),
            parity="the same expressions in an implementation of its own; TDB instead of TT",
            expected=(
                Expectation(
                    _GMST,
                    _ROUNDING,
                    "Capitaine, Wallace and Chapront 2003 (A&A 412, 567), eq. 42: the polynomial "
                    "of IAU 2006.",
                ),
                Expectation(_ERA, 1e-12, "IAU resolution B1.8 of 2000 defines the angle."),
            ),
        ),
        library_adapter(
            "pymeeus",
            distribution="PyMeeus",
            model=(
                "GMST of IAU 1982 in UT (Meeus, Astronomical Algorithms, chapter 12): "
                "Epoch.mean_sidereal_time; the epoch is one double: steps of 0.6 mas of rotation"
            ),
            parity="an older model: IAU 1982 instead of IAU 2006; no Earth rotation angle",
            expected=(
                Expectation(
                    _GMST,
                    0.1,
                    "The precession of 1976 in the GMST of 1982 is about 0.3 arcsec a century too "
                    "fast (IERS Conventions 2010, chapter 5): up to 0.1 arcsec in 30 years.",
                ),
            ),
        ),
    )

    def cases(self, n: int, seed: int) -> Sequence[Any]:
        """Return epochs in UT1 and in TT, each as a two-part Julian date."""
        offset = TT_MINUS_UT1_S / _SECONDS_PER_DAY
        return [
            {"ut1": (whole, fraction), "tt": (whole, fraction + offset)}
            for whole, fraction in epochs(n, seed)
        ]

    def errors(
        self,
        cases: Sequence[Any],
        reference: Results,
        candidate: Results,
    ) -> Mapping[str, Sequence[float] | None]:
        """Return the differences of GMST in arcseconds and of the rotation angle in radians."""
        return {
            _GMST: _differences(reference, candidate, "gmst", ARCSEC_PER_RAD),
            _ERA: _differences(reference, candidate, "era", 1.0),
        }


def _differences(
    reference: Results, candidate: Results, quantity: str, unit_per_rad: float
) -> list[float] | None:
    ours, theirs = reference.numbers(quantity), candidate.numbers(quantity)
    if ours is None or theirs is None:
        return None
    return [unit_per_rad * angle_between(a, b) for a, b in zip(ours, theirs, strict=True)]
