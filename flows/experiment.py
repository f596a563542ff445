"""The flow ``experiment``: experiments as a job graph, their results published at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.experiment_run import DEFAULT_N, DEFAULT_SEED, ExperimentRun
from flows.flow_body import follow, lead, led_run, runs_of_flow
from flows.run_settings import RunSettings
from tasks.experiment import DEFAULT_ROUNDS


@flow(name="experiment", persist_result=False)
def experiment(
    names: Annotated[
        list[str] | None, Field(description="Which experiments; default: all of the suite.")
    ] = None,
    n: Annotated[int, Field(ge=1, description="Cases of each experiment.")] = DEFAULT_N,
    seed: Annotated[int, Field(ge=0, description="What the cases are made from.")] = DEFAULT_SEED,
    rounds: Annotated[
        int, Field(ge=0, description="Repetitions for the speed; 0 measures accuracy alone.")
    ] = DEFAULT_ROUNDS,
    suite: Annotated[
        str | None, Field(description="A Python file with experiments; default: the laboratory.")
    ] = None,
    results: Annotated[
        str | None, Field(description="Where results are published; default: beside the runs.")
    ] = None,
    max_parallel: Annotated[int | None, Field(ge=1, description="Jobs at a time.")] = None,
) -> State[Any]:
    """Run experiments and publish what they completed, by one rename.

    A cancelled or crashed run publishes nothing.
    """
    led = led_run()
    if led is not None:
        return follow(led)
    runs = runs_of_flow()
    run = ExperimentRun.prepared(
        names=tuple(names or ()),
        n=n,
        seed=seed,
        rounds=rounds,
        suite=suite,
        results=Path(results).absolute() if results else runs.parent / "results",
    )
    settings = run.with_settings(RunSettings(name="", runs=runs, max_parallel=max_parallel))
    summary, state = lead(settings, run.jobs)
    run.publish(summary)
    return state
