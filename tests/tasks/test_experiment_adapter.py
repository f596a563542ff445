from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.experiment_adapter import NotAvailable, run_adapter
from tasks.experiment_files import CaseSet


@pytest.fixture
def case_file(tmp_path: Path) -> Path:
    path = tmp_path / "cases.json"
    CaseSet.of("doubling", 3, 1, 4, [1.0, 2.0, 3.0]).write(path)
    return path


def answer(case_file: Path, experiments: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    results = case_file.with_name("results.json")
    words = [str(case_file), str(results)]
    assert run_adapter("lib", experiments, arguments=words, **more) == 0
    value = json.loads(results.read_text())
    assert isinstance(value, dict)
    return value


def test_answers_and_their_circumstances_are_written(case_file: Path) -> None:
    def doubling(cases: Sequence[float]) -> Callable[[], dict[str, Any]]:
        return lambda: {"doubled": np.array(cases) * 2, "listed": [case * 2 for case in cases]}

    found = answer(case_file, {"doubling": doubling}, distribution="numpy")
    assert found["results"] == {"doubled": [2.0, 4.0, 6.0], "listed": [2.0, 4.0, 6.0]}
    assert found["status"] == "completed"
    assert found["version"] == np.__version__
    assert found["dataset_fingerprint"] == CaseSet.read(case_file).dataset_fingerprint


def test_the_warm_up_is_not_timed_and_each_round_is(
    case_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = 0
    durations_ns = [900, 30, 60, 90, 120]

    def compute() -> dict[str, Any]:
        nonlocal now_ns
        now_ns += durations_ns.pop(0)
        return {"doubled": [0, 0, 0]}

    monkeypatch.setattr("time.perf_counter_ns", lambda: now_ns)
    found = answer(case_file, {"doubling": lambda cases: compute})
    assert found["performance"] == {"per_op_ns": [10.0, 20.0, 30.0, 40.0]}
    assert durations_ns == []


def test_an_adapter_says_whether_it_was_timed_alone(
    case_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubling(cases: Sequence[float]) -> Callable[[], dict[str, Any]]:
        return lambda: {"doubled": cases}

    for word, alone in (("shared", False), ("alone", True)):
        monkeypatch.setenv("EXPERIMENT_TIMING", word)
        found = answer(case_file, {"doubling": doubling})
        assert found["run_metadata"]["timed_alone"] is alone


def test_a_quantity_that_is_not_available_is_no_result(case_file: Path) -> None:
    def doubling(cases: Sequence[float]) -> Callable[[], dict[str, Any]]:
        return lambda: {"doubled": cases, "tripled": NotAvailable("no threes")}

    found = answer(case_file, {"doubling": doubling})
    assert found["not_available"] == {"tripled": "no threes"}
    assert set(found["results"]) == {"doubled"}


def test_an_experiment_that_the_library_does_not_know_is_not_available(case_file: Path) -> None:
    assert answer(case_file, {})["status"] == "not available"
    found = answer(case_file, {"doubling": lambda cases: NotAvailable("only halves")})
    assert (found["status"], found["reason"]) == ("not available", "only halves")
    assert "results" not in found


def test_nan_is_not_written_and_leaves_no_file(case_file: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        answer(case_file, {"doubling": lambda cases: lambda: {"doubled": [float("nan")] * 3}})
    assert [path.name for path in case_file.parent.iterdir()] == ["cases.json"]


def test_missing_arguments_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_adapter("lib", {}, arguments=["cases.json"]) == 2
    assert "CASES RESULTS" in capsys.readouterr().err


def test_equal_cases_have_equal_fingerprints_and_others_have_not() -> None:
    def fingerprint(cases: Sequence[Any]) -> str:
        return CaseSet.of("x", 1, 1, 0, cases).dataset_fingerprint

    assert fingerprint([{"a": 1.0, "b": (2, 3)}]) == fingerprint([{"b": [2, 3], "a": 1.0}])
    assert fingerprint([0.1 + 0.2]) != fingerprint([0.3])
