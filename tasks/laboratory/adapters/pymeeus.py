"""PyMeeus: the algorithms of Jean Meeus' book."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pymeeus.Angle import Angle
from pymeeus.Coordinates import (
    ecliptical2equatorial,
    equatorial2ecliptical,
    mean_obliquity,
    nutation_longitude,
    precession_ecliptical,
    true_obliquity,
)
from pymeeus.Epoch import JDE2000, Epoch

from tasks.experiment_adapter import Answers, NotAvailable, run_adapter

Vector = tuple[float, float, float]


def frame_rotation_bpn(cases: Sequence[Any]) -> Callable[[], Answers]:
    """Precess in the ecliptic, add the nutation in longitude, return to the true equator.

    Not by ``precession_equatorial``: north of +85 degrees that returns a wrong declination
    (PyMeeus 0.5.12 takes the cosine of the angle for the angle), while ecliptic coordinates
    cover the whole sphere.
    """
    inputs = [(sum(case["tt"]), tuple(case["direction"])) for case in cases]

    def compute() -> Answers:
        return {"direction": [_of_date(julian_date, vector) for julian_date, vector in inputs]}

    return compute


def _of_date(julian_date: float, vector: Vector) -> Vector:
    epoch = Epoch(julian_date)
    longitude, latitude = equatorial2ecliptical(*_angles(vector), mean_obliquity(JDE2000))
    longitude, latitude = precession_ecliptical(JDE2000, epoch, longitude, latitude)
    longitude += nutation_longitude(epoch)
    return _vector(*ecliptical2equatorial(longitude, latitude, true_obliquity(epoch)))


def _angles(vector: Vector) -> tuple[Any, Any]:
    x, y, z = vector
    right_ascension = Angle(math.atan2(y, x), radians=True)
    return right_ascension, Angle(math.atan2(z, math.hypot(x, y)), radians=True)


def _vector(right_ascension: Any, declination: Any) -> Vector:
    alpha, delta = right_ascension.rad(), declination.rad()
    return (
        math.cos(delta) * math.cos(alpha),
        math.cos(delta) * math.sin(alpha),
        math.sin(delta),
    )


def gmst_era(cases: Sequence[Any]) -> Callable[[], Answers]:
    """``Epoch.mean_sidereal_time`` of epochs in UT1."""
    julian_dates = [sum(case["ut1"]) for case in cases]

    def compute() -> Answers:
        days = [Epoch(julian_date).mean_sidereal_time() for julian_date in julian_dates]
        return {
            "gmst": [math.tau * day for day in days],
            "era": NotAvailable("PyMeeus has no Earth rotation angle"),
        }

    return compute


if __name__ == "__main__":
    experiments = {"frame_rotation_bpn": frame_rotation_bpn, "gmst_era": gmst_era}
    sys.exit(run_adapter("pymeeus", experiments, distribution="PyMeeus"))
