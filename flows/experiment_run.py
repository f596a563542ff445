"""A run of experiments: which, their jobs, and the publication at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.publish import manifest_facts, publish
from flows.run_settings import RunSettings
from flows.run_summary import RunSummary
from tasks.experiment_graph import experiment_jobs
from tasks.experiment_suite import choose, load_suite
from tasks.spec import JobRecord
from tasks.status import RunStatus

DEFAULT_N = 1_000
DEFAULT_SEED = 42


@dataclass(frozen=True, slots=True)
class ExperimentRun:
    """What one run of experiments does, ready to start."""

    name: str
    experiments: tuple[str, ...]
    jobs: Sequence[JobRecord]
    configuration: Mapping[str, Any]
    results: Path
    """The folder under which results are published."""

    @classmethod
    def prepared(
        cls,
        *,
        names: Sequence[str],
        n: int,
        seed: int,
        rounds: int,
        suite: str | None,
        results: Path,
        name: str = "experiment",
    ) -> ExperimentRun:
        """Choose the experiments and make their jobs; nothing is written.

        Raises ``InputError`` for an unknown experiment, a suite that cannot be loaded, or
        numbers that make no sense.
        """
        chosen = choose(load_suite(suite), names)
        return cls(
            name=name,
            experiments=tuple(chosen),
            # The jobs run in the run directory, which does not exist yet: "." there.
            jobs=experiment_jobs(chosen, n=n, seed=seed, rounds=rounds, directory=Path()),
            configuration={"n": n, "seed": seed, "rounds": rounds, "suite": suite},
            results=results,
        )

    def with_settings(self, chosen: RunSettings) -> RunSettings:
        """Return the settings with the run's own name, parameters and place."""
        parameters = {"names": list(self.experiments), **self.configuration}
        return replace(chosen, name=self.name, cwd=None, parameters=parameters)

    def publish(self, summary: RunSummary) -> Path | None:
        """Publish the results of a run that ended by itself; return the new folder.

        ``None`` for a run that was cancelled or crashed, or that completed no experiment.
        Raises ``HoldfastError`` where the folder cannot be written.
        """
        if summary.error or summary.status not in (RunStatus.COMPLETED, RunStatus.FAILED):
            return None
        facts = manifest_facts(summary.directory, self.experiments, self.configuration)
        return publish(summary.directory, self.results, facts)
