"""The journal: one line for each event, in order, on disk before anybody else is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.job_events import FAILED, KILLED, PASSED, START, Q, R, S, a_job, changed, way
from support.python_path import PYTHON_PATH

from observers.append_file import AppendError
from observers.dispatch import Observers
from observers.journal import Journal, _job_status_line, _TimeText
from observers.journal_reader import read_journal
from tasks.errors import HoldfastError
from tasks.events import (
    Adopted,
    JobChanged,
    JobEnd,
    KeeperLost,
    KillRequested,
    ObserverFailed,
    RunEnded,
    RunPaused,
    RunStarted,
    RunUnpaused,
    iso_utc,
)
from tasks.status import Cause, CauseKind, JobStatus, RunStatus

STARTED = RunStarted(START, {"run": "r1", "name": "smoke", "status": "running"})
ENDED = RunEnded(START + 9, RunStatus.COMPLETED, {"passed": 1})

numbers = st.none() | st.integers(0, 2**40) | st.floats(0, 1e9)
ends = st.builds(
    JobEnd,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.sampled_from(signal.Signals),
    skipped=st.booleans(),
    runtime_s=numbers,
    cpu_s=numbers,
    max_rss_bytes=st.none() | st.integers(0, 2**50),
    leftovers_killed=st.integers(0, 9999),
)
causes = st.builds(
    Cause,
    st.sampled_from(CauseKind),
    st.text(),
    st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text(), max_size=3)),
)
changes = st.builds(
    JobChanged,
    at=st.floats(0, 4e9),
    job=st.text(min_size=1).map(a_job),
    before=st.sampled_from(JobStatus),
    after=st.sampled_from(JobStatus),
    attempt=st.integers(0, 10**6),
    backend=st.text(),
    cause=st.none() | causes,
    end=st.none() | ends,
)


@given(event=changes)
def test_the_hand_written_line_is_what_the_json_encoder_would_write(event: JobChanged) -> None:
    line = _job_status_line(event, _TimeText().text(event.at))
    assert line.count("\n") == 1
    assert line.endswith("}\n")
    assert line.isascii()
    written = json.loads(line)
    assert written == json.loads(json.dumps(event.journal_entry()))
    assert list(written) == list(event.journal_entry())


@given(times=st.lists(st.floats(0, 4e9) | st.floats(START, START + 2), min_size=1))
def test_times_are_written_as_iso_utc_writes_them(times: list[float]) -> None:
    written = _TimeText()
    for at in [*times, times[0], times[0]]:
        assert written.text(at) == iso_utc(at)


@pytest.mark.parametrize("at", [START + 0.999_999_6, START + 0.000_000_4, START, 0.999_999_9])
def test_times_are_rounded_across_the_second_as_iso_utc_does(at: float) -> None:
    assert _TimeText().text(at) == iso_utc(at)


def test_figures_that_json_cannot_say_are_null() -> None:
    end = JobEnd(runtime_s=float("inf"), cpu_s=float("nan"))
    line = _job_status_line(changed(a_job(), R, PASSED, end=end), "")
    assert json.loads(line)["runtime_s"] is None
    assert json.loads(line)["cpu_s"] is None


def test_every_event_is_one_line_in_the_order_in_which_it_happened(tmp_path: Path) -> None:
    batch = way(a_job(), S, Q, R, FAILED)
    others = [
        KillRequested(START, "me", "reason", ["test-1"]),
        KillRequested(START, "me", "reason"),
        RunPaused(START, "me", now=True),
        RunUnpaused(START, "me"),
        KeeperLost(START, "killed"),
        Adopted(START, ["test-1"]),
        ObserverFailed(START, "links", "OSError: no"),
    ]
    journal = Observers([Journal(tmp_path)])
    journal.run_started(STARTED)
    journal.jobs_changed(batch[:1])
    journal.jobs_changed(batch[1:])
    journal.kill_requested(others[0])  # type: ignore[arg-type]
    journal.kill_requested(others[1])  # type: ignore[arg-type]
    journal.run_paused(others[2])  # type: ignore[arg-type]
    journal.run_unpaused(others[3])  # type: ignore[arg-type]
    journal.keeper_lost(others[4])  # type: ignore[arg-type]
    journal.adopted(others[5])  # type: ignore[arg-type]
    journal._forward("observer_failed", others[6])
    journal.run_ended(ENDED)
    journal.close()
    expected = [event.journal_entry() for event in [STARTED, *batch, *others, ENDED]]
    expected[0] = {"v": 1, **expected[0]}
    assert [json.loads(line) for line in lines(tmp_path)] == expected
    assert lines(tmp_path)[0].startswith('{"v":1,"at":"')


def test_each_batch_is_one_write_and_readable_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    real_write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    journal = Journal(tmp_path)
    for count in (1, 100):
        writes.clear()
        journal.jobs_changed([changed(a_job(), Q, R)] * count)
        assert len(writes) == 1
    assert len(lines(tmp_path)) == 101
    journal.close()


def test_what_was_written_survives_sigkill_of_the_writer(tmp_path: Path) -> None:
    # Sabotage: a buffered stream without a flush for each batch loses the lines.
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from support.job_events import *; from observers.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.jobs_changed(way(a_job(), S, Q, R, PASSED))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment)
    assert ended.returncode == -signal.SIGKILL
    assert [entry["to"] for entry in read_journal(tmp_path)] == ["queued", "running", "passed"]


def test_the_journal_is_on_the_disk_when_the_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    journal = Journal(tmp_path)
    journal.jobs_changed(way(a_job(), S, Q, R, PASSED))
    assert synced == []
    journal.run_ended(ENDED)
    assert synced[0] == journal.path.stat().st_size
    assert len(synced) == 2, "the file and its name in the folder"
    journal.close()
    assert len(synced) == 2, "nothing was left to sync"


def test_a_full_disk_stops_the_run_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    observers = Observers([Journal(tmp_path)])
    stops: list[HoldfastError] = []
    observers.when_essential_fails(stops.append)
    observers.jobs_changed(way(a_job(), S, Q))
    observers.jobs_changed(way(a_job(), S, Q))
    (error,) = stops
    assert isinstance(error, AppendError)
    assert error.exit_code == 70
    assert str(error) == (
        f'cannot write "{tmp_path}/events.jsonl": No space left on device; '
        "free some space, then start the run again; what was written so far is kept"
    )


def test_a_journal_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(AppendError, match=r'cannot write ".*/events.jsonl": Is a directory'):
        Journal(tmp_path).run_started(STARTED)


@pytest.mark.parametrize(
    "torn", [b"", b'{"at":"2026', b'{"at":"2026"', b"\0" * 5000, b"\n", b'{"a":1}{"b'], ids=repr
)
def test_a_later_writer_goes_on_after_the_last_whole_line(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path)
    journal.run_started(STARTED)
    journal.close()
    with (tmp_path / "events.jsonl").open("ab") as stream:
        stream.write(torn)
    journal = Journal(tmp_path)
    journal.run_ended(ENDED)
    journal.close()
    entries = [json.loads(line) for line in lines(tmp_path)]
    assert [entry["event"] for entry in entries] == ["run_started", "run_ended"]
    assert "v" not in entries[1], "the version stands on the first line alone"


def test_a_torn_line_longer_than_a_block_is_cut_off_whole(tmp_path: Path) -> None:
    whole = b'{"event":"run_started","v":1}\n'
    (tmp_path / "events.jsonl").write_bytes(whole + b'{"x":"' + b"y" * 200_000)
    journal = Journal(tmp_path)
    journal.run_ended(ENDED)
    journal.close()
    assert len(lines(tmp_path)) == 2


def test_a_journal_of_nothing_but_a_torn_line_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"v":1,"at":"20')
    journal = Journal(tmp_path)
    journal.run_started(STARTED)
    journal.close()
    (entry,) = read_journal(tmp_path)
    assert entry["v"] == 1


def test_a_journal_that_nothing_happened_to_is_not_there(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_hostile_text_stays_inside_its_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    text = 'a"\n{"event":"run_ended"}\n\x1b[31m\ud800 é'
    cause = Cause(CauseKind.LAUNCH_ERROR, text, {"path": Path("/x"), text: {"deep": [1]}})
    journal.jobs_changed([changed(a_job(text), R, KILLED, cause=cause, backend=text)])
    journal.kill_requested(KillRequested(START, text, text))
    journal.close()
    first, second = read_journal(tmp_path)
    assert first["job"] == first["backend"] == first["cause"]["message"] == text
    assert first["cause"]["context"] == {"path": "/x", text: {"deep": [1]}}
    assert second["by"] == text


def lines(directory: Path) -> list[str]:
    return (directory / "events.jsonl").read_text().splitlines()
