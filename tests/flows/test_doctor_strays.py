"""Strays of dead runs: found by their number, ended on request; nobody else's are touched.

Each test names the one-line sabotage in ``flows/diagnosis`` that turns it red.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from support.examined import Examined, a_dead_process, examined, is_alive, of_level
from support.local_run import LocalRun
from support.waiting import wait_for

from backends.process_tree import process_name
from flows.diagnosis.finding import Finding, Level
from flows.diagnosis.runs import check_runs
from flows.diagnosis.strays import check_strays
from flows.places import socket_path
from flows.run_directory import RunFile
from tasks.process_identity import ProcessIdentity
from tasks.process_number import carried_number
from tasks.run_context import new_run_number
from tasks.status import JobStatus, RunStatus

__all__ = ["examined"]

LINUX = sys.platform.startswith("linux")
pytestmark = pytest.mark.skipif(not LINUX, reason="only Linux processes carry a number")


def strays(place: Examined, *, fix: bool = False) -> list[Finding]:
    return list(check_strays(place.examination(fix=fix)))


def assert_untouched(place: Examined, pid: int) -> None:
    """Not even ``--fix`` ends the process or has anything to say about it."""
    assert [finding.level for finding in strays(place, fix=True)] == [Level.OK]
    assert is_alive(pid)


# -- strays ----------------------------------------------------------------------------------


def test_a_process_with_a_number_that_no_run_has_is_named_and_left_alive(
    examined: Examined,
) -> None:
    """Sabotage: ``if examination.fix and`` → ``if`` in ``strays._judge``."""
    number = new_run_number()
    pid = examined.carrier(number)
    (found,) = strays(examined)
    assert found.level is Level.PROBLEM
    assert found.subject == f"process {pid}"
    assert "`sleep 3600`" in found.message
    assert f"{number:x}" in found.message
    assert "doctor --fix" in found.advice
    assert is_alive(pid)


def test_fix_ends_a_process_with_a_number_that_no_run_has(examined: Examined) -> None:
    """Sabotage: leave ``_sweep`` out of ``strays._judge``."""
    pid = examined.carrier(new_run_number())
    (found,) = strays(examined, fix=True)
    assert (found.level, found.subject) == (Level.WARNING, f"process {pid}")
    assert found.message.endswith("ended")
    assert not is_alive(pid)


def test_fix_ends_a_stray_without_session_environment_descriptors_and_parent(
    examined: Examined,
) -> None:
    """Sabotage: look for carriers among this process's descendants only."""
    pid = examined.lone_carrier(new_run_number())
    assert [finding.subject for finding in strays(examined)] == [f"process {pid}"]
    strays(examined, fix=True)
    assert not is_alive(pid)


def test_a_stray_of_a_run_that_is_over_is_named_with_its_run_and_ended_by_fix(
    examined: Examined,
) -> None:
    """Sabotage: ``return True`` for a known run in ``KnownRuns.is_led``."""
    number = new_run_number()
    examined.run("long-over", number=number, status=RunStatus.COMPLETED)
    pid = examined.carrier(number)
    (found,) = strays(examined)
    assert "run long-over, which is over (completed)" in found.message
    assert is_alive(pid)
    strays(examined, fix=True)
    assert not is_alive(pid)


def test_a_stray_in_another_folder_is_told_with_the_run_that_its_environment_names(
    examined: Examined,
) -> None:
    """Sabotage: return nothing from ``known_runs._directory_in_environment``."""
    number = new_run_number()
    elsewhere = examined.place / "elsewhere"
    examined.run("far-away", folder=elsewhere, number=number, status=RunStatus.CANCELLED)
    job = str(elsewhere / "far-away" / "jobs" / "one")
    examined.carrier(number, environment={"HOLDFAST_JOB_DIR": job})
    (found,) = strays(examined)
    assert "run far-away, which is over (cancelled)" in found.message


def test_of_many_strays_of_one_run_a_screenful_is_named_and_all_are_ended(
    examined: Examined,
) -> None:
    """Sabotage: end the named ones only."""
    number = new_run_number()
    pids = [examined.carrier(number) for _ in range(22)]
    found = strays(examined)
    assert len(found) == 21
    assert found[-1].message.startswith("2 more of run number")
    told = strays(examined, fix=True)
    assert told[-1].message.startswith("2 more of run number")
    assert told[-1].message.endswith("ended")
    assert [pid for pid in pids if is_alive(pid)] == []


def test_a_process_that_slurm_started_is_told_but_not_ended(examined: Examined) -> None:
    """Sabotage: ``return False`` in ``strays._is_slurm``."""
    step = examined.place / "slurmstepd"
    step.symlink_to("/bin/sh")
    pid = examined.carrier(new_run_number(), str(step), "-c", "sleep 3600 & wait")
    for fix in (False, True):
        found = of_level(Level.WARNING, strays(examined, fix=fix))
        assert f"process {pid}" in [finding.subject for finding in found]
        assert all("scancel" in finding.advice for finding in found)
    assert is_alive(pid)


# -- dead runs -------------------------------------------------------------------------------


def test_a_dead_run_is_settled_and_its_strays_are_ended_without_fix(examined: Examined) -> None:
    """Sabotage: leave ``_going_on`` out of ``runs.check_runs``."""
    number, driver = new_run_number(), a_dead_process()
    examined.run("dead", number=number, driver=driver.to_json())
    pid = examined.lone_carrier(number)
    found = list(check_runs(examined.examination()))
    (told,) = of_level(Level.WARNING, found)
    assert told.subject == "dead"
    assert f"process {driver.pid}" in told.message
    assert told.message.endswith("settled: crashed")
    file = RunFile.read(examined.runs / "dead")
    assert file is not None
    assert file.status is RunStatus.CRASHED
    assert not is_alive(pid)
    assert of_level(Level.PROBLEM, list(check_runs(examined.examination()))) == []


def test_fix_settles_a_dead_run_of_another_folder_and_ends_its_strays(examined: Examined) -> None:
    """Sabotage: leave ``_settled`` out of ``strays._judge``."""
    number, elsewhere = new_run_number(), examined.place / "elsewhere"
    driver = a_dead_process().to_json()
    examined.run("dead", folder=elsewhere, number=number, driver=driver)
    job = str(elsewhere / "dead" / "jobs" / "one")
    pid = examined.carrier(number, environment={"HOLDFAST_JOB_DIR": job})
    (found,) = strays(examined)
    assert "run dead, whose driver and keeper are dead" in found.message
    strays(examined, fix=True)
    assert not is_alive(pid)
    file = RunFile.read(elsewhere / "dead")
    assert file is not None
    assert file.status is RunStatus.CRASHED


# -- neighbours ------------------------------------------------------------------------------


def test_the_jobs_of_a_living_run_of_an_unknown_folder_are_left_alone(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: ``return False`` in ``KnownRuns._has_keeper``.

    Nothing but its keeper tells that this run lives: its folder and its sockets are elsewhere,
    and what its job has left running has no environment.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(examined.place / "other-state"))
    with LocalRun(examined.place / "elsewhere", cwd=examined.place) as neighbour:
        bare = "env -i setsid sleep 3600 & echo $! > pid"
        assert neighbour.run(bare, leftovers="allow").status is JobStatus.PASSED
        monkeypatch.setenv("XDG_STATE_HOME", str(examined.place / "state"))
        pid = int((examined.place / "pid").read_text())
        wait_for(lambda: process_name(pid) == "sleep", "the leftover to shed its environment")
        assert_untouched(examined, pid)


def test_the_processes_of_a_run_that_lost_its_keeper_are_left_to_its_living_driver(
    examined: Examined,
) -> None:
    """Sabotage: leave the driver out of ``KnownRun.is_led``."""
    number = new_run_number()
    driver = ProcessIdentity.of_this_process().to_json()
    examined.run("led", number=number, driver=driver)
    assert_untouched(examined, examined.carrier(number))


def test_the_processes_of_a_run_whose_driver_listens_are_left_alone_in_whatever_folder(
    examined: Examined,
) -> None:
    """Sabotage: ``return False`` in ``known_runs._answers``."""
    number = new_run_number()
    pid = examined.carrier(number)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(number, "driver")))
        listener.listen()
        assert_untouched(examined, pid)


def test_a_doctor_inside_a_job_leaves_the_run_alone_that_it_belongs_to(
    examined: Examined,
) -> None:
    """Sabotage: leave ``self._own`` out of ``KnownRuns.is_led``."""
    number = new_run_number()
    pid = examined.carrier(number)
    program = (
        "import resource; from pathlib import Path\n"
        "from flows.diagnosis.examination import Examination\n"
        "from flows.diagnosis.strays import check_strays\n"
        f"limit = {carried_number(number, 2)}, resource.getrlimit(resource.RLIMIT_RSS)[1]\n"
        "resource.setrlimit(resource.RLIMIT_RSS, limit)\n"
        "found = check_strays(Examination(Path('runs'), Path('runs')))\n"
        "print([each.subject for each in found])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=examined.place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert f"process {pid}" not in done.stdout
    assert f"process {pid}" in [finding.subject for finding in strays(examined)]
