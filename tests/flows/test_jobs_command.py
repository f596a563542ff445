"""``python -m flows.run jobs``: from a file to links, journal, results and an exit code."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.waiting import wait_for

from observers.results import results

MIXED = """
name: mixed
env_is_not_here: &no 1
jobs:
  - {id: build, command: "echo built > out.txt", outputs: [out.txt]}
  - {id: bad, command: exit 3, needs: [build]}
  - {id: never, command: echo never, needs: [bad]}
  - {id: merge, command: echo merged, needs: [build, bad], needs_policy: any}
  - {id: hung, command: sleep 600, timeout_s: 0.5, grace_s: 0.2}
""".replace("env_is_not_here: &no 1\n", "")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_a_graph_leaves_links_logs_journal_and_results_that_agree(cli: CommandLine) -> None:
    cli.write("mixed.yaml", MIXED)
    done = cli.run("jobs", "mixed.yaml", "--offline", "--json")
    assert done.code == 1
    run = cli.only_run()
    assert done.json()["counts"] == {"passed": 2, "failed": 1, "killed": 2, "skipped": 0}
    assert run.links() == {
        "running": set(),
        "passing": {"build", "merge"},
        "failed": {"bad"},
        "killed": {"never", "hung"},
    }
    jobs = run.jobs()
    assert {job: each["status"] for job, each in jobs.items()} == run.statuses()
    causes = {job: each["cause"]["kind"] for job, each in jobs.items() if each["cause"]}
    assert causes == {"bad": "exit_code", "never": "dependency", "hung": "timeout"}
    assert jobs["bad"]["exit_code"] == 3
    assert run.log("merge") == b"merged\n"
    assert run.file()["status"] == "failed"
    assert run.file()["socket"] is None
    assert (cli.place / "out.txt").read_text() == "built\n"


def test_results_are_a_function_of_the_journal(cli: CommandLine) -> None:
    cli.write("mixed.yaml", MIXED)
    cli.run("jobs", "mixed.yaml", "--offline", "-q")
    run = cli.only_run()
    assert results(run.directory) == run.results()
    assert run.events()[0]["v"] == 1
    assert run.events()[-1]["event"] == "run_ended"


def test_all_passed_is_exit_code_0_and_the_summary_names_the_run_directory(
    cli: CommandLine,
) -> None:
    cli.write("one.json", json.dumps({"jobs": [{"id": "a", "command": ["true"]}]}))
    done = cli.run("jobs", "one.json", "--offline")
    assert done.code == 0
    assert str(cli.only_run().directory) in done.err
    assert done.out == ""


def test_a_graph_can_come_from_standard_input(cli: CommandLine) -> None:
    process = subprocess.run(
        [os.sys.executable, "-m", "flows.run", "jobs", "-", "--offline"],  # type: ignore[attr-defined]
        cwd=cli.place,
        env=cli.environment,
        input='{"id": "a", "command": "true"}\n{"id": "b", "command": "true", "needs": ["a"]}\n',
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert set(cli.only_run().jobs()) == {"a", "b"}


def test_a_second_start_of_a_name_is_refused_while_the_first_runs(cli: CommandLine) -> None:
    cli.write("long.yaml", "name: long\njobs: [{id: a, command: sleep 600}]")
    first = cli.start("jobs", "long.yaml", "--offline")
    run = cli.only_run()
    run.wait_until_running("a")
    second = cli.run("jobs", "long.yaml", "--offline")
    assert second.code == 3
    assert run.name in second.err
    assert "--wait" in second.err
    assert cli.run("cancel", "last").code == 0
    first.communicate(timeout=30)
    assert first.returncode == 130
    assert run.jobs()["a"]["cause"]["kind"] == "cancelled"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_stop_signal_ends_every_tree_and_writes_everything(
    cli: CommandLine, number: signal.Signals, code: int
) -> None:
    """Sabotage: flows/stop_signals.py: self._stop(number.name -> print(number.name"""
    cli.write("long.yaml", "name: long\njobs: [{id: a, command: 'sleep 600 & echo $! ; wait'}]")
    process = cli.start("jobs", "long.yaml", "--offline")
    run = cli.only_run()
    run.wait_until_running("a")
    child = int(wait_for(lambda: run.log("a"), "the child's pid"))
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert not Path(f"/proc/{child}").exists()
    assert run.file()["status"] == "cancelled"
    assert run.links()["killed"] == {"a"}
    assert run.jobs()["a"]["status"] == "killed"


def test_a_second_sigint_kills_at_once(cli: CommandLine) -> None:
    """Sabotage: flows/session.py: at once", grace_s=0.0 -> at once", grace_s=None"""
    stubborn = "trap '' TERM; echo ready; while :; do sleep 1; done"
    cli.write(
        "long.json",
        json.dumps({"name": "long", "jobs": [{"id": "a", "command": stubborn, "grace_s": 600}]}),
    )
    process = cli.start("jobs", "long.json", "--offline")
    run = cli.only_run()
    run.wait_until_running("a")
    wait_for(lambda: run.log("a") == b"ready\n", "the trap to be set")
    process.send_signal(signal.SIGINT)
    wait_for(
        lambda: any(each["event"] == "kill_requested" for each in run.events()), "the first stop"
    )
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert run.jobs()["a"]["signal"] == signal.SIGKILL


def test_fail_fast_ends_the_rest(cli: CommandLine) -> None:
    cli.write("f.yaml", "jobs: [{id: a, command: sleep 600}, {id: b, command: exit 1}]")
    done = cli.run("jobs", "f.yaml", "--offline", "--fail-fast", "--max-parallel", "2", "--json")
    assert done.code == 1
    assert cli.only_run().jobs()["a"]["cause"]["kind"] == "cancelled"


BAD_INPUT = {
    "an unknown field": ("jobs: [{id: a, command: x, comand: y}]", "comand"),
    "a wrong type": ("jobs: [{id: a, command: x, retries: two}]", "retries"),
    "a duplicate id": ("jobs: [{id: a, command: x}, {id: a, command: y}]", '"a"'),
    "an unknown need": ("jobs: [{id: a, command: x, needs: [b]}]", '"b"'),
    "a glob without a match": ("jobs: [{id: a, command: x, needs: ['b-*']}]", "b-*"),
    "a cycle": (
        "jobs: [{id: a, command: x, needs: [b]}, {id: b, command: x, needs: [a]}]",
        "dependency cycle: a -> b -> a",
    ),
    "an unknown backend": ("jobs: [{id: a, command: x, backend: moon}]", "moon"),
    "a request above the limit": (
        "resources: {gpu: 1}\njobs: [{id: a, command: x, resources: {gpu: 2}}]",
        "gpu",
    ),
    "an unknown resource": ("jobs: [{id: a, command: x, resources: {gpu: 2}}]", "gpu"),
    "an empty file": ("", "empty"),
    "no yaml": ("jobs: [{id: a, command: x}", "YAML"),
    "an id that leads elsewhere": ("jobs: [{id: ../../x, command: x}]", "../../x"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_exit_code_2_and_nothing_is_started(cli: CommandLine, case: str) -> None:
    text, named = BAD_INPUT[case]
    cli.write("bad.yaml", text)
    done = cli.run("jobs", "bad.yaml", "--offline")
    assert done.code == 2, done
    assert named in done.err
    assert "Traceback" not in done.err
    assert not cli.runs.exists()


def test_an_unreadable_file_is_exit_code_2(cli: CommandLine) -> None:
    for name in ("nowhere.yaml", "."):
        done = cli.run("jobs", name, "--offline")
        assert done.code == 2
        assert "Traceback" not in done.err
    assert not cli.runs.exists()


def test_a_matrix_value_in_a_string_command_cannot_inject_one(cli: CommandLine) -> None:
    value = "$(touch injected); touch injected2 '"
    head = {"jobs": [{"id": "a-{i}", "matrix": {"i": [0], "v": [value]}, "command": "echo {v}"}]}
    cli.write("m.json", json.dumps(head))
    assert cli.run("jobs", "m.json", "--offline", "-q").code == 0
    assert cli.only_run().log("a-0").decode() == value + "\n"
    assert not list(cli.place.glob("injected*"))


def test_the_environment_file_masks_secrets_and_is_the_owners_alone(cli: CommandLine) -> None:
    cli.settings |= {"MY_API_KEY": "s3cret-1", "A_TOKEN_B": "s3cret-2", "DB_PASSWORD": "s3cret-3"}
    job = {"id": "a", "command": "true", "env": {"CLIENT_SECRET": "s3cret-4", "PLAIN": "seen"}}
    cli.write("e.json", json.dumps({"jobs": [job]}))
    assert cli.run("jobs", "e.json", "--offline", "-q").code == 0
    run = cli.only_run()
    files = [run.directory / "env.txt", run.directory / "jobs" / "a" / "env.txt"]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "s3cret" not in file.read_text()
    assert "PLAIN" in files[1].read_text()


def test_a_line_of_200_kb_is_kept_whole(cli: CommandLine) -> None:
    command = ["python3", "-c", "print('x' * 200_000)"]
    cli.write("l.json", json.dumps({"jobs": [{"id": "a", "command": command}]}))
    assert cli.run("jobs", "l.json", "--offline", "-q").code == 0
    assert cli.only_run().log("a") == b"x" * 200_000 + b"\n"


def test_a_job_that_prints_without_end_is_ended_by_its_time_limit_and_the_rest_goes_on(
    cli: CommandLine,
) -> None:
    # A slow reader would block it, so it would never fill its disk; a limit of its own ends it.
    noisy = "ulimit -f 200000; while :; do echo yes; done"
    jobs = [
        {"id": "noisy", "command": noisy, "timeout_s": 1, "grace_s": 0.2},
        {"id": "after", "command": "echo fine"},
    ]
    cli.write("n.json", json.dumps({"max_parallel": 1, "jobs": jobs}))
    assert cli.run("jobs", "n.json", "--offline", "-q").code == 1
    run = cli.only_run()
    assert run.jobs()["noisy"]["cause"]["kind"] == "timeout"
    assert run.jobs()["after"]["status"] == "passed"


def test_nothing_is_written_outside_the_run_directory(cli: CommandLine) -> None:
    before = {"h.json", "runs", "state"}
    jobs = [{"id": "a", "command": "true"}, {"id": "..a", "command": "true"}]
    cli.write("h.json", json.dumps({"jobs": jobs}))
    assert cli.run("jobs", "h.json", "--offline", "-q").code == 2
    cli.write("h.json", json.dumps({"jobs": jobs[:1]}))
    assert cli.run("jobs", "h.json", "--offline", "-q").code == 0
    assert {path.name for path in cli.place.iterdir()} == before
