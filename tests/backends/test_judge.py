"""Passed needs exit code 0 and every declared check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.judge import cause_of_checks, cause_of_exit, has_checks, signal_name
from tasks.events import JobEnd
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind


def checked(folder: Path, log: bytes = b"", **fields: Any) -> Cause | None:
    path = folder / "log.txt"
    path.write_bytes(log)
    return cause_of_checks(JobRecord("job", "true", (), fields), cwd=folder, log=path)


def kind(cause: Cause | None) -> CauseKind | None:
    return cause.kind if cause else None


def test_only_jobs_that_declare_checks_pay_for_them() -> None:
    assert not has_checks(JobRecord("a", "true", (), {"timeout_s": 3}))
    for field in ("outputs", "pass_patterns", "fail_patterns"):
        assert has_checks(JobRecord("a", "true", (), {field: ("x",)}))


@pytest.mark.parametrize(
    ("end", "out_of_memory", "expected"),
    [
        (JobEnd(exit_code=0), False, None),
        (JobEnd(exit_code=3), False, (CauseKind.EXIT_CODE, "exit code 3")),
        (JobEnd(signal=11), False, (CauseKind.SIGNAL, "killed by signal 11 (SIGSEGV)")),
        (JobEnd(signal=9), True, (CauseKind.OUT_OF_MEMORY, None)),
    ],
)
def test_an_exit_has_one_cause(
    end: JobEnd, out_of_memory: bool, expected: tuple[CauseKind, str | None] | None
) -> None:
    cause = cause_of_exit(end, "jobs/a/log.txt", out_of_memory=out_of_memory)
    assert kind(cause) is (expected[0] if expected else None)
    if cause is not None and expected is not None:
        assert expected[1] in (cause.message, None)
        assert cause.context["log"] == "jobs/a/log.txt"


def test_a_signal_without_a_name_is_told_by_number() -> None:
    assert signal_name(41).startswith("SIGRT")
    assert signal_name(15) == "SIGTERM"


@pytest.mark.parametrize("pattern", ["made/*.txt", "**/b.txt", "made/b.txt", "made", "*/.hidden"])
def test_an_output_may_be_any_file_that_the_glob_finds(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "b.txt").touch()
    (tmp_path / "made" / ".hidden").touch()
    assert checked(tmp_path, outputs=(pattern,)) is None


def test_an_output_whose_name_looks_like_a_glob_is_taken_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "out[1].txt").touch()
    assert checked(tmp_path, outputs=("out[1].txt",)) is None


def test_an_absolute_output_is_looked_for_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "there.txt").touch()
    assert checked(tmp_path, outputs=(f"{tmp_path}/th*.txt",)) is None


def test_a_missing_output_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    cause = checked(tmp_path, outputs=("a", "b*"))
    assert kind(cause) is CauseKind.MISSING_OUTPUT
    assert cause is not None
    assert '"b*"' in cause.message
    assert cause.context["output"] == "b*"


def test_a_dangling_link_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    assert kind(checked(tmp_path, outputs=("o*",))) is CauseKind.MISSING_OUTPUT


def test_one_fail_pattern_is_enough_and_its_line_is_quoted_harmlessly(tmp_path: Path) -> None:
    log = b"fine\n\x1b[31mUVM_ERROR\x1b[0m \x07" + b"x" * 5000 + b"\n"
    cause = checked(tmp_path, log, fail_patterns=("absent", "UVM_ERROR"), pass_patterns=("fine",))
    assert kind(cause) is CauseKind.FAIL_PATTERN
    assert cause is not None
    assert cause.context["line_number"] == 2
    line = str(cause.context["line"])
    assert "UVM_ERROR" in line
    assert "\x1b" not in cause.message
    assert len(line) <= 300


def test_every_pass_pattern_must_match(tmp_path: Path) -> None:
    assert checked(tmp_path, b"A\nB\n", pass_patterns=("A", "B")) is None
    cause = checked(tmp_path, b"A\n", pass_patterns=("A", "B"))
    assert kind(cause) is CauseKind.MISSING_PASS_PATTERN
    assert cause is not None
    assert cause.context["pattern"] == "B"


def test_a_log_that_cannot_be_read_passes_nothing(tmp_path: Path) -> None:
    job = JobRecord("job", "true", (), {"fail_patterns": ("x",)})
    cause = cause_of_checks(job, cwd=tmp_path, log=tmp_path / "missing")
    assert kind(cause) is CauseKind.FAIL_PATTERN
