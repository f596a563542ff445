"""The flow ``job-dag``: a job graph from a file, as a deployment or a function to call."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.flow_body import follow, lead, led_run, runs_of_flow
from flows.graph_run import parameters_of, settings_for
from flows.run_settings import DEFAULT_REPORT_LIMIT, OnCrash, RunSettings
from tasks.dag_file import read_dag_file


@flow(name="job-dag", persist_result=False)
def job_dag(
    file: Annotated[str, Field(description="The DAG file: YAML, TOML, JSON or JSON Lines.")],
    max_parallel: Annotated[
        int | None, Field(ge=1, description="Jobs at a time; default: as the file says.")
    ] = None,
    backend: Annotated[str, Field(description="Where jobs run that name no backend.")] = "local",
    fail_fast: Annotated[bool, Field(description="End the run at the first failure.")] = False,
    grace_s: Annotated[
        float | None,
        Field(ge=0, description="Seconds between SIGTERM and SIGKILL; default: as the jobs say."),
    ] = None,
    on_crash: Annotated[
        OnCrash, Field(description="What becomes of the jobs if this process dies.")
    ] = "kill",
    report_limit: Annotated[
        int, Field(ge=0, description="Above so many jobs Prefect is told of groups.")
    ] = DEFAULT_REPORT_LIMIT,
) -> State[Any]:
    """Run the job graph of a file; every job becomes a task run of this flow run.

    The flow run is Completed when every job passed, Failed when one did not, Cancelled when it
    was stopped; then no process of it is alive.
    """
    led = led_run()
    if led is not None:
        return follow(led)
    graph = read_dag_file(file)
    settings = settings_for(
        graph,
        RunSettings(
            name="",
            runs=runs_of_flow(),
            max_parallel=max_parallel,
            backend=backend,
            fail_fast=fail_fast,
            grace_s=grace_s,
            on_crash=on_crash,
            report_limit=report_limit,
        ),
    )
    settings = replace(settings, parameters=parameters_of(settings, file=file))
    _, state = lead(settings, graph.jobs)
    return state
