"""``list``, ``show``, ``logs``, ``cancel``, ``settle``: a run from another terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import CommandLine, RunOnDisk
from support.waiting import wait_for

LONG = """
name: long
jobs:
  - {id: first, command: "echo first line; echo second line"}
  - {id: wait, command: "echo begin; sleep 600", needs: [first], grace_s: 0.5}
"""


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def going_on(cli: CommandLine) -> Iterator[RunOnDisk]:
    """A run whose second job waits; ended by the test or afterwards."""
    cli.write("long.yaml", LONG)
    process = cli.start("jobs", "long.yaml", "--offline", "-q")
    run = cli.only_run()
    run.wait_until_running("wait")
    yield run
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_a_run_is_told_while_it_goes_on_and_after_it(cli: CommandLine, going_on: RunOnDisk) -> None:
    assert [run["status"] for run in cli.run("list", "--json").json()] == ["running"]
    assert going_on.name in cli.run("list").out
    shown = {job["id"]: job["status"] for job in cli.run("show", "last", "--json").json()["jobs"]}
    assert shown == {"first": "passed", "wait": "running"}
    assert cli.run("cancel", going_on.name).code == 0
    told = cli.run("show", going_on.name[:23])
    assert "cancelled" in told.out
    assert "wait" in told.out


def test_cancel_answers_done_not_running_and_unknown(cli: CommandLine, going_on: RunOnDisk) -> None:
    done = cli.run("cancel", "last", "--json")
    assert (done.code, done.json()["done"], done.json()["status"]) == (0, True, "cancelled")
    assert going_on.jobs()["wait"]["cause"]["kind"] == "cancelled"
    again = cli.run("cancel", going_on.name, "--json")
    assert again.code == 5
    assert "cancelled" in again.json()["error"]
    assert cli.run("cancel", "1999").code == 4


def test_cancel_says_why_it_could_not(cli: CommandLine, going_on: RunOnDisk) -> None:
    pid = going_on.file()["driver"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        done = cli.run("cancel", "last", "--json")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.code == 1
    assert done.json()["done"] is False
    assert "says nothing" in done.json()["message"]


def test_a_run_is_found_by_a_unique_beginning_only(cli: CommandLine) -> None:
    cli.write("a.yaml", "jobs: [{id: a, command: echo a}]")
    for _ in range(2):
        assert cli.run("jobs", "a.yaml", "--offline", "-q").code == 0
    ambiguous = cli.run("show", "20")
    assert ambiguous.code == 4
    assert "could be 2 runs" in ambiguous.err
    assert cli.run("show", cli.newest_run().name).code == 0
    assert cli.run("show", "last", "--runs", cli.place / "nowhere").code == 4


def test_logs_prints_every_byte_of_a_job_and_names_the_jobs_of_a_run(cli: CommandLine) -> None:
    text = "printf 'a\\000b\\377\\nlast'"
    cli.write("a.json", json.dumps({"jobs": [{"id": "a", "command": text}]}))
    assert cli.run("jobs", "a.json", "--offline", "-q").code == 0
    command = [os.sys.executable, "-m", "flows.run", "logs", "last"]  # type: ignore[attr-defined]
    options = {"cwd": cli.place, "env": cli.environment, "capture_output": True, "timeout": 60}
    one = subprocess.run([*command, "a"], check=True, **options)  # type: ignore[call-overload]
    assert one.stdout == b"a\0b\xff\nlast"
    every = subprocess.run(command, check=True, **options)  # type: ignore[call-overload]
    assert every.stdout == b"==> a <==\na\0b\xff\nlast"


def test_logs_of_an_unknown_job_suggests_the_nearest(cli: CommandLine) -> None:
    cli.write("a.yaml", "jobs: [{id: build, command: echo a}]")
    cli.run("jobs", "a.yaml", "--offline", "-q")
    done = cli.run("logs", "last", "biuld")
    assert done.code == 4
    assert 'did you mean "build"?' in done.err


def test_logs_can_be_followed_from_two_terminals_to_the_end_of_the_run(
    cli: CommandLine, going_on: RunOnDisk
) -> None:
    followers = [cli.start("logs", "last", "wait", "-f"), cli.start("logs", "last", "-f")]
    for follower in followers:
        assert follower.stdout is not None
        wait_for(lambda out=follower.stdout: "begin" in out.readline(), "the log's beginning")
    cli.run("cancel", "last")
    for follower in followers:
        follower.communicate(timeout=30)
        assert follower.returncode == 0


def test_a_dead_run_is_settled_by_whoever_looks(cli: CommandLine, going_on: RunOnDisk) -> None:
    """Sabotage: flows/history.py: if not is_dead(run.directory, run.file) -> if True"""
    keeper = json.loads((going_on.directory / ".keeper.json").read_text())["pid"]
    os.kill(keeper, signal.SIGKILL)
    os.kill(going_on.file()["driver"]["pid"], signal.SIGKILL)
    listed = cli.run("list", "--json").json()
    assert [run["status"] for run in listed] == ["crashed"]
    jobs = going_on.jobs()
    assert jobs["first"]["status"] == "passed"
    assert (jobs["wait"]["status"], jobs["wait"]["cause"]["kind"]) == ("killed", "driver_lost")
    assert going_on.links() == {
        "running": set(),
        "passing": {"first"},
        "failed": set(),
        "killed": {"wait"},
    }


def test_settle_leaves_a_live_run_alone(cli: CommandLine, going_on: RunOnDisk) -> None:
    done = cli.run("settle", going_on.name)
    assert done.code == 5
    assert "in progress" in done.err
    assert cli.run("settle").code == 0
    assert going_on.file()["status"] == "running"


def test_backends_are_listed(cli: CommandLine) -> None:
    names = {backend["name"] for backend in cli.run("backends", "--json").json()}
    assert {"local", "fake"} <= names


def test_an_unknown_command_suggests_the_nearest(cli: CommandLine) -> None:
    done = cli.run("jbos")
    assert done.code == 2
    assert 'did you mean "jobs"?' in done.err
