"""One contract for all backends: what the scheduler may rely on, whatever runs the jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.backend_contract import BackendContract, Behaviour, ContractKind
from support.waiting import wait_for

from backends.base import Backend, Launch
from backends.fake import FakeBackend
from backends.fake_outcome import FakeOutcome, cannot_launch, fails, hangs, passes
from backends.local import LocalBackend


class FakeKind(ContractKind):
    """The fake backend on real time."""

    name = "fake"

    def backend(self) -> Backend:
        return FakeBackend(self.context, self._outcome)

    def command(self, job_id: str, behaviour: Behaviour) -> str:
        return "true"

    def _outcome(self, launch: Launch) -> FakeOutcome:
        first = launch.attempt == 1
        return {
            Behaviour.PASSES: passes(0.01),
            Behaviour.EXITS_WITH_3: fails(3),
            Behaviour.HANGS: hangs(),
            Behaviour.HANGS_AND_IGNORES_SIGTERM: hangs(ignores_sigterm=True),
            Behaviour.HAS_NO_PROGRAM: cannot_launch(),
            Behaviour.HAS_AN_UNWRITABLE_LOG: cannot_launch(),
            Behaviour.FAILS_ONCE: fails(1) if first else passes(0.01),
            Behaviour.HANGS_ONCE: hangs() if first else passes(0.01),
        }[self.behaviours[launch.job.id]]


class LocalKind(ContractKind):
    """Real processes under a keeper."""

    name = "local"

    def backend(self) -> Backend:
        return LocalBackend(self.context)

    def command(self, job_id: str, behaviour: Behaviour) -> str:
        if behaviour is Behaviour.HAS_AN_UNWRITABLE_LOG:
            (self.context.job_directory(job_id) / "log.txt").mkdir(parents=True)
        hang = 'echo ready > "$HOLDFAST_JOB_DIR/ready"; sleep 3600'
        return {
            Behaviour.PASSES: "exit 0",
            Behaviour.EXITS_WITH_3: "exit 3",
            Behaviour.HANGS: hang,
            Behaviour.HANGS_AND_IGNORES_SIGTERM: f"trap '' TERM; {hang}",
            Behaviour.HAS_NO_PROGRAM: "exit 0",
            Behaviour.HAS_AN_UNWRITABLE_LOG: "exit 0",
            Behaviour.FAILS_ONCE: 'test "$HOLDFAST_ATTEMPT" -gt 1',
            Behaviour.HANGS_ONCE: f'test "$HOLDFAST_ATTEMPT" -gt 1 && exit 0; {hang}',
        }[behaviour]

    def job(self, number: int, behaviour: Behaviour, **rest: object) -> Launch:
        launch = super().job(number, behaviour, **rest)
        if behaviour is Behaviour.HAS_NO_PROGRAM:
            launch.job.command = (os.fspath(self.folder / "missing"),)
        return launch

    def wait_until_it_hangs(self, job_id: str) -> None:
        ready = self.context.job_directory(job_id) / "ready"
        wait_for(ready.exists, f"{job_id} runs")


@pytest.fixture(params=[FakeKind, LocalKind], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> ContractKind:
    made: ContractKind = request.param(tmp_path)
    return made


class TestContract(BackendContract):
    """The suite, once for each backend."""
