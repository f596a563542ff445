"""``doctor`` tries what the engine needs of the machine: limits, number, keeper, cgroups."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.examined import Examined, examined, is_alive

from backends.keeper_process import KeeperConnection
from backends.run_cgroup import HIDE_VARIABLE
from flows.diagnosis import keeper_probe
from flows.diagnosis.cgroup_paths import cgroup2_mounts
from flows.diagnosis.cgroups import check_cgroups
from flows.diagnosis.finding import Finding, Level
from flows.diagnosis.keeper import check_keeper, judge_keeper
from flows.diagnosis.keeper_probe import KeeperProbe, probe_keeper
from flows.diagnosis.kernel import check_kernel
from flows.diagnosis.limits import Room, check_limits, open_files, processes

__all__ = ["examined"]

LINUX = sys.platform.startswith("linux")
linux_only = pytest.mark.skipif(not LINUX, reason="Linux has these")


def under_limits(place: Examined, statement: str, check: str) -> list[str]:
    """Run a check in a process that has executed the statement; returns lines of findings."""
    module, _, name = check.partition(":")
    program = (
        f"import resource; {statement}\n"
        "from pathlib import Path\n"
        f"from {module} import {name} as check\n"
        "from flows.diagnosis.examination import Examination\n"
        "for found in check(Examination(Path('runs'), Path('runs'))):\n"
        "    print(found.level.value, found.subject, found.message, sep='|')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=place.place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# -- limits ----------------------------------------------------------------------------------


def test_the_limits_of_this_machine_are_told(examined: Examined) -> None:
    found = {finding.subject: finding for finding in check_limits(examined.examination())}
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        assert f"{soft:,}" in found["open files"].message
    if LINUX:
        assert "jobs at a time" in found["processes"].message


def test_few_open_files_are_a_problem(examined: Examined) -> None:
    statement = "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))"
    told = under_limits(examined, statement, "flows.diagnosis.limits:check_limits")
    assert told[0].startswith("problem|open files|50 for each process")


def test_open_files_are_judged_by_what_a_process_may_have_now() -> None:
    assert open_files(63, 4096).level is Level.PROBLEM
    assert open_files(255, 4096).level is Level.WARNING
    assert "ulimit -n 4096" in open_files(255, 4096).advice
    assert "ulimit -n 1000" in open_files(255, 1000).advice
    assert open_files(1024, 4096).level is Level.OK
    assert open_files(-1, -1).level is Level.OK


def test_processes_are_judged_by_the_limit_that_leaves_the_least() -> None:
    wide, narrow = Room("pid_max", 32_768, 400, "a"), Room("pids.max", 100, 97, "raise it")
    found = processes([wide, narrow], parallel=2)
    assert found.level is Level.PROBLEM
    assert found.advice == "raise it"
    assert "3 more" in found.message
    assert "pids.max" in found.message
    assert processes([wide], parallel=2).level is Level.OK
    assert processes([Room("pids.max", 100, 60, "a")], parallel=2).level is Level.WARNING


def test_a_limit_that_is_passed_already_leaves_nothing() -> None:
    assert Room("pids.max", 10, 12, "a").left == 0


# -- kernel ----------------------------------------------------------------------------------


@linux_only
def test_the_number_and_the_subreaper_work_here(examined: Examined) -> None:
    found = list(check_kernel(examined.examination()))
    assert [(each.subject, each.level) for each in found] == [
        ("number", Level.OK),
        ("subreaper", Level.OK),
    ]


@linux_only
def test_a_hard_limit_below_the_number_is_a_problem(examined: Examined) -> None:
    statement = "resource.setrlimit(resource.RLIMIT_RSS, (1 << 40, 1 << 40))"
    told = under_limits(examined, statement, "flows.diagnosis.kernel:check_kernel")
    assert told[0].startswith("problem|number|RLIMIT_RSS cannot carry it")
    assert told[1].startswith("ok|subreaper")


@linux_only
def test_inside_a_job_the_outer_run_s_number_is_told(examined: Examined) -> None:
    statement = (
        "from tasks.process_number import carried_number; "
        "limit = carried_number(0x80000000ab, 7), resource.getrlimit(resource.RLIMIT_RSS)[1]; "
        "resource.setrlimit(resource.RLIMIT_RSS, limit)"
    )
    told = under_limits(examined, statement, "flows.diagnosis.kernel:check_kernel")
    assert told[0] == "ok|number|this is job 7 of run 80000000ab, whose number everything keeps"


@linux_only
def test_the_trial_s_orphan_ends_with_it(examined: Examined) -> None:
    before = set(examined.processes())
    list(check_kernel(examined.examination()))
    assert set(examined.processes()) - before == set()


# -- the keeper ------------------------------------------------------------------------------


def test_a_keeper_comes_up_and_goes_away_and_leaves_nothing(examined: Examined) -> None:
    (found,) = check_keeper(examined.examination())
    assert found.level in (Level.OK, Level.WARNING)  # slow on a machine that is busy
    assert found.message.startswith("up in ")
    assert "gone" in found.message
    assert list((examined.place / "tmp").iterdir()) == []
    assert list((examined.place / "state").rglob("*.keeper")) == []


def test_a_keeper_that_does_not_come_up_is_a_problem_with_the_reason(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = examined.place / "python"
    broken.write_text("#!/bin/sh\necho no such module >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    (found,) = check_keeper(examined.examination())
    assert found.level is Level.PROBLEM
    assert "no such module" in found.message


def test_a_keeper_that_does_not_end_is_killed_and_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper_probe, "END_WITHIN_S", 0.05)
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sleep", "3600"])
    with theirs:
        assert keeper_probe.end_keeper(KeeperConnection(ours, process)) is None
    assert not is_alive(process.pid)
    assert judge_keeper(KeeperProbe(up_s=0.1, ended_s=None)).level is Level.PROBLEM


def test_a_slow_keeper_and_one_that_leaves_something_are_told() -> None:
    assert judge_keeper(KeeperProbe(up_s=3.0, ended_s=0.1)).level is Level.WARNING
    assert judge_keeper(KeeperProbe(0.1, 0.1, left=".keeper.json")).level is Level.WARNING
    assert judge_keeper(KeeperProbe(0.1, 0.1)).level is Level.OK


# -- cgroups ---------------------------------------------------------------------------------


def about_cgroup(place: Examined, probe: KeeperProbe) -> Finding | None:
    """Return what is said of a run's cgroup when its keeper showed this."""
    examination = place.examination()
    examination.__dict__["keeper"] = probe
    found = {finding.subject: finding for finding in check_cgroups(examination)}
    return found.get("run cgroup")


needs_cgroup2 = pytest.mark.skipif(not cgroup2_mounts(), reason="cgroup v2 is not mounted")


@needs_cgroup2
def test_the_cgroup_that_a_keeper_made_is_told_and_is_gone_afterwards(
    examined: Examined,
) -> None:
    probe = probe_keeper()
    found = about_cgroup(examined, probe)
    assert found is not None
    assert found.level is Level.OK
    if probe.cgroup is not None:
        assert str(Path(probe.cgroup).parent) in found.message
        assert not Path(probe.cgroup).exists()
    else:
        assert "none for runs" in found.message


@needs_cgroup2
def test_a_kernel_without_cgroup_kill_is_told(examined: Examined) -> None:
    found = about_cgroup(examined, KeeperProbe(0.1, 0.1, cgroup="/sys/fs/cgroup/holdfast-1"))
    assert found is not None
    assert found.level is Level.WARNING
    assert "cgroup.kill" in found.message


@needs_cgroup2
def test_cgroups_that_were_switched_off_are_told(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HIDE_VARIABLE, "1")
    found = about_cgroup(examined, KeeperProbe(0.1, 0.1))
    assert found is not None
    assert (found.level, found.advice) == (Level.WARNING, f"unset {HIDE_VARIABLE}")


@needs_cgroup2
def test_without_a_keeper_nothing_is_claimed_of_cgroups(examined: Examined) -> None:
    found = about_cgroup(examined, KeeperProbe(error="no"))
    assert found is not None
    assert "unknown" in found.message


def test_cgroup_v2_is_found_wherever_it_is_mounted(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )
    assert cgroup2_mounts(table) == [Path("/sys/fs/cgroup/unified")]
    assert cgroup2_mounts(tmp_path / "missing") == []
