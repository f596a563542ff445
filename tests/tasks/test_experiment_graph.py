from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.experiments import write_suite

from tasks.errors import InputError
from tasks.experiment_graph import experiment_jobs
from tasks.experiment_suite import load_suite
from tasks.graph import check_graph


def test_each_experiment_is_generate_then_a_job_for_each_library_then_compare() -> None:
    jobs = {job.id: job for job in experiment_jobs(load_suite(), directory=Path("/run"))}
    libraries = ("erfa", "astropy", "skyfield", "pymeeus")
    for name in ("frame_rotation_bpn", "gmst_era"):
        assert jobs[f"{name}.generate"].needs == ()
        for library in libraries:
            assert jobs[f"{name}.{library}"].needs == (f"{name}.generate",)
        assert jobs[f"{name}.compare"].needs == tuple(f"{name}.{each}" for each in libraries)
    assert len(jobs) == 12
    check_graph(list(jobs.values()))


def test_compare_runs_if_at_least_one_library_has_results() -> None:
    jobs = experiment_jobs(load_suite(), directory=Path("/run"))
    assert {job.needs_policy for job in jobs if job.id.endswith(".compare")} == {"any"}


def test_the_jobs_of_an_experiment_are_one_group_and_hung_ones_end() -> None:
    for job in experiment_jobs(load_suite(), directory=Path("/run")):
        assert job.group == job.id.split(".")[0]
        assert job.timeout_s is not None


def test_a_job_is_the_same_in_every_run_but_for_the_directory_it_runs_in() -> None:
    one, two = (
        [{**job.to_json(), "cwd": None} for job in experiment_jobs(load_suite(), directory=path)]
        for path in (Path("/runs/1"), Path("/runs/2"))
    )
    assert one == two
    assert "/runs/1" not in str(one)


def test_n_seed_and_rounds_are_in_the_command_of_generate_alone() -> None:
    jobs = experiment_jobs(load_suite(), n=7, seed=8, rounds=9, directory=Path("/run"))
    (generate,) = (job for job in jobs if job.id == "gmst_era.generate")
    assert generate.command[-6:] == ("--n", "7", "--seed", "8", "--rounds", "9")


def test_a_new_version_of_a_library_is_another_job(tmp_path: Path) -> None:
    jobs = {job.id: job for job in experiment_jobs(load_suite(), directory=tmp_path)}
    assert jobs["gmst_era.erfa"].env["EXPERIMENT_LIBRARY"].startswith("pyerfa 2.")


def test_the_files_that_decide_what_a_job_does_are_its_inputs_whatever_their_names(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "[odd]*"
    folder.mkdir()
    suite = load_suite(write_suite(folder, {}))
    for job in experiment_jobs(suite, directory=tmp_path):
        (pattern,) = job.inputs
        assert list(Path("/").glob(pattern.removeprefix("/"))) == [folder / "suite.py"]
    for job in experiment_jobs(load_suite(), directory=tmp_path):
        assert all(os.path.isfile(path) for path in job.inputs)


def test_adapters_take_the_timing_resource_so_that_none_is_timed_beside_another() -> None:
    jobs = experiment_jobs(load_suite(), directory=Path("/run"), timing_resource="timing")
    for job in jobs:
        is_adapter = job.id.split(".")[1] not in ("generate", "compare")
        assert job.resources == ({"timing": 1} if is_adapter else {})
        assert job.env.get("EXPERIMENT_TIMING") == ("alone" if is_adapter else None)


def test_numbers_that_make_no_sense_are_all_refused_at_once() -> None:
    with pytest.raises(InputError) as error:
        experiment_jobs(load_suite(), n=0, rounds=-1, directory=Path("/run"))
    assert error.value.problems == (
        'n is "0"; at least 1 case is needed',
        'rounds is "-1"; it must not be negative',
    )


def test_jobs_do_not_import_what_lies_in_the_run_directory() -> None:
    for job in experiment_jobs(load_suite(), directory=Path("/run")):
        assert job.command[:4] == (sys.executable, "-P", "-m", "tasks.experiment_job")
