"""Runs that the command line starts, as a real Prefect server sees them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine, RunOnDisk
from support.prefect_server import PrefectServer
from support.waiting import wait_for

pytestmark = pytest.mark.prefect

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def cli(tmp_path: Path, prefect_server: PrefectServer) -> CommandLine:
    return CommandLine(tmp_path, {"PREFECT_API_URL": prefect_server.api_url})


def flow_run_of(run: RunOnDisk) -> str:
    return str(wait_for(lambda: run.file().get("flow_run_id"), "a flow run", 60))


def parents(task_run: dict[str, Any]) -> set[str]:
    given = [each for inputs in task_run["task_inputs"].values() for each in inputs]
    return {each["id"] for each in given}


def graph_of_jobs(name: str, count: int, command: str = "true") -> str:
    head = {"name": name, "max_parallel": 8}
    lines = [{"id": f"job-{index}", "command": ["/bin/" + command]} for index in range(count)]
    return "\n".join(json.dumps(line) for line in [head, *lines]) + "\n"


def test_every_job_is_a_task_run_with_its_state_name_and_parents(
    cli: CommandLine, prefect_server: PrefectServer
) -> None:
    cli.write(
        "mixed.yaml",
        """
        name: mixed
        jobs:
          - {id: build, command: echo built}
          - {id: bad, command: exit 3, needs: [build]}
          - {id: never, command: echo never, needs: [bad]}
          - {id: merge, command: echo merged, needs: [build, bad], needs_policy: any}
          - {id: hung, command: sleep 600, timeout_s: 0.5, grace_s: 0.2}
        """,
    )
    done = cli.run("jobs", "mixed.yaml", "--json")
    assert done.code == 1
    assert done.json()["unreported"] == 0
    run = cli.only_run()
    flow_run_id = flow_run_of(run)
    found = prefect_server.task_runs(flow_run_id)
    assert {name: (each["state_type"], each["state_name"]) for name, each in found.items()} == {
        "build": ("COMPLETED", "Completed"),
        "bad": ("FAILED", "Failed"),
        "never": ("FAILED", "UpstreamFailed"),
        "merge": ("COMPLETED", "Completed"),
        "hung": ("FAILED", "TimedOut"),
    }
    assert parents(found["merge"]) == {found["build"]["id"], found["bad"]["id"]}
    assert parents(found["never"]) == {found["bad"]["id"]}
    kind, _, message = prefect_server.flow_run_state(flow_run_id)
    assert (kind, run.name in message) == ("FAILED", True)
    flow_run = prefect_server.ask("GET", f"/flow_runs/{flow_run_id}")
    assert flow_run["name"] == run.name
    assert len(prefect_server.graph(flow_run_id)["nodes"]) == 5


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.[yjt]*[nl]*")))
def test_each_example_runs_and_prefect_agrees_with_the_results(
    cli: CommandLine, prefect_server: PrefectServer, name: str
) -> None:
    done = cli.run("jobs", EXAMPLES / name, "--json")
    assert done.code == 0, done.err
    run = cli.only_run()
    flow_run_id = flow_run_of(run)
    found = prefect_server.task_runs(flow_run_id)
    assert set(found) == set(run.jobs())
    assert {each["state_type"] for each in found.values()} == {"COMPLETED"}
    assert prefect_server.flow_run_state(flow_run_id)[0] == "COMPLETED"


def test_a_cancel_in_prefect_ends_a_run_that_a_terminal_started(
    cli: CommandLine, prefect_server: PrefectServer
) -> None:
    """Sabotage: flows/flow_body.py: if state is not None -> if state is None"""
    cli.write("long.yaml", "name: long\njobs: [{id: a, command: sleep 600}]")
    process = cli.start("jobs", "long.yaml")
    run = cli.only_run()
    flow_run_id = flow_run_of(run)
    prefect_server.ask(
        "POST",
        f"/flow_runs/{flow_run_id}/set_state",
        json={"state": {"type": "CANCELLING", "name": "Cancelling"}},
    )
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert run.statuses() == {"a": "killed"}
    assert prefect_server.flow_run_state(flow_run_id)[0] == "CANCELLED"


def test_a_driver_that_is_killed_is_crashed_on_disk_and_in_prefect(
    cli: CommandLine, prefect_server: PrefectServer
) -> None:
    """Sabotage: flows/settle.py: report(directory, file, str(api_url) -> print(directory"""
    cli.write("long.yaml", "name: long\njobs: [{id: a, command: sleep 600}]")
    process = cli.start("jobs", "long.yaml")
    run = cli.only_run()
    flow_run_id = flow_run_of(run)
    run.wait_until_running("a")
    process.kill()
    process.communicate()
    wait_for(lambda: run.file()["status"] == "crashed", "the keeper to settle the run", 30)
    wait_for(
        lambda: prefect_server.flow_run_state(flow_run_id)[0] == "CRASHED", "Prefect to know", 30
    )
    assert run.links()["killed"] == {"a"}


@pytest.mark.slow
def test_2000_jobs_are_all_on_the_server_soon_after_the_end(
    cli: CommandLine, prefect_server: PrefectServer
) -> None:
    cli.write("many.jsonl", graph_of_jobs("many", 2_000))
    done = cli.run("jobs", "many.jsonl", "--json", timeout_s=150)
    assert done.code == 0, done.err
    flow_run_id = flow_run_of(cli.only_run())
    wait_for(lambda: prefect_server.count(flow_run_id) == 2_000, "2,000 task runs", 120)
    found = prefect_server.task_runs(flow_run_id)
    assert {each["state_type"] for each in found.values()} == {"COMPLETED"}


@pytest.mark.slow
def test_after_a_kill_half_way_sync_brings_all_task_runs(
    cli: CommandLine, prefect_server: PrefectServer
) -> None:
    cli.write("many.jsonl", graph_of_jobs("many", 2_000))
    process = cli.start("jobs", "many.jsonl", "-q")
    run = cli.only_run()
    flow_run_id = flow_run_of(run)
    wait_for(
        lambda: sum(status == "passed" for status in run.statuses().values()) > 700,
        "half of the jobs",
        60,
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: run.file()["status"] == "crashed", "the keeper to settle the run", 60)
    done = cli.run("sync", run.name, "--json", timeout_s=150)
    assert done.code == 0, done
    assert done.json()["missing"] == 0
    assert prefect_server.count(flow_run_id) == 2_000
    assert prefect_server.flow_run_state(flow_run_id)[0] == "CRASHED"


@pytest.mark.slow
def test_on_the_default_set_up_without_a_server_all_task_runs_are_kept(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    cli.write("many.jsonl", graph_of_jobs("many", 2_000))
    done = cli.run("jobs", "many.jsonl", "--json", timeout_s=170)
    assert done.code == 0, done.err
    assert done.json()["unreported"] == 0
    again = cli.run("sync", "last", "--json", timeout_s=120)
    assert again.code == 0, again
    assert again.json()["task_runs"] == 2_000
    assert again.json()["sent"] == 0
    assert "Traceback" not in done.err + again.err
