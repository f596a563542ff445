"""No completion is lost on its way through the spool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.small_disk import fill, mounted_disk

from backends.completion_spool import SpoolReader, completion_of, read_spool
from backends.keeper.spool import Spool
from tasks.spec import JobRecord
from tasks.status import CauseKind, JobStatus


def line(number: int) -> bytes:
    return json.dumps({"number": number, "attempt": 1}).encode()


def numbers(entries: list[dict[str, int]]) -> list[int]:
    return [entry["number"] for entry in entries]


def test_what_is_written_is_read_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool, seen = Spool(str(path), print), []
    reader = SpoolReader(path)
    for number in range(11):
        spool.append(line(number))
        if number % 3 == 0:
            assert spool.flush()
            seen += numbers(reader.read())
    assert not spool.in_trouble
    assert spool.flush()
    assert not spool.flush()
    assert seen + numbers(reader.read()) == list(range(11))
    assert numbers(read_spool(path)) == list(range(11))
    reader.close()


@pytest.mark.parametrize("cut", range(1, len(line(0)) + 1))
def test_a_torn_end_waits_for_its_rest(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "spool"
    whole = line(0) + b"\n"
    path.write_bytes(whole[:cut])
    reader = SpoolReader(path)
    assert reader.read() == []
    with path.open("ab") as stream:
        stream.write(whole[cut:])
    assert numbers(reader.read()) == [0]
    reader.close()


@pytest.mark.parametrize("cut", range(len(line(0)) + 2))
def test_the_next_keeper_mends_what_the_last_one_left_torn(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "spool"
    path.write_bytes((line(0) + b"\n")[:cut])
    spool = Spool(str(path), print)
    spool.append(line(1))
    spool.flush()
    expected = [0, 1] if cut > len(line(0)) - 1 else [1]
    assert numbers(read_spool(path)) == expected


def test_a_link_in_the_place_of_the_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="spool"):
        Spool(str(tmp_path / "spool"), print)
    assert not (tmp_path / "outside").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "disk", kilobytes=64) as folder:
        yield folder


def test_a_full_disk_loses_no_completion(small_disk: Path) -> None:
    """Sabotage: backends/keeper/spool.py: del self._waiting[:written] -> self._waiting.clear()"""
    troubles: list[str] = []
    path = small_disk / "spool"
    spool = Spool(str(path), troubles.append)
    ballast = small_disk / "ballast"
    fill(ballast)
    for number in range(5000):
        spool.append(line(number))
        if number % 100 == 99:
            spool.flush()
    assert spool.in_trouble
    assert len(troubles) == 1
    assert "No space left" in troubles[0]
    ballast.unlink()
    spool.flush()  # fills the disk again, so something is left for the other way
    reader = SpoolReader(path)
    first = numbers(reader.read())
    assert 0 < len(first) < 5000
    rest = numbers(reader.continue_with(spool.take_waiting()))
    assert first + rest == list(range(5000))
    assert not spool.waiting
    reader.close()


def test_the_wait_between_two_tries_grows_to_a_bound_and_starts_anew(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool"), print)
    waits = [spool.retry_in_s() for _ in range(8)]
    assert waits == sorted(waits)
    assert waits[-1] == waits[-2] == 5.0


JOB = JobRecord("a", "true", (), {"timeout_s": 1.5})
FACTS = {"number": 1, "attempt": 1, "ended_at": 5.0}


@pytest.mark.parametrize(
    ("facts", "status", "kind"),
    [
        ({"exit_code": 0}, JobStatus.PASSED, None),
        ({"exit_code": 2}, JobStatus.FAILED, CauseKind.EXIT_CODE),
        ({"signal": 11}, JobStatus.FAILED, CauseKind.SIGNAL),
        ({"signal": 9, "out_of_memory": True}, JobStatus.FAILED, CauseKind.OUT_OF_MEMORY),
        ({"launch_error": "no program"}, JobStatus.FAILED, CauseKind.LAUNCH_ERROR),
        ({"signal": 15, "killed": "request"}, JobStatus.KILLED, None),
        ({"exit_code": 0, "killed": "timeout"}, JobStatus.KILLED, CauseKind.TIMEOUT),
        ({"signal": 15, "killed": "driver_lost"}, JobStatus.KILLED, CauseKind.DRIVER_LOST),
        ({"signal": 15, "killed": "control"}, JobStatus.KILLED, CauseKind.CANCELLED),
    ],
)
def test_facts_mean_a_status_and_one_cause(
    facts: dict[str, object], status: JobStatus, kind: CauseKind | None
) -> None:
    completion = completion_of({**FACTS, **facts}, JOB, "jobs/a/log.txt")
    assert completion.status is status
    assert (completion.cause.kind if completion.cause else None) is kind


def test_who_outlived_sigkill_is_named_in_the_cause() -> None:
    facts = {**FACTS, "killed": "timeout", "stuck": ["17 (dd)"]}
    cause = completion_of(facts, JOB, "log").cause
    assert cause is not None
    assert "17 (dd)" in cause.message
    assert cause.context["stuck"] == ["17 (dd)"]
