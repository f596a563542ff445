"""An adopted run under Prefect: a new flow run with all jobs, and no old one left running."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.prefect_server import PrefectServer
from support.waiting import wait_for

pytestmark = pytest.mark.prefect


def test_the_run_goes_on_as_a_new_flow_run_and_the_old_one_is_set_crashed(
    tmp_path: Path, prefect_server: PrefectServer
) -> None:
    """Sabotage: flows/flow_body.py: if earlier is not None: -> if False:"""
    cli = CommandLine(tmp_path, {"PREFECT_API_URL": prefect_server.api_url})
    os.mkfifo(tmp_path / "release")
    jobs = [{"id": "early", "command": "true"}, {"id": "a", "command": "read line < release"}]
    cli.write("kept.json", json.dumps({"name": "kept", "max_parallel": 2, "jobs": jobs}))
    arguments = ("jobs", "kept.json", "--on-crash", "keep", "-q")
    driver = cli.start(*arguments)
    run = cli.only_run()
    run.wait_until_running("a")
    old = str(wait_for(lambda: run.file().get("flow_run_id"), "a flow run", 60))
    driver.kill()
    driver.communicate(timeout=30)
    driver = cli.start(*arguments)
    new = str(wait_for(lambda: {run.file()["flow_run_id"]} - {old, None}, "another", 60).pop())
    wait_for(lambda: prefect_server.flow_run_state(old)[0] == "CRASHED", "the old one's end", 30)
    assert new in prefect_server.flow_run_state(old)[2]
    (tmp_path / "release").write_text("go\n")
    driver.communicate(timeout=60)
    assert driver.returncode == 0
    assert prefect_server.flow_run_state(new)[0] == "COMPLETED"
    states = {name: each["state_type"] for name, each in prefect_server.task_runs(new).items()}
    assert states == {"early": "COMPLETED", "a": "COMPLETED"}
