"""Many jobs on the default set-up: all pass, and nothing grows but what a job's record takes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.command_line import CommandLine, RunOnDisk
from support.waiting import wait_for

JOBS = 10_000
KIB_A_JOB = 4
"""What a job may leave in memory: its record, its state, what is waiting to be reported."""


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    anonymous_kib: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {key: value for key, _, value in (line.partition(":") for line in lines)}
        return cls(
            int(status["RssAnon"].split()[0]),
            len(os.listdir(f"/proc/{pid}/fd")),
            int(status["Threads"]),
        )


def ended(run: RunOnDisk) -> int:
    """How many jobs have ended, told by the links, which are cheap to count."""
    folder = run.directory / "passing"
    return len(os.listdir(folder)) if folder.is_dir() else 0


@pytest.mark.slow
@pytest.mark.prefect
def test_10000_jobs_pass_with_flat_memory_descriptors_and_threads(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    lines: list[dict[str, object]] = [{"name": "many", "max_parallel": 8}]
    lines += [{"id": "gate", "command": "until [ -e open ]; do sleep 0.1; done"}]
    lines += [
        {"id": f"job-{index}", "command": ["/bin/true"], "needs": ["gate"]}
        for index in range(JOBS - 1)
    ]
    cli.write("many.jsonl", "\n".join(map(json.dumps, lines)))
    process = cli.start("jobs", "many.jsonl", "--json")
    run = cli.only_run()
    # By then Prefect is imported, its server is up and its threads are there.
    wait_for(lambda: run.file().get("flow_run_id"), "the flow run", 90)
    wait_for((run.directory / ".prefect.json").exists, "the first report", 60)
    cli.write("open", "")
    wait_for(lambda: ended(run) > JOBS * 0.3, "a third of the jobs", 120)
    keeper = json.loads((run.directory / ".keeper.json").read_text())["pid"]
    pids = {"driver": process.pid, "keeper": keeper}
    first = {name: Footprint.of(pid) for name, pid in pids.items()}
    begun = ended(run)
    wait_for(lambda: ended(run) > JOBS * 0.9, "most of the jobs", 120)
    last = {name: Footprint.of(pid) for name, pid in pids.items()}
    grown = ended(run) - begun
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["counts"]["passed"] == JOBS
    assert "Traceback" not in err
    for name in pids:
        growth_kib = last[name].anonymous_kib - first[name].anonymous_kib
        assert growth_kib < 8_192 + grown * KIB_A_JOB, (name, first, last)
        assert abs(last[name].descriptors - first[name].descriptors) <= 8, (name, first, last)
        assert abs(last[name].threads - first[name].threads) <= 4, (name, first, last)
    assert "Traceback" not in cli.run("sync", "last").err
