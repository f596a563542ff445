"""Processes are told apart exactly, and nobody else's is ever signalled."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.hard_programs import Marked, marked_program
from support.waiting import wait_for

from backends.members import RUN, Members
from backends.process_tree import (
    Process,
    ancestors,
    environment_value,
    process_name,
    read_process,
    read_processes,
    rss_limit,
    send_signal,
    whole_groups,
)
from backends.tree_killer import clock_ticks
from tasks.process_identity import start_time
from tasks.process_number import JOB_BITS, carried_number, job_number_of, run_number_of
from tasks.run_context import new_run_number


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Marked]:
    with marked_program(tmp_path) as marked:
        yield marked


# -- what the kernel tells -------------------------------------------------------------------


def test_a_process_reads_as_psutil_reads_it(sleeper: subprocess.Popen[bytes]) -> None:
    process = read_process(sleeper.pid)
    assert process is not None
    assert process.ppid == os.getpid() == psutil.Process(sleeper.pid).ppid()
    assert (process.pgrp, process.session) == (sleeper.pid, sleeper.pid)
    assert process.start_time == start_time(sleeper.pid)
    assert process.is_alive


def test_a_name_of_parentheses_and_spaces_confuses_nobody(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 1 (x"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "3600"]) as process:
        wait_for(lambda: "R 1" in process_name(process.pid), "the name shows")
        found = read_process(process.pid)
        process.kill()
    assert found is not None
    assert found.ppid == os.getpid()


def test_a_zombie_is_dead_and_a_vanished_process_is_none() -> None:
    process = subprocess.Popen(["/bin/true"])
    found = wait_for(
        lambda: one if (one := read_process(process.pid)) and one.state == "Z" else None,
        "the process is a zombie",
    )
    assert not found.is_alive
    process.wait()
    assert read_process(process.pid) is None


def test_a_process_whose_first_thread_ended_is_alive(hard: Marked) -> None:
    """Sabotage: backends/process_tree.py: or self.threads > 1 -> or False"""
    with subprocess.Popen(
        [hard.path, "headless"], start_new_session=True, stdout=subprocess.DEVNULL
    ) as process:
        try:
            found = wait_for(
                lambda: one if (one := read_process(process.pid)) and one.state == "Z" else None,
                "its first thread has ended",
            )
        finally:
            hard.end()
    assert found.is_alive


def test_a_snapshot_holds_everybody() -> None:
    snapshot = read_processes()
    assert os.getpid() in snapshot
    assert 1 in snapshot
    assert ancestors(snapshot, os.getpid()) >= {os.getpid(), os.getppid(), 1}


def test_the_limit_and_the_environment_of_a_process_can_be_read() -> None:
    number = carried_number(new_run_number(), 7)
    with subprocess.Popen(
        ["/bin/sleep", "3600"],
        env={"MARK": "a=b", "OTHER_MARK": "c"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_RSS, (number, -1)),
    ) as process:
        found = wait_for(lambda: environment_value(process.pid, "MARK"), "it has started")
        limit = rss_limit(process.pid)
        process.kill()
    assert found == "a=b"
    assert limit == number
    assert environment_value(process.pid, "MARK") is None
    assert rss_limit(process.pid) == -1


@pytest.mark.parametrize("limit", [-1, 0, 1 << 30, (1 << 62) + 5, (1 << 63) - 1])
def test_an_ordinary_limit_does_not_read_as_a_number(limit: int) -> None:
    assert run_number_of(limit) is None


def test_a_carried_number_is_a_valid_limit_and_tells_run_and_job() -> None:
    run = new_run_number()
    for job in (0, 1, (1 << JOB_BITS) - 1):
        carried = carried_number(run, job)
        assert 0 < carried < 1 << 62
        assert (run_number_of(carried), job_number_of(carried)) == (run, job)


# -- signals ---------------------------------------------------------------------------------


def test_a_signal_hits_the_process_it_is_meant_for(sleeper: subprocess.Popen[bytes]) -> None:
    process = read_process(sleeper.pid)
    assert process is not None
    assert send_signal(process.identity, signal.SIGTERM)
    assert sleeper.wait() == -signal.SIGTERM
    assert not send_signal(process.identity, signal.SIGTERM)


def test_a_process_that_took_over_a_pid_is_never_hit(sleeper: subprocess.Popen[bytes]) -> None:
    """Sabotage: backends/process_tree.py: or process.start_time != start_time -> or False"""
    process = read_process(sleeper.pid)
    assert process is not None
    assert not send_signal((process.pid, process.start_time - 1), signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_group_counts_as_whole_only_without_strangers() -> None:
    def one(pid: int, pgrp: int) -> Process:
        return Process(pid, 1, pgrp, pgrp, "S", 1, 100)

    snapshot = {pid: one(pid, pgrp) for pid, pgrp in ((10, 10), (11, 10), (20, 20), (21, 20))}
    assert whole_groups([snapshot[10], snapshot[11], snapshot[20]], snapshot) == {10}


def test_the_clock_of_start_times_is_the_kernels(sleeper: subprocess.Popen[bytes]) -> None:
    process = read_process(sleeper.pid)
    assert process is not None
    assert 0 <= clock_ticks() - process.start_time < 1000


# -- members ---------------------------------------------------------------------------------


def process(pid: int, ppid: int, *, session: int | None = None, start_time: int = 100) -> Process:
    return Process(pid, ppid, session or pid, session or pid, "S", 1, start_time)


def members(**options: object) -> Members:
    return Members(None, jobs_directory="/nowhere/jobs", parent=50, **options)  # type: ignore[arg-type]


# Pids above the kernel's largest: nothing is read of a real process by accident.
BASE = 1 << 23


def snapshot_of(*processes: Process) -> dict[int, Process]:
    return {each.pid: each for each in processes}


def jobs_of(found: dict[int, list[Process]]) -> dict[int, int]:
    return {each.pid - BASE: job for job, line in found.items() for each in line}


def test_a_session_and_all_that_descends_from_it_are_members() -> None:
    table = members()
    table.started(BASE + 1, 7, "a")
    found = table.survey(
        snapshot_of(
            process(BASE + 1, 50),
            process(BASE + 2, BASE + 1, session=BASE + 1),
            process(BASE + 3, BASE + 2),
            process(BASE + 4, BASE + 3),
            process(BASE + 9, 1),
        )
    )
    assert jobs_of(found) == {1: 7, 2: 7, 3: 7, 4: 7}


def test_who_was_found_once_stays_a_member_when_nothing_tells_any_more() -> None:
    """Sabotage: backends/members.py: known = self._known.get(process.identity) -> known = None"""
    table = members()
    table.started(BASE + 1, 7, "a")
    child = process(BASE + 2, BASE + 1, session=BASE + 77)
    table.survey(snapshot_of(process(BASE + 1, 50), child))
    table.leader_ended(BASE + 1)
    # It has left for a session of its own since, and its parent is gone.
    alone = child._replace(ppid=1, session=BASE + 78, pgrp=BASE + 78)
    assert jobs_of(table.survey(snapshot_of(alone))) == {2: 7}


def test_an_emptied_session_is_forgotten_before_a_stranger_takes_its_number() -> None:
    """Sabotage: backends/members.py: if session in inhabited or -> if True or"""
    table = members()
    table.started(BASE + 1, 7, "a")
    table.survey(snapshot_of(process(BASE + 1, 50)))
    table.leader_ended(BASE + 1)
    table.survey({})
    assert table.survey(snapshot_of(process(BASE + 1, 1, start_time=900))) == {}


def test_nobody_older_than_the_keeper_is_a_member() -> None:
    table = members(since=100)
    table.started(BASE + 1, 7, "a")
    old = process(BASE + 2, 50, session=BASE + 1, start_time=99)
    assert table.survey(snapshot_of(old)) == {}


def test_an_orphan_of_unknown_origin_belongs_to_the_run() -> None:
    found = members().survey(snapshot_of(process(BASE + 3, 50), process(BASE + 4, BASE + 3)))
    assert jobs_of(found) == {3: RUN, 4: RUN}


def test_the_excluded_and_what_descends_from_them_are_no_members() -> None:
    table = members(never=(BASE + 3,))
    table.exclude(BASE + 5)
    found = table.survey(
        snapshot_of(process(BASE + 3, 50), process(BASE + 4, BASE + 3), process(BASE + 5, 50))
    )
    assert found == {}


def test_a_cycle_of_parents_ends_the_search() -> None:
    looped = snapshot_of(process(BASE + 1, BASE + 2), process(BASE + 2, BASE + 1))
    assert members().survey(looped) == {}


def test_members_are_found_by_the_directory_in_their_environment(tmp_path: Path) -> None:
    directory = tmp_path / "jobs" / "a"
    environment = {"HOLDFAST_JOB_DIR": str(directory), "HOLDFAST_RUN": "r"}
    with subprocess.Popen(["/bin/sleep", "3600"], env=environment) as sleeper:
        wait_for(lambda: environment_value(sleeper.pid, "HOLDFAST_RUN"), "it has started")
        snapshot = read_processes()
        mine = Members(None, jobs_directory=str(tmp_path / "jobs"))
        mine.started(BASE + 1, 7, "a")
        other = Members(None, jobs_directory=str(tmp_path / "other" / "jobs"))
        named = Members(None, jobs_directory=None, run="r")
        found = [
            {job for job, line in table.survey(snapshot).items() for each in line}
            for table in (mine, other, named)
        ]
        sleeper.kill()
    assert found == [{7}, set(), {RUN}]


def test_a_carrier_is_a_member_of_its_own_run_and_of_no_other() -> None:
    number = new_run_number()
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_RSS, (int(sys.argv[1]), -1)); "
    code += "print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(carried_number(number, 5))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as carrier:
        assert carrier.stdout is not None
        carrier.stdout.readline()
        snapshot = read_processes()
        ours = Members(number, jobs_directory=None).survey(snapshot)
        theirs = Members(new_run_number(), jobs_directory=None).survey(snapshot)
    assert [each.pid for each in ours[5]] == [carrier.pid]
    assert theirs == {}
