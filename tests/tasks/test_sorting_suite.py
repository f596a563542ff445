from __future__ import annotations

import json
from pathlib import Path

from support.experiments import run_jobs

from tasks.experiment_graph import experiment_jobs
from tasks.experiment_suite import load_suite

EXAMPLE = Path(__file__).parents[2] / "examples" / "sorting_suite.py"


def test_the_example_of_a_suite_in_one_file_compares_two_sorting_programs(tmp_path: Path) -> None:
    jobs = experiment_jobs(load_suite(EXAMPLE), n=5, rounds=1, directory=tmp_path)
    codes = run_jobs(jobs)
    assert codes == dict.fromkeys(
        ("sorting.generate", "sorting.python", "sorting.coreutils", "sorting.compare"), 0
    )
    for library in ("python", "coreutils"):
        found = json.loads((tmp_path / f"publication/sorting/{library}.json").read_text())
        assert found["accuracy"]["misplaced_items"]["max"] == 0
        assert found["inputs"]["count"] == 5
