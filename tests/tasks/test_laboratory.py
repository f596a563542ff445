"""The laboratory's experiments with the real libraries."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import erfa
import numpy as np
import pytest
from pymeeus.Angle import Angle
from pymeeus.Coordinates import precession_equatorial
from pymeeus.Epoch import JDE2000, Epoch
from support.experiments import run_jobs

from tasks.experiment import Experiment
from tasks.experiment_files import CaseSet
from tasks.experiment_graph import experiment_jobs
from tasks.experiment_results import Results, ResultsError
from tasks.experiment_suite import load_suite
from tasks.laboratory import EXPERIMENTS
from tasks.laboratory.angles import ARCSEC_PER_RAD, MAS_PER_RAD, angle_between, separation
from tasks.laboratory.frame_rotation_bpn import FrameRotationBpn
from tasks.laboratory.gmst_era import GmstEra
from tasks.laboratory.sampling import NAMED_DIRECTIONS, NAMED_EPOCHS, directions, epochs

LIBRARIES = ("erfa", "astropy", "skyfield", "pymeeus")
N = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    codes = run_jobs(experiment_jobs(load_suite(), n=N, seed=42, rounds=2, directory=directory))
    assert set(codes.values()) == {0}, codes
    return directory


def document(run: Path, experiment: str, library: str) -> dict[str, Any]:
    value = json.loads((run / "publication" / experiment / f"{library}.json").read_text())
    assert isinstance(value, dict)
    return value


def answers(run: Path, experiment: str, library: str, quantity: str) -> Any:
    path = run / "experiments" / experiment / f"{library}.results.json"
    return np.array(json.loads(path.read_text())["results"][quantity])


# -- the cases -----------------------------------------------------------------------------


def test_the_named_epochs_and_directions_are_among_a_thousand_cases() -> None:
    cases = FrameRotationBpn().cases(1000, 42)
    assert len(cases) == 1000
    assert [sum(case["tt"]) for case in cases[:10]] == list(NAMED_EPOCHS)
    assert {case["direction"] for case in cases[:10]} == set(NAMED_DIRECTIONS)


def test_the_other_epochs_lie_in_thirty_years_and_keep_their_fraction_apart() -> None:
    dates = epochs(1000, 42)[10:]
    days = [whole - 2451545.0 + fraction for whole, fraction in dates]
    assert 0 <= min(days) < 60 < 10900 < max(days) < 30 * 365.25
    assert all(whole == int(whole) and 0 <= fraction < 1 for whole, fraction in dates)
    assert abs(np.mean(days) / (15 * 365.25) - 1) < 0.06


def test_directions_are_unit_vectors_spread_over_the_whole_sphere() -> None:
    vectors = np.array(directions(4000, 42))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-15)
    assert np.all(np.abs(vectors.mean(axis=0)) < 0.05)
    # Uniform: each coordinate of a uniform point on the sphere has the variance 1/3.
    assert np.allclose(vectors.var(axis=0), 1 / 3, atol=0.02)


def test_the_seed_decides_the_cases_and_more_cases_extend_fewer() -> None:
    for experiment in (FrameRotationBpn(), GmstEra()):
        assert experiment.cases(50, 1) == experiment.cases(50, 1)
        assert experiment.cases(50, 1) != experiment.cases(50, 2)
        assert list(experiment.cases(50, 1))[:20] == experiment.cases(20, 1)
        assert len(experiment.cases(3, 1)) == 3


def test_the_published_cases_never_change() -> None:
    """Results of different years are compared: a change here needs another name."""
    assert {
        experiment.name: CaseSet.of(
            experiment.name, 1000, 42, 5, experiment().cases(1000, 42)
        ).dataset_fingerprint.removeprefix("sha256:")[:16]
        for experiment in EXPERIMENTS
    } == {"frame_rotation_bpn": "04e7aa1dca6ded74", "gmst_era": "d48626ea4fd88e81"}


def test_tt_is_ut1_and_the_agreed_difference() -> None:
    for case in GmstEra().cases(100, 42):
        (ut1, ut2), (tt1, tt2) = case["ut1"], case["tt"]
        assert tt1 == ut1
        assert abs((tt2 - ut2) * 86400.0 - 69.184) < 1e-10


# -- the metrics ---------------------------------------------------------------------------


def test_the_separation_keeps_tiny_angles_and_right_ones() -> None:
    for angle in (1e-300, 1e-18, 1e-9, 1e-3, math.pi / 2, math.pi - 1e-9, math.pi):
        turned = (math.cos(angle), math.sin(angle), 0.0)
        assert separation((1.0, 0.0, 0.0), turned) == pytest.approx(angle, rel=1e-7)
    assert separation((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)) == 0.0
    assert separation((1.0, 1.0, 0.0), (5.0, 5.0, 0.0)) == 0.0


def test_whole_turns_are_no_difference() -> None:
    assert angle_between(1e-9, math.tau - 1e-9) == pytest.approx(2e-9, rel=1e-6)
    assert angle_between(0.5, 0.5 + math.tau) < 1e-15
    assert angle_between(-3.0, 3.0) == pytest.approx(math.tau - 6.0)
    assert angle_between(0.0, math.pi) == math.pi


def test_a_known_turn_is_measured_in_milliarcseconds() -> None:
    turn = 25.0 / MAS_PER_RAD
    reference = Results({"results": {"direction": [[1, 0, 0]]}}, 1)
    turned = [[math.cos(turn), math.sin(turn), 0]]
    candidate = Results({"results": {"direction": turned}}, 1)
    (error,) = FrameRotationBpn().errors([None], reference, candidate)["angular_error_mas"] or ()
    assert error == pytest.approx(25.0, rel=1e-9)


def test_a_vector_of_no_length_is_no_full_agreement() -> None:
    nothing = Results({"results": {"direction": [[0, 0, 0]]}}, 1)
    with pytest.raises(ResultsError, match="length 0"):
        FrameRotationBpn().errors([None], nothing, nothing)


# -- the libraries -------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_reference_against_itself_is_exactly_0(run: Path, experiment: type[Experiment]) -> None:
    for figures in document(run, experiment.name, "erfa")["accuracy"].values():
        assert set(figures.values()) == {0.0}


def test_the_reference_is_erfas_own_matrix(run: Path) -> None:
    cases = FrameRotationBpn().cases(N, 42)
    matrices = erfa.pnm06a(*np.array([case["tt"] for case in cases]).T)
    expected = np.einsum("nij,nj->ni", matrices, [case["direction"] for case in cases])
    assert np.abs(answers(run, "frame_rotation_bpn", "erfa", "direction") - expected).max() < 1e-15


def test_astropy_is_a_rotation_alone_and_agrees_with_erfa(run: Path) -> None:
    figures = document(run, "frame_rotation_bpn", "astropy")["accuracy"]["angular_error_mas"]
    assert figures["p50"] < 0.001
    assert figures["max"] < 0.001


def test_skyfield_differs_by_microarcseconds(run: Path) -> None:
    figures = document(run, "frame_rotation_bpn", "skyfield")["accuracy"]["angular_error_mas"]
    assert 0.0005 < figures["p50"] < 0.02
    assert figures["max"] < 0.1


def test_pymeeus_differs_by_tens_of_milliarcseconds(run: Path) -> None:
    figures = document(run, "frame_rotation_bpn", "pymeeus")["accuracy"]["angular_error_mas"]
    assert 10 < figures["p50"] < 100
    assert figures["max"] < 400


def test_the_difference_of_pymeeus_is_that_of_the_iau_1976_and_1980_models(run: Path) -> None:
    cases = FrameRotationBpn().cases(N, 42)
    matrices = erfa.pnm80(*np.array([case["tt"] for case in cases]).T)
    old_model = np.einsum("nij,nj->ni", matrices, [case["direction"] for case in cases])
    theirs = answers(run, "frame_rotation_bpn", "pymeeus", "direction")
    errors = [MAS_PER_RAD * separation(a, b) for a, b in zip(old_model, theirs, strict=True)]
    # The 63 terms of the book instead of 106, and another polynomial for the obliquity.
    assert max(errors) < 8


def test_precession_equatorial_of_pymeeus_is_still_wrong_near_the_pole() -> None:
    """Why its adapter goes by the ecliptic; when this fails, its documentation must change."""
    epoch = Epoch(2451545.5)
    _, declination = precession_equatorial(JDE2000, epoch, Angle(10.0), Angle(89.0))
    assert abs(float(declination) - 89.0) > 80


def test_sidereal_times_agree_as_their_models_do(run: Path) -> None:
    p50 = {
        library: document(run, "gmst_era", library)["accuracy"]["gmst_error_arcsec"]["p50"]
        for library in LIBRARIES
    }
    assert p50["astropy"] < 1e-7
    assert p50["skyfield"] < 1e-7
    assert 0.005 < p50["pymeeus"] < 0.1


def test_even_on_a_leap_second_astropy_is_given_the_right_tt(run: Path) -> None:
    figures = document(run, "gmst_era", "astropy")["accuracy"]["gmst_error_arcsec"]
    # A second of TT too much would be 1.5e-6 arcsec.
    assert figures["max"] < 1e-7


def test_the_difference_of_pymeeus_is_that_of_the_iau_1982_model(run: Path) -> None:
    ut1 = np.array([case["ut1"] for case in GmstEra().cases(N, 42)]).T
    theirs = answers(run, "gmst_era", "pymeeus", "gmst")
    old_model = erfa.gmst82(*ut1)
    errors = [angle_between(a, b) * ARCSEC_PER_RAD for a, b in zip(old_model, theirs, strict=True)]
    assert max(errors) < 0.001


def test_rotation_angles_agree_to_rounding_where_there_are_any(run: Path) -> None:
    for library in ("astropy", "skyfield"):
        figures = document(run, "gmst_era", library)["accuracy"]["era_error_rad"]
        assert figures["max"] < 1e-12


def test_pymeeus_has_no_rotation_angle_and_that_is_no_failure(run: Path) -> None:
    found = document(run, "gmst_era", "pymeeus")
    assert found["status"] == "completed"
    assert found["accuracy"]["era_error_rad"] is None
    assert found["not_available"] == {"era": "PyMeeus has no Earth rotation angle"}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_each_document_says_what_was_compared_and_what_was_to_be_expected(
    run: Path, experiment: type[Experiment], library: str
) -> None:
    found = document(run, experiment.name, library)
    assert found["experiment"] == experiment.name
    assert found["candidate_library"] == library
    assert found["reference_library"] == "erfa"
    alignment = found["alignment"]
    assert alignment["units"]
    assert alignment["time_scales"]
    assert alignment["models"]["reference"]
    assert alignment["models"]["candidate"]
    assert alignment["parity"]
    for expectation in alignment["expected_agreement"]:
        assert expectation["met"] is True
        assert expectation["source"]
    assert found["inputs"]["count"] == N
    assert found["performance"]["rounds"] == 2
    assert found["performance"]["per_op_ns_median"] > 0
    assert found["run_metadata"]["library_version"]


_NO_NETWORK = """
import runpy, socket, sys

def refuse(*arguments, **options):
    open(sys.argv[-1] + ".network", "w").close()
    raise OSError("no network here")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_adapters_ask_nobody_on_the_network_and_find_no_cache(
    tmp_path: Path, library: str, experiment: type[Experiment]
) -> None:
    cases, results = tmp_path / "cases.json", tmp_path / "results.json"
    CaseSet.of(experiment.name, 12, 1, 0, experiment().cases(12, 1)).write(cases)
    module = experiment.adapter(library).command[-1]
    home = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _NO_NETWORK, module, str(cases), str(results)],
        env=home,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(results.read_text())["performance"] == {"per_op_ns": []}
    assert not Path(f"{results}.network").exists()


def test_the_guard_against_the_network_would_notice(tmp_path: Path) -> None:
    """The sabotage of the test above: a module that does ask."""
    (tmp_path / "asking.py").write_text("import socket\nsocket.getaddrinfo('localhost', 80)\n")
    done = subprocess.run(
        [sys.executable, "-c", _NO_NETWORK, "asking", str(tmp_path / "results.json")],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert (tmp_path / "results.json.network").exists()
