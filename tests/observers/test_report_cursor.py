"""The cursor of a report: durable, never ahead, never trusted when it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from observers.report_cursor import CURSOR_FILE, EVERY_S, CursorFile, ReportCursor

FLOW_RUN = "6c7b2a3e-6e4c-4a36-9d1e-0f8a6f1f2b11"
CURSOR = ReportCursor(FLOW_RUN, "http://127.0.0.1:4200/api", 1234, 10, 12, 3)


def position(offset: int, singles: int = 10) -> dict[str, int]:
    return {"offset": offset, "singles": singles, "task_runs": 12, "unconfirmed": 0}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    CURSOR.write(tmp_path)
    assert ReportCursor.read(tmp_path) == CURSOR


def test_a_run_that_was_never_reported_has_no_cursor(tmp_path: Path) -> None:
    assert ReportCursor.read(tmp_path) is None


def test_every_truncation_reads_as_no_cursor(tmp_path: Path) -> None:
    CURSOR.write(tmp_path)
    path = tmp_path / CURSOR_FILE
    whole = path.read_bytes().rstrip()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert ReportCursor.read(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"v": 99},
        {"flow_run_id": "../../etc"},
        {"flow_run_id": 5},
        {"offset": -1},
        {"offset": "0"},
        {"singles": True},
        {"api_url": 7},
        {"surprise": 1},
    ],
)
def test_a_cursor_that_is_not_ours_reads_as_none(tmp_path: Path, change: dict[str, object]) -> None:
    CURSOR.write(tmp_path)
    path = tmp_path / CURSOR_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert ReportCursor.read(tmp_path) is None


def test_it_is_written_at_once_and_then_not_for_each_small_step(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path, ReportCursor(FLOW_RUN, "url"))
    cursor.update(100.0, **position(1))
    cursor.update(100.1, **position(2))
    written = ReportCursor.read(tmp_path)
    assert written is not None
    assert written.offset == 1
    assert cursor.due_at() == 100.0 + EVERY_S
    cursor.update(100.0 + EVERY_S, **position(3))
    written = ReportCursor.read(tmp_path)
    assert written is not None
    assert written.offset == 3
    assert cursor.due_at() is None


def test_how_many_jobs_are_told_one_by_one_is_on_disk_before_the_first_is(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path, ReportCursor(FLOW_RUN, "url"))
    cursor.update(100.0, **position(1, singles=10))
    cursor.update(100.1, **position(1, singles=20))
    written = ReportCursor.read(tmp_path)
    assert written is not None
    assert written.singles == 20


def test_flush_writes_what_was_held_back(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path, ReportCursor(FLOW_RUN, "url"))
    cursor.update(100.0, **position(1))
    cursor.update(100.1, **position(2))
    cursor.flush(100.2)
    written = ReportCursor.read(tmp_path)
    assert written is not None
    assert written.offset == 2
