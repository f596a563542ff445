"""A Prefect flow of one's own whose jobs are processes.

    python examples/nightly_flow.py

Every job is a task run of the flow run; what the jobs write lies in the run's directory. To have it
deployed, give it to Prefect like any flow: ``prefect deploy``, ``nightly.serve()``.
"""

from __future__ import annotations

import json
from pathlib import Path

from prefect import flow, task

from flows import JobSpec, LocalTaskRunner, run_job

HERE = Path(__file__).parent / "regression"


@task
def count_rolls(histograms: list[Path]) -> int:
    """A task like any other: it runs in a thread, when the jobs that it waits for have ended."""
    return sum(sum(json.loads(file.read_text())) for file in histograms)


@flow(task_runner=LocalTaskRunner(max_parallel=4, resources={"licence": 2}, cwd=HERE))
def nightly(seeds: int = 4) -> int:
    """Build, test with some seeds, and count what the tests found."""
    build = run_job.submit(JobSpec(id="build", command=["python3", "-m", "ast", "dice.py"]))
    tests = run_job.map(
        [
            JobSpec(
                id=f"test-{seed}",
                command=f'python3 dice.py roll {seed} "$HOLDFAST_JOB_DIR/histogram.json"',
                resources={"licence": 1},
                timeout_s=60,
                pass_patterns=["^TEST PASSED$"],
            )
            for seed in range(seeds)
        ],
        wait_for=[build],
    )
    passed = tests.result()  # raises with the cause where one did not pass
    return count_rolls([result.directory / "histogram.json" for result in passed])


if __name__ == "__main__":
    print(nightly(), "rolls")
