"""Reading a journal, whole or while it grows."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from support.job_events import PASSED, START, Q, R, S, a_job, in_batches, way
from support.waiting import wait_for

from observers.file_tail import POLL_S
from observers.journal import Journal
from observers.journal_reader import JournalTail, read_journal
from observers.json_lines import DamagedFileError
from tasks.events import RunEnded, RunStarted
from tasks.status import RunStatus

HEAD = b'{"v":1,"event":"run_started"}\n'
LINE = b'{"event":"run_paused","by":"me"}\n'
END = b'{"event":"run_ended"}\n'


def journal_of(directory: Path, *parts: bytes) -> Path:
    path = directory / "events.jsonl"
    path.write_bytes(b"".join(parts))
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)


def test_a_journal_is_found_by_its_directory_or_its_file(tmp_path: Path) -> None:
    path = journal_of(tmp_path, HEAD, LINE)
    assert list(read_journal(tmp_path)) == list(read_journal(path))
    assert [entry["event"] for entry in read_journal(path)] == ["run_started", "run_paused"]


@pytest.mark.parametrize("torn", [LINE[:-1], LINE[:-2], LINE[:5], b"{", b"\0" * 99, b"\n", b"[]\n"])
def test_a_torn_end_is_ignored(tmp_path: Path, torn: bytes) -> None:
    assert len(list(read_journal(journal_of(tmp_path, HEAD, LINE, torn)))) == 2


def test_every_truncation_reads_as_the_whole_lines_before_it(tmp_path: Path) -> None:
    whole = HEAD + LINE + END
    for size in range(len(whole) + 1):
        entries = list(read_journal(journal_of(tmp_path, whole[:size])))
        assert len(entries) == whole[:size].count(b"\n")


def test_damage_that_whole_lines_follow_is_named(tmp_path: Path) -> None:
    path = journal_of(tmp_path, HEAD, b'{"event":"run\0\0\n', LINE)
    with pytest.raises(DamagedFileError, match=r'events.jsonl", line 2: no JSON object'):
        list(read_journal(path))


@pytest.mark.parametrize("first", [b'{"v":2,"event":"run_started"}\n', LINE])
def test_a_version_that_is_not_known_is_refused(tmp_path: Path, first: bytes) -> None:
    path = journal_of(tmp_path, first)
    with pytest.raises(DamagedFileError, match=r"this Holdfast reads version 1"):
        list(read_journal(path))
    with pytest.raises(DamagedFileError, match=r"this Holdfast reads version 1"):
        JournalTail(path).read()


def test_a_missing_journal_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_journal(tmp_path / "events.jsonl"))


def test_a_tail_hands_out_whole_lines_once_as_they_come(tmp_path: Path) -> None:
    tail = JournalTail(tmp_path)
    assert tail.read() == []
    path = journal_of(tmp_path, HEAD, LINE[:7])
    assert [entry["event"] for entry in tail.read()] == ["run_started"]
    assert tail.read() == []
    append(path, LINE[7:] + LINE)
    assert [entry["event"] for entry in tail.read()] == ["run_paused", "run_paused"]
    assert tail.read() == []
    tail.close()


def test_another_tail_goes_on_where_the_offset_says(tmp_path: Path) -> None:
    path = journal_of(tmp_path, HEAD, LINE, LINE, LINE[:9])
    first = JournalTail(path)
    assert len(first.read(2)) == 2
    assert first.offset == len(HEAD + LINE)
    second = JournalTail(path, first.offset)
    assert len(second.read()) == 1
    assert second.offset == len(HEAD + LINE + LINE)
    append(path, LINE[9:])
    assert len(second.read()) == 1
    assert len(first.read()) == 2
    first.close()
    second.close()


def test_a_tail_follows_a_line_that_a_later_writer_cut_off(tmp_path: Path) -> None:
    # The first driver was killed in the middle of a write; the settling one goes on.
    path = journal_of(tmp_path, HEAD, b'{"event":"job_status","job":"torn', b"x" * 500)
    tail = JournalTail(path)
    assert len(tail.read()) == 1
    later = Journal(tmp_path)
    later.run_ended(RunEnded(START, RunStatus.CRASHED, {}))
    later.close()
    assert [entry["event"] for entry in tail.read()] == ["run_ended"]
    tail.close()


def test_a_line_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    text = "y" * 3_000_000
    path = journal_of(tmp_path, HEAD, json.dumps({"event": "x", "text": text}).encode())
    tail = JournalTail(path)
    assert len(tail.read()) == 1
    append(path, b"\n" + LINE)
    assert [entry.get("text") for entry in tail.read()] == [text, None]
    tail.close()


def test_damage_in_mid_journal_stops_a_tail_with_the_place(tmp_path: Path) -> None:
    tail = JournalTail(journal_of(tmp_path, HEAD, b"garbage\n", LINE))
    with pytest.raises(DamagedFileError, match=f"byte {len(HEAD)}: no JSON object"):
        tail.read()
    tail.close()


def test_waiting_ends_when_something_is_appended(tmp_path: Path) -> None:
    path = journal_of(tmp_path, HEAD)
    tail = JournalTail(path)
    tail.read()
    threading.Timer(0.05, append, [path, LINE]).start()
    assert tail.wait(20) is True
    assert len(tail.read()) == 1
    tail.close()


def test_waiting_gives_up_when_the_time_is_over(tmp_path: Path) -> None:
    tail = JournalTail(journal_of(tmp_path, HEAD, LINE[:5]))
    tail.read()
    assert tail.wait(0.02) is False, "a torn line alone is nothing to read"
    tail.close()


@pytest.mark.parametrize("ask", ["wake", "stop"])
def test_wake_and_stop_end_a_wait_at_once_from_another_thread(tmp_path: Path, ask: str) -> None:
    tail = JournalTail(journal_of(tmp_path, HEAD))
    tail.read()
    returned = threading.Event()
    waiting = threading.Thread(target=lambda: (tail.wait(), returned.set()))
    waiting.start()
    assert not returned.wait(0.02)
    getattr(tail, ask)()
    assert returned.wait(20)
    waiting.join()
    tail.close()


def test_waiting_looks_at_the_file_at_most_twice_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert POLL_S >= 0.5
    tail = JournalTail(journal_of(tmp_path, HEAD))
    tail.read()
    naps: list[float | None] = []

    def nap(timeout: float | None = None) -> bool:
        naps.append(timeout)
        return False

    monkeypatch.setattr(tail._tail._awake, "wait", nap)
    assert tail.wait(2.2) is False
    assert naps == [0.5, 0.5, 0.5, 0.5, pytest.approx(0.2)]
    tail.close()


def test_following_a_run_hands_out_everything_and_ends_with_it(tmp_path: Path) -> None:
    events = [event for number in range(50) for event in way(a_job(f"j{number}"), S, Q, R, PASSED)]
    tail = JournalTail(tmp_path)
    followed: list[dict[str, object]] = []
    reader = threading.Thread(target=lambda: [followed.extend(batch) for batch in tail.follow()])
    reader.start()
    journal = Journal(tmp_path)
    journal.run_started(RunStarted(START, {}))
    for batch in in_batches(events, 1, 7, 60, 2):
        journal.jobs_changed(batch)
        tail.wake()
    wait_for(lambda: len(followed) == 1 + len(events), "every event is handed out")
    journal.run_ended(RunEnded(START, RunStatus.COMPLETED, {}))
    tail.wake()
    reader.join(20)
    assert not reader.is_alive()
    assert followed == list(read_journal(tmp_path))
    journal.close()
    tail.close()


def test_following_a_dead_run_ends_with_what_is_there(tmp_path: Path) -> None:
    tail = JournalTail(journal_of(tmp_path, HEAD, LINE))
    assert [len(batch) for batch in tail.follow(is_over=lambda: True)] == [2]
    tail.close()


def test_following_ends_after_stop_with_what_is_there(tmp_path: Path) -> None:
    tail = JournalTail(journal_of(tmp_path, HEAD, LINE))
    tail.stop()
    assert [len(batch) for batch in tail.follow()] == [2]
    tail.close()
