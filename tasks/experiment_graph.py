"""Experiments as jobs: generate -> one adapter for each library -> compare."""

from __future__ import annotations

import glob
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.errors import InputError
from tasks.experiment import (
    DEFAULT_N,
    DEFAULT_ROUNDS,
    DEFAULT_SEED,
    Adapter,
    Experiment,
)
from tasks.experiment_files import ExperimentFiles
from tasks.experiment_suite import suite_argument, suite_file
from tasks.spec import JobRecord, JobSpec

STEP_TIMEOUT_S = 3600.0
"""For making cases and comparing; adapters have limits of their own."""


def experiment_jobs(
    experiments: Mapping[str, type[Experiment]],
    *,
    n: int = DEFAULT_N,
    seed: int = DEFAULT_SEED,
    directory: Path,
    rounds: int = DEFAULT_ROUNDS,
    timing_resource: str | None = None,
) -> list[JobRecord]:
    """Return the jobs of the experiments; nothing is written.

    ``directory`` is the run directory: the jobs run in it and write to ``experiments/`` and
    ``publication/`` there.  ``n`` cases are made from ``seed``; each adapter repeats its work
    ``rounds`` times for its speed, not at all for 0.  ``timing_resource`` names a resource of
    one that every adapter takes, so that none is timed beside another.

    The jobs are ``<experiment>.generate``, ``<experiment>.<library>``, ``<experiment>.compare``.
    A library's failure costs only that library: compare runs if at least one has results.
    Raises ``InputError`` for numbers that make no sense.
    """
    problems = []
    if n < 1:
        problems.append(f'n is "{n}"; at least 1 case is needed')
    if rounds < 0:
        problems.append(f'rounds is "{rounds}"; it must not be negative')
    if problems:
        raise InputError(problems)
    jobs: list[JobRecord] = []
    for experiment in experiments.values():
        jobs += _Jobs(experiment, str(directory)).all(n, seed, rounds, timing_resource)
    return jobs


def job_id(experiment: str, step: str) -> str:
    """Return the id of the job that is one step, or one library, of an experiment."""
    return f"{experiment}.{step}"


class _Jobs:
    """The jobs of one experiment; paths in them are relative to the run directory."""

    def __init__(self, experiment: type[Experiment], cwd: str) -> None:
        self.experiment = experiment
        self.cwd = cwd
        self.files = ExperimentFiles(Path(), experiment.name)
        self.program = (sys.executable, "-P", "-m", "tasks.experiment_job")
        self.source = glob.escape(str(suite_file(experiment)))

    def all(self, n: int, seed: int, rounds: int, timing_resource: str | None) -> list[JobRecord]:
        adapters = [self.adapter(each, timing_resource) for each in self.experiment.adapters]
        compare = JobSpec(
            id=self._id("compare"),
            command=self._command("compare"),
            needs=tuple(adapter.id for adapter in adapters),
            needs_policy="any",
            group=self.experiment.name,
            cwd=self.cwd,
            inputs=(self.source,),
            outputs=(str(self.files.documents / "summary.md"),),
            timeout_s=STEP_TIMEOUT_S,
        )
        return [self.generate(n, seed, rounds), *adapters, compare.record()]

    def generate(self, n: int, seed: int, rounds: int) -> JobRecord:
        options = ("--n", str(n), "--seed", str(seed), "--rounds", str(rounds))
        return JobSpec(
            id=self._id("generate"),
            command=self._command("generate", *options),
            group=self.experiment.name,
            cwd=self.cwd,
            inputs=(self.source,),
            outputs=(str(self.files.cases),),
            timeout_s=STEP_TIMEOUT_S,
        ).record()

    def adapter(self, adapter: Adapter, timing_resource: str | None) -> JobRecord:
        environment = {"EXPERIMENT_TIMING": "shared" if timing_resource is None else "alone"}
        if adapter.distribution is not None:
            # In the job's own environment a new version is a new job to whoever resumes a run.
            environment["EXPERIMENT_LIBRARY"] = _installed(adapter.distribution)
        return JobSpec(
            id=self._id(adapter.library),
            command=self._command("adapter", adapter.library),
            needs=(self._id("generate"),),
            group=self.experiment.name,
            cwd=self.cwd,
            env=environment,
            resources={} if timing_resource is None else {timing_resource: 1},
            inputs=(self.source, *(glob.escape(path) for path in adapter.inputs)),
            outputs=(str(self.files.results(adapter.library)),),
            timeout_s=adapter.timeout_s,
        ).record()

    def _id(self, step: str) -> str:
        return job_id(self.experiment.name, step)

    def _command(self, *words: str) -> tuple[str, ...]:
        return (*self.program, suite_argument(self.experiment), self.experiment.name, *words)


def _installed(distribution: str) -> str:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return f"{distribution} (not installed)"
