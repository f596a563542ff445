"""What the pages under docs/how-to tell a newcomer to write works as they say."""

from __future__ import annotations

import os
import re
import runpy
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.backend_contract import BackendContract, Behaviour, ContractKind
from support.job_events import FAILED, PASSED, START, JobEnd, Q, R, S, a_job, changed
from support.waiting import wait_for

from backends.base import Backend, Launch
from observers.base import Observer
from observers.dispatch import Observers
from tasks.events import RunEnded
from tasks.status import RunStatus

ROOT = Path(__file__).parents[1]


def example(name: str) -> dict[str, Any]:
    """Return what the example defines."""
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


class ThreadKind(ContractKind):
    """The example backend, on real processes."""

    name = "thread"

    def backend(self) -> Backend:
        backend: Backend = example("thread_backend")["ThreadBackend"](self.context)
        return backend

    def command(self, job_id: str, behaviour: Behaviour) -> str:
        if behaviour is Behaviour.HAS_AN_UNWRITABLE_LOG:
            (self.context.job_directory(job_id) / "log.txt").mkdir(parents=True)
        hang = 'echo ready > "$HOLDFAST_JOB_DIR/ready"; exec sleep 3600'
        return {
            Behaviour.EXITS_WITH_3: "exit 3",
            Behaviour.HANGS: hang,
            # The shell stays: a sleep that is its child would obey SIGTERM and let it go on.
            Behaviour.HANGS_AND_IGNORES_SIGTERM: f"trap '' TERM; {hang}",
            Behaviour.FAILS_ONCE: 'test "$HOLDFAST_ATTEMPT" -gt 1',
            Behaviour.HANGS_ONCE: f'test "$HOLDFAST_ATTEMPT" -gt 1 && exit 0; {hang}',
        }.get(behaviour, "exit 0")

    def job(self, number: int, behaviour: Behaviour, **rest: object) -> Launch:
        launch = super().job(number, behaviour, **rest)
        if behaviour is Behaviour.HAS_NO_PROGRAM:
            launch.job.command = (os.fspath(self.folder / "missing"),)
        return launch

    def wait_until_it_hangs(self, job_id: str) -> None:
        ready = self.context.job_directory(job_id) / "ready"
        wait_for(ready.exists, f"{job_id} runs")


@pytest.fixture
def kind(tmp_path: Path) -> ContractKind:
    return ThreadKind(tmp_path)


class TestTheExampleBackend(BackendContract):
    """Whatever the contract asks of a built-in backend holds for the one in the example."""


def test_the_example_observer_writes_the_slowest_jobs(tmp_path: Path) -> None:
    slowest = example("slowest_jobs")["SlowestJobs"](tmp_path, count=2)
    observers = Observers([slowest])
    for name, seconds in [("a", 1.0), ("b", 30.0), ("c", 2.0)]:
        job = a_job(name)
        end = JobEnd(exit_code=0, runtime_s=seconds)
        observers.jobs_changed([changed(job, S, Q), changed(job, Q, R)])
        observers.jobs_changed([changed(job, R, PASSED, end=end)])
    observers.jobs_changed([changed(a_job("never-ran"), S, FAILED, end=JobEnd())])
    observers.run_ended(RunEnded(START, RunStatus.FAILED, {}))
    observers.close()
    assert observers.failed == {}
    text = (tmp_path / "slowest.txt").read_text()
    assert text == "    30.000 s  b\n     2.000 s  c\n"


def test_the_page_on_observers_names_every_hook_there_is() -> None:
    page = (ROOT / "docs" / "how-to" / "add-an-observer.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert named == {name for name, value in vars(Observer).items() if callable(value)}


def test_the_page_on_backends_names_every_method_of_the_base_that_one_may_need() -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-backend.md").read_text()
    methods = {name for name in vars(Backend) if not name.startswith("_")}
    missing = {name for name in methods if f"`{name}" not in page}
    assert missing == set()


@pytest.mark.parametrize("page", ["add-a-backend", "add-an-observer", "write-a-flow"])
def test_the_python_that_a_page_shows_can_be_run(page: str) -> None:
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(textwrap.dedent(block), f"{page}.md", "exec"), {"__name__": "page"})
