"""What a job finds in its environment beside what it inherits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.spec import JobRecord

_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9_]")


def job_environment(
    job: JobRecord,
    *,
    run: str,
    directory: Path | None,
    attempt: int,
    resources: Mapping[str, Sequence[str]],
) -> dict[str, str]:
    """Return the variables that differ from the run's environment.

    The job's own ``env`` comes first, so that nothing in it can pass for what the engine says:
    which run and job this is, and which resources the attempt was given.
    """
    environment = dict(job.env)
    environment["HOLDFAST_RUN"] = run
    environment["HOLDFAST_JOB"] = job.id
    if directory is not None:
        environment["HOLDFAST_JOB_DIR"] = str(directory)
    environment["HOLDFAST_ATTEMPT"] = str(attempt)
    if job.interactive:
        environment["HOLDFAST_INTERACTIVE"] = "1"
    for name, ids in resources.items():
        environment[resource_variable(name)] = ",".join(ids)
        if name.lower() == "gpu":
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(ids)
    return environment


def resource_variable(resource: str) -> str:
    """Return the variable that names the ids of a resource: ``HOLDFAST_RESOURCE_<NAME>``."""
    return "HOLDFAST_RESOURCE_" + _NOT_IN_A_NAME.sub("_", resource.upper())


def ids_in_environment(
    job: JobRecord, environment: Mapping[str, str]
) -> Mapping[str, tuple[str, ...]]:
    """Return the ids of resources that an attempt of the job was given, from its environment."""
    variables = {name: resource_variable(name) for name in job.resources}
    return {
        name: tuple(environment[variable].split(","))
        for name, variable in variables.items()
        if variable in environment
    }
