"""Real adapter programs that misbehave in every way, each run as a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.experiments import HUNG, run_jobs, write_suite

from tasks.experiment_compare import failure_of
from tasks.experiment_files import ExperimentFiles
from tasks.experiment_graph import experiment_jobs
from tasks.experiment_suite import load_suite

GOOD = "write({'value': cases})"

# For each library: its program, the exit code of its job, the kind of cause, a word of it.
MISBEHAVIOUR: dict[str, tuple[str, int | str, str, str]] = {
    "crash": ("sys.exit(3)", 3, "exit_code", "exited with code 3"),
    "raises": ("1 / 0", 1, "exit_code", "exited with code 1"),
    "late_crash": (f"{GOOD}\nsys.exit(5)", 5, "exit_code", "exited with code 5"),
    "segfault": (
        f"{GOOD}\nos.kill(os.getpid(), signal.SIGSEGV)",
        -11,
        "signal",
        "ended by SIGSEGV",
    ),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", -9, "signal", "ended by SIGKILL"),
    "silent": ("pass", 1, "unusable_results", "there is no"),
    "garbage": ("open(results, 'w').write('all is well')", 1, "unusable_results", "no JSON"),
    "half": (
        f"{GOOD}\nos.truncate(results, os.path.getsize(results) // 2)",
        1,
        "unusable_results",
        "no JSON document",
    ),
    "nan": (
        "write({'value': [float('nan')] * len(cases)})",
        1,
        "unusable_results",
        "holds NaN",
    ),
    "overflow": (
        "open(results, 'w').write('{\"results\": {\"value\": [' + ','.join(['1e999'] * 5) + ']}}')",
        1,
        "unusable_results",
        "not finite",
    ),
    "short": ("write({'value': cases[1:]})", 1, "unusable_results", "4 values for 5 cases"),
    "words": ("write({'value': ['x'] * 5})", 1, "unusable_results", "which is no number"),
    "stale": (
        "write({'value': cases}, dataset_fingerprint='sha256:0')",
        1,
        "unusable_results",
        "answers other cases",
    ),
    "nameless": ("write({'other': cases})", 1, "unusable_results", 'no "value"'),
    "hanging": (
        "print('hanging', flush=True)\ntime.sleep(3600)",
        HUNG,
        "timeout",
        "took longer than 2 s",
    ),
}

WELL_BEHAVED = {
    "near": "write({'value': [case + 0.25 for case in cases]}, version='1.2')",
    "far": "write({'value': [case + 2 for case in cases]})",
    "absent": "write({}, status='not available', reason='no such quantity')",
    "partly": "write({}, not_available={'value': 'not this one'})",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int | str]]:
    folder = tmp_path_factory.mktemp("misbehaviour")
    bodies = {library: body for library, (body, *_) in MISBEHAVIOUR.items()}
    suite = load_suite(write_suite(folder, WELL_BEHAVED | bodies))
    directory = folder / "run"
    directory.mkdir()
    jobs = experiment_jobs(suite, n=5, seed=3, directory=directory)
    codes = run_jobs(jobs[:-1], hangs=lambda job: job.id == "echo.hanging")
    # What the journal says of the job that its time limit ended.
    cause = {"kind": "timeout", "message": "took longer than 2 s", "context": {}}
    ended = {"event": "job_status", "job": "echo.hanging", "to": "killed", "cause": cause}
    torn = '{"event": "job_status", "job": "echo.hanging", "ca'
    (directory / "events.jsonl").write_text(json.dumps(ended) + "\n" + torn)
    return directory, codes | run_jobs([_without_needs(jobs[-1])])


def _without_needs(job: Any) -> Any:
    return type(job)(job.id, job.command, (), job.rest)


def document(directory: Path, library: str) -> dict[str, Any]:
    value = json.loads((directory / "publication" / "echo" / f"{library}.json").read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("library", MISBEHAVIOUR)
def test_a_misbehaving_adapter_fails_its_own_job_and_is_marked_with_its_cause(
    run: tuple[Path, dict[str, int | str]], library: str
) -> None:
    directory, codes = run
    _, code, kind, words = MISBEHAVIOUR[library]
    assert codes[f"echo.{library}"] == code
    found = document(directory, library)
    assert found["status"] == "failed"
    assert found["cause"]["kind"] == kind
    assert words in found["cause"]["message"]
    assert found["accuracy"] is None
    assert found["performance"] is None


def test_the_others_are_compared_as_if_nothing_had_happened(
    run: tuple[Path, dict[str, int | str]],
) -> None:
    directory, codes = run
    assert codes["echo.compare"] == 0
    assert set(document(directory, "reference")["accuracy"]["difference_m"].values()) == {0.0}
    assert set(document(directory, "near")["accuracy"]["difference_m"].values()) == {0.25}
    assert set(document(directory, "far")["accuracy"]["difference_m"].values()) == {2.0}


def test_a_library_without_the_quantity_is_not_available_and_no_failure(
    run: tuple[Path, dict[str, int | str]],
) -> None:
    directory, codes = run
    for library, reason in (("absent", "no such quantity"), ("partly", "not this one")):
        assert codes[f"echo.{library}"] == 0
        found = document(directory, library)
        assert (found["status"], found["cause"]) == ("not available", None)
        assert found["reason"] == reason


def test_an_expectation_is_held_against_the_median(
    run: tuple[Path, dict[str, int | str]],
) -> None:
    directory, _ = run
    met = {
        library: document(directory, library)["alignment"]["expected_agreement"][0]["met"]
        for library in ("near", "far", "crash", "absent")
    }
    assert met == {"near": True, "far": False, "crash": None, "absent": None}


def test_a_document_names_its_inputs_and_versions(
    run: tuple[Path, dict[str, int | str]],
) -> None:
    directory, _ = run
    found = document(directory, "near")
    assert found["inputs"]["count"] == 5
    assert found["inputs"]["seed"] == 3
    assert found["inputs"]["dataset_fingerprint"].startswith("sha256:")
    assert found["run_metadata"]["library_version"] == "1.2"
    assert found["candidate_library"] == "near"
    assert found["reference_library"] == "reference"


def test_the_summary_tells_of_every_library(run: tuple[Path, dict[str, int | str]]) -> None:
    directory, _ = run
    text = (directory / "publication" / "echo" / "summary.md").read_text()
    assert "| far | difference (m) | 2 | 2 | 2 | 2 |" in text
    assert "| crash | difference (m) | failed |" in text
    assert "- Failed: the adapter exited with code 3" in text
    assert "- Not available: no such quantity" in text
    assert "at most 0.5 m: NOT met" in text


def test_an_adapter_that_cannot_be_started_fails_with_what_is_missing(tmp_path: Path) -> None:
    path = write_suite(tmp_path, {"other": GOOD})
    path.write_text(path.read_text().replace("(sys.executable,", "('./no-such-program',"))
    jobs = experiment_jobs(load_suite(path), n=2, directory=tmp_path)
    codes = run_jobs(jobs)
    assert codes == {"echo.generate": 0, "echo.reference": 127, "echo.other": 127}
    failure = json.loads((tmp_path / "experiments/echo/other.failure.json").read_text())
    assert failure["kind"] == "launch_error"
    assert "no-such-program" in failure["message"]


def test_without_the_reference_nothing_is_compared_and_nothing_is_published(
    tmp_path: Path,
) -> None:
    suite = load_suite(write_suite(tmp_path, {"reference": "sys.exit(3)", "other": GOOD}))
    codes = run_jobs(experiment_jobs(suite, n=2, directory=tmp_path))
    assert codes["echo.compare"] == 1
    assert not (tmp_path / "publication").exists()
    log = (tmp_path / "echo.compare.log").read_text()
    assert 'the reference "reference" has no usable results (the adapter exited with code 3)' in log


def test_a_second_attempt_forgets_the_failure_of_the_first(tmp_path: Path) -> None:
    flaky = f"if not os.path.exists('tried'):\n    open('tried', 'w')\n    sys.exit(3)\n{GOOD}"
    suite = load_suite(write_suite(tmp_path, {"flaky": flaky}))
    generate, reference, adapter, compare = experiment_jobs(suite, n=2, directory=tmp_path)
    assert run_jobs([generate, reference, adapter])["echo.flaky"] == 3
    assert run_jobs([_without_needs(adapter), _without_needs(compare)]) == {
        "echo.flaky": 0,
        "echo.compare": 0,
    }
    assert document(tmp_path, "flaky")["status"] == "completed"
    assert not (tmp_path / "experiments/echo/flaky.failure.json").exists()


def test_results_of_an_earlier_attempt_do_not_stand_for_one_that_failed(tmp_path: Path) -> None:
    once = f"if os.path.exists('tried'):\n    sys.exit(3)\nopen('tried', 'w')\n{GOOD}"
    suite = load_suite(write_suite(tmp_path, {"once": once}))
    generate, reference, adapter, compare = experiment_jobs(suite, n=2, directory=tmp_path)
    assert run_jobs([generate, reference, adapter])["echo.once"] == 0
    assert run_jobs([_without_needs(adapter), _without_needs(compare)])["echo.compare"] == 0
    assert document(tmp_path, "once")["status"] == "failed"


@pytest.mark.parametrize(
    ("kind", "message"),
    [("exit_code", "by itself"), ("signal", "by itself"), ("out_of_memory", "recorded")],
)
def test_the_cause_is_told_by_whoever_knows_it_best(
    tmp_path: Path, kind: str, message: str
) -> None:
    files = ExperimentFiles(tmp_path, "echo")
    files.folder.mkdir(parents=True)
    files.failure("other").write_text('{"kind": "signal", "message": "by itself"}')
    cause = {"kind": kind, "message": "recorded"}
    event = {"event": "job_status", "job": "echo.other", "cause": cause}
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert failure_of(files, "other", "echo.other")["message"] == message


def test_a_cause_that_nobody_knows_points_to_the_log(tmp_path: Path) -> None:
    found = failure_of(ExperimentFiles(tmp_path, "echo"), "other", "echo.other")
    assert found["message"] == 'job "echo.other" ended without results; its log says more'


def test_a_comparison_that_raises_for_one_library_fails_compare_and_spares_the_others(
    tmp_path: Path,
) -> None:
    path = write_suite(tmp_path, {"odd": "write({'value': [7 for _ in cases]})", "even": GOOD})
    path.write_text(
        path.read_text().replace(
            "        if ours is None",
            "        if reference is not candidate and theirs[0] == 7:\n"
            "            raise RuntimeError('sevens')\n"
            "        if ours is None",
        )
    )
    codes = run_jobs(experiment_jobs(load_suite(path), n=2, seed=0, directory=tmp_path))
    assert codes["echo.odd"] == 0
    assert codes["echo.compare"] == 1
    assert "RuntimeError: sevens" in document(tmp_path, "odd")["cause"]["message"]
    assert document(tmp_path, "even")["status"] == "completed"


def test_a_changed_answer_changes_the_figure(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path, {"other": GOOD}))
    jobs = experiment_jobs(suite, n=3, directory=tmp_path)
    run_jobs(jobs)
    assert document(tmp_path, "other")["accuracy"]["difference_m"]["max"] == 0.0
    results = tmp_path / "experiments/echo/other.results.json"
    answers = json.loads(results.read_text())
    answers["results"]["value"][1] += 0.125
    results.write_text(json.dumps(answers))
    run_jobs([_without_needs(jobs[-1])])
    assert document(tmp_path, "other")["accuracy"]["difference_m"]["max"] == 0.125


def test_an_unknown_experiment_or_library_is_bad_usage(tmp_path: Path) -> None:
    path = write_suite(tmp_path, {})
    generate = experiment_jobs(load_suite(path), directory=tmp_path)[0]
    program = generate.command[:5]
    for words in (("nobody", "compare"), ("echo", "adapter", "nobody")):
        wrong = type(generate)("wrong", (*program, *words), (), generate.rest)
        assert run_jobs([wrong]) == {"wrong": 2}
        assert '"nobody"' in (tmp_path / "wrong.log").read_text()


def test_cases_that_are_no_json_or_none_at_all_fail_generate(tmp_path: Path) -> None:
    for cases in ("[float('nan')]", "[]", "[object()]"):
        path = write_suite(tmp_path, {})
        path.write_text(path.read_text().replace("[seed + index for index in range(n)]", cases))
        codes = run_jobs(experiment_jobs(load_suite(path), directory=tmp_path))
        assert codes == {"echo.generate": 1}
    assert not (tmp_path / "experiments").exists()
