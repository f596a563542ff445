"""``doctor`` looks at runs that read as going on, and at keepers without a driver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.command_line import CommandLine, RunOnDisk
from support.examined import Examined, a_dead_process, examined, is_alive, of_level
from support.waiting import wait_for

from backends.keeper_process import KeeperFile
from backends.process_tree import process_name
from flows.control import ask
from flows.diagnosis.finding import Finding, Level
from flows.diagnosis.keepers import check_keepers
from flows.diagnosis.runs import check_runs
from flows.run_directory import RunFile
from flows.settle import settle
from observers.journal_reader import read_journal
from tasks.process_identity import ProcessIdentity, wait_for_end
from tasks.status import RunStatus

__all__ = ["examined"]

PYTHON = Path(sys.executable)


def runs(place: Examined, *, fix: bool = False) -> list[Finding]:
    return list(check_runs(place.examination(fix=fix, offline=True)))


def status_of(directory: Path) -> RunStatus:
    file = RunFile.read(directory)
    assert file is not None
    return file.status


# -- runs that live --------------------------------------------------------------------------


class Sleeper:
    """A run of one job that sleeps, started as a person would; ``folder`` holds its runs."""

    def __init__(self, place: Examined, folder: Path, *options: str) -> None:
        cli = CommandLine(place.place)
        file = cli.write("sleep.yaml", "name: sleep\njobs: [{id: nap, command: [sleep, 3600]}]\n")
        self.driver = cli.start(
            *("jobs", file, "--offline", "-q", "--runs", folder, *options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_until_it_runs(place, folder)
        except BaseException:
            # It ends its keeper, and that the job: nothing is left for other tests to meet.
            self.driver.terminate()
            self.driver.wait(30)
            raise

    def _wait_until_it_runs(self, place: Examined, folder: Path) -> None:
        self.run = RunOnDisk(wait_for(lambda: sorted(folder.glob("2*")), "a run directory")[0])
        keeper = wait_for(lambda: KeeperFile.read(self.run.directory), "a keeper")
        assert keeper is not None
        self.keeper = keeper.identity
        place.adopt(self.keeper.pid)
        # The journal says so when the job is handed over, just before the keeper starts it.
        self.run.wait_until_running("nap")
        self.jobs = wait_for(lambda: self._jobs_of_keeper(place), "the job's process")
        for job in self.jobs:
            place.adopt(job)

    def _jobs_of_keeper(self, place: Examined) -> list[int]:
        everybody = place.processes().values()
        children = [process.pid for process in everybody if process.ppid == self.keeper.pid]
        return [pid for pid in children if process_name(pid) == "sleep"]

    def kill_driver(self) -> None:
        self.driver.kill()
        self.driver.wait()

    def end(self) -> None:
        """Have it end in whatever state it is, and wait until its keeper is gone."""
        if self.keeper.is_alive():
            os.kill(self.keeper.pid, signal.SIGCONT)
        if self.driver.poll() is None:
            self.driver.send_signal(signal.SIGCONT)
            ask(Path(self.run.file()["socket"]), {"op": "cancel", "by": "test", "grace_s": 0})
            self.driver.wait(30)
        elif self.keeper.is_alive():
            os.kill(self.keeper.pid, signal.SIGTERM)
        assert wait_for_end(self.keeper, timeout_s=30)


@contextmanager
def sleeper(place: Examined, *options: str, folder: Path | None = None) -> Iterator[Sleeper]:
    run = Sleeper(place, folder or place.runs, *options)
    try:
        yield run
    finally:
        run.end()


def test_a_run_that_goes_on_is_told_and_left_alone(examined: Examined) -> None:
    """Sabotage: settle without asking ``is_dead`` in ``runs._going_on``."""
    with sleeper(examined) as run:
        told = {finding.subject: finding for finding in runs(examined, fix=True)}
        assert told[run.run.name].level is Level.OK
        assert f"led by process {run.driver.pid}" in told[run.run.name].message
        assert all(is_alive(job) for job in run.jobs)
        keepers = list(check_keepers(examined.examination(fix=True)))
        assert [finding.message for finding in keepers] == ["1 for living drivers"]


@pytest.mark.parametrize("who", ["driver", "keeper"])
def test_a_living_run_that_somebody_stopped_is_told(examined: Examined, who: str) -> None:
    with sleeper(examined) as run:
        pid = run.driver.pid if who == "driver" else run.keeper.pid
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: examined.processes()[pid].state == "T", "the process stops")
        (found,) = of_level(Level.WARNING, runs(examined))
        assert f"its {who}, process {pid}, is stopped" in found.message
        assert found.advice.endswith(f"kill -CONT {pid}")


# -- runs that lost their driver -------------------------------------------------------------


def test_jobs_that_are_kept_for_adoption_are_told_and_not_ended_by_fix(
    examined: Examined,
) -> None:
    """Sabotage: leave ``keeper.is_alive()`` out of ``runs._going_on``."""
    with sleeper(examined, "--on-crash", "keep") as run:
        run.kill_driver()

        def told() -> list[Finding]:
            return of_level(Level.WARNING, runs(examined, fix=True))

        (found,) = wait_for(told, "the kept run is told")
        assert f"keeper {run.keeper.pid} keeps 1 job for the next start" in found.message
        assert all(is_alive(job) for job in run.jobs)
        # What the advice says does what it says.
        command = found.advice.rpartition("end them: ")[2]
        cli = CommandLine(examined.place, {"PATH": f"{PYTHON.parent}:{os.environ['PATH']}"})
        subprocess.run(command, shell=True, cwd=cli.place, env=cli.environment, check=True)
        assert wait_for_end(run.keeper, timeout_s=30)
        assert not any(is_alive(job) for job in run.jobs)
        runs(examined)
        assert status_of(run.run.directory).is_end


def test_a_stopped_keeper_without_driver_is_a_problem_and_goes_on_with_fix(
    examined: Examined,
) -> None:
    """Sabotage: leave ``send_signal`` out of ``judge_kept_run``."""
    with sleeper(examined) as run:
        os.kill(run.keeper.pid, signal.SIGSTOP)
        wait_for(lambda: examined.processes()[run.keeper.pid].state == "T", "the keeper stops")
        run.kill_driver()
        (found,) = of_level(Level.PROBLEM, runs(examined))
        assert f"its keeper, process {run.keeper.pid}, is stopped" in found.message
        assert all(is_alive(job) for job in run.jobs)
        (fixed,) = of_level(Level.WARNING, runs(examined, fix=True))
        assert fixed.message.endswith("told to go on")
        assert wait_for_end(run.keeper, timeout_s=30)
        assert not any(is_alive(job) for job in run.jobs)
        runs(examined)
        assert status_of(run.run.directory) is RunStatus.CRASHED


def test_a_keeper_without_driver_in_another_folder_is_found(examined: Examined) -> None:
    elsewhere = examined.place / "elsewhere"
    elsewhere.mkdir()
    with sleeper(examined, "--on-crash", "keep", folder=elsewhere) as run:
        run.kill_driver()
        examination = examined.examination()

        def told() -> list[Finding]:
            return of_level(Level.WARNING, list(check_keepers(examination)))

        (found,) = wait_for(told, "the keeper is told")
        assert found.subject == run.run.name
        assert "keeps 1 job" in found.message


def test_a_keeper_whose_run_directory_was_removed_is_told_and_left_alone(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.diagnosis.keepers._LEAVING_S", 0.05)
    with sleeper(examined, "--on-crash", "keep") as run:
        run.kill_driver()
        shutil.rmtree(run.run.directory)
        (found,) = of_level(Level.WARNING, list(check_keepers(examined.examination(fix=True))))
        assert found.subject == f"process {run.keeper.pid}"
        assert "is gone" in found.message
        assert all(is_alive(job) for job in run.jobs)


# -- runs that are dead ----------------------------------------------------------------------


def test_a_run_that_died_before_its_journal_began_is_settled(examined: Examined) -> None:
    file = examined.run(
        "early", status=RunStatus.STARTING, driver=a_dead_process().to_json(), number=1 << 39
    )
    (found,) = of_level(Level.WARNING, runs(examined))
    assert "read as starting" in found.message
    directory = examined.runs / "early"
    first, last = read_journal(directory)
    assert (first["event"], first["run"]) == ("run_started", file.run)
    assert (last["event"], last["status"]) == ("run_ended", "crashed")
    results = json.loads((directory / "results.json").read_text())
    assert (results["run"], results["status"], results["jobs"]) == ("early", "crashed", [])
    assert settle(directory) is RunStatus.CRASHED


def test_a_run_that_cannot_be_settled_is_a_problem_and_the_next_is_settled(
    examined: Examined,
) -> None:
    driver = a_dead_process().to_json()
    examined.run("a-broken", driver=driver)
    (examined.runs / "a-broken" / "events.jsonl").write_text('{"v": 1, "event": "job_status"}\n')
    examined.run("b-sound", driver=driver)
    found = runs(examined)
    assert [finding.subject for finding in of_level(Level.PROBLEM, found)] == ["a-broken"]
    assert status_of(examined.runs / "b-sound") is RunStatus.CRASHED


def test_offline_a_dead_run_is_settled_without_telling_its_server(examined: Examined) -> None:
    examined.run(
        "reported",
        driver=a_dead_process().to_json(),
        prefect={"api_url": "http://127.0.0.1:1/api", "ephemeral": False},
        flow_run_id="6b1f29e5-8f7c-4a7f-9d7c-0d1f1d0a3f5e",
    )
    (found,) = of_level(Level.WARNING, runs(examined))
    assert "settled: crashed" in found.message
    assert "sync reported" in found.advice


def test_a_run_that_another_host_leads_is_left_to_that_host(examined: Examined) -> None:
    driver = replace(a_dead_process(), host="somewhere-else")
    examined.run("far", driver=driver.to_json())
    told = {finding.subject: finding for finding in runs(examined, fix=True)}
    assert told["far"].level is Level.OK
    assert 'host "somewhere-else"' in told["far"].message
    assert status_of(examined.runs / "far") is RunStatus.RUNNING


def test_a_run_whose_driver_s_pid_was_taken_over_is_dead(examined: Examined) -> None:
    mine = ProcessIdentity.of_this_process()
    examined.run("recycled", driver=replace(mine, start_time=mine.start_time - 1).to_json())
    runs(examined)
    assert status_of(examined.runs / "recycled") is RunStatus.CRASHED


def test_a_run_of_the_boot_before_is_dead(examined: Examined) -> None:
    mine = ProcessIdentity.of_this_process()
    examined.run("before", driver=replace(mine, boot_id="another-boot").to_json())
    runs(examined)
    assert status_of(examined.runs / "before") is RunStatus.CRASHED


def test_an_old_run_directory_without_run_json_is_told_and_a_new_one_is_not(
    examined: Examined,
) -> None:
    old = examined.runs / "2026-01-01_00-00-00-000000_old"
    new = examined.runs / "2026-01-01_00-00-00-000001_new"
    for directory in (old, new, examined.runs / "notes", examined.runs / ".checkpoint"):
        directory.mkdir()
    os.utime(old, (0, 0))
    found = of_level(Level.WARNING, runs(examined))
    assert [finding.subject for finding in found] == [old.name]


def test_a_folder_without_runs_is_fine(examined: Examined) -> None:
    examined.runs.rmdir()
    assert [finding.level for finding in runs(examined)] == [Level.OK]
