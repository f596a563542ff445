"""The lock of a name: one run at a time, healed by itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.lock import Holder, NameLock, new_holder
from tasks.errors import BusyError
from tasks.process_identity import ProcessIdentity


@pytest.fixture(autouse=True)
def _state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Takers:
    """Takes locks and notes what the lock asked for on the way."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settled: list[str] = []
        self.waited_for: list[int] = []

    def take(self, lock: NameLock, run: str) -> None:
        lock.take(
            lambda: new_holder(run, self.directory),
            dead=lambda holder: self.settled.append(holder.run),
            wait_for_keeper=self._wait,
        )

    def _wait(self, holder: Holder, keeper: ProcessIdentity) -> None:
        self.waited_for.append(keeper.pid)
        self.keeper_process.kill()
        self.keeper_process.wait()

    keeper_process: subprocess.Popen[bytes]


def a_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def identity(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    found = ProcessIdentity.of(process.pid)
    assert found is not None
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_a_second_start_of_a_name_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    takers = Takers(tmp_path)
    takers.take(NameLock("smoke"), "run-1")
    with pytest.raises(BusyError, match=r'"smoke" is held by run run-1 since .*cancel run-1'):
        takers.take(NameLock("smoke"), "run-2")
    takers.take(NameLock("another"), "run-3")


def test_a_released_lock_is_free_again(tmp_path: Path) -> None:
    takers = Takers(tmp_path)
    first = NameLock("smoke")
    takers.take(first, "run-1")
    first.release()
    takers.take(NameLock("smoke"), "run-2")
    assert takers.settled == []


def test_the_lock_of_a_dead_driver_is_taken_over_after_its_run_was_settled(tmp_path: Path) -> None:
    takers = Takers(tmp_path)
    process = a_process()
    lock = NameLock("smoke")
    takers.take(lock, "run-1")
    lock.update(replace(new_holder("run-1", tmp_path), driver=identity(process)))
    with pytest.raises(BusyError):
        takers.take(NameLock("smoke"), "run-2")
    end(process)
    takers.take(NameLock("smoke"), "run-2")
    assert takers.settled == ["run-1"]


def test_a_live_keeper_of_a_dead_driver_is_waited_for(tmp_path: Path) -> None:
    takers = Takers(tmp_path)
    driver, keeper = a_process(), a_process()
    takers.keeper_process = keeper
    lock = NameLock("smoke")
    takers.take(lock, "run-1")
    dead = replace(new_holder("run-1", tmp_path), driver=identity(driver), keeper=identity(keeper))
    lock.update(dead)
    end(driver)
    takers.take(NameLock("smoke"), "run-2")
    assert takers.waited_for == [keeper.pid]
    assert takers.settled == ["run-1"]
    keeper.communicate()


def test_a_recycled_pid_does_not_hold_a_lock(tmp_path: Path) -> None:
    takers = Takers(tmp_path)
    lock = NameLock("smoke")
    takers.take(lock, "run-1")
    me = ProcessIdentity.of_this_process()
    # The same pid, but of a process that started earlier; and one of another boot.
    for other in (replace(me, start_time=me.start_time - 1), replace(me, boot_id="another")):
        lock.update(replace(new_holder("run-1", tmp_path), driver=other))
        takers.take(NameLock("smoke"), "run-2")


def test_an_unreadable_lock_file_is_no_lock(tmp_path: Path) -> None:
    takers = Takers(tmp_path)
    lock = NameLock("smoke")
    takers.take(lock, "run-1")
    lock._path.write_text("{torn")
    takers.take(NameLock("smoke"), "run-2")


def test_releasing_does_not_take_the_lock_from_its_next_holder(tmp_path: Path) -> None:
    takers = Takers(tmp_path)
    first, second = NameLock("smoke"), NameLock("smoke")
    takers.take(first, "run-1")
    first._path.unlink()
    takers.take(second, "run-2")
    first.release()
    holder = second.holder()
    assert holder is not None
    assert holder.run == "run-2"
