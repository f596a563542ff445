"""``doctor`` looks at the folder of sockets and locks, and at what dead runs left there."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from pathlib import Path

import pytest
from support.examined import Examined, a_dead_process, examined, of_level

from flows.diagnosis.finding import Finding, Level
from flows.diagnosis.locks import check_locks
from flows.diagnosis.sockets import check_sockets
from flows.lock import Holder, NameLock, new_holder
from flows.places import short_folder, socket_path, state_directory
from flows.run_directory import RunFile
from tasks.run_context import new_run_number
from tasks.status import RunStatus

__all__ = ["examined"]


def sockets(place: Examined, *, fix: bool = False) -> dict[str, Finding]:
    return {each.subject: each for each in check_sockets(place.examination(fix=fix))}


# -- the folder ------------------------------------------------------------------------------


def test_a_folder_for_this_user_alone_with_a_short_path_is_fine(examined: Examined) -> None:
    found = sockets(examined)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert "of 107" in found["path length"].message


def test_a_folder_that_others_may_enter_is_told(examined: Examined) -> None:
    state_directory().chmod(0o755)
    found = sockets(examined)["folder"]
    assert found.level is Level.WARNING
    assert "755" in found.message
    assert found.advice.startswith("chmod 700")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_a_problem(examined: Examined) -> None:
    os.chown(state_directory(), 12_345, -1)
    found = sockets(examined)["folder"]
    assert found.level is Level.PROBLEM
    assert "12345" in found.message


def test_a_folder_that_cannot_be_made_is_a_problem(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    (examined.place / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(examined.place / "file"))
    (found,) = sockets(examined).values()
    assert found.level is Level.PROBLEM
    assert "XDG_STATE_HOME" in found.advice


def test_a_path_that_is_too_long_for_a_socket_is_told_with_where_sockets_lie_instead(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = examined.place / ("long" * 25)
    monkeypatch.setenv("XDG_STATE_HOME", str(long))
    found = sockets(examined)["path length"]
    assert found.level is Level.WARNING
    assert str(short_folder()) in found.message
    assert socket_path(new_run_number(), "driver").parent == short_folder()
    assert sockets(examined)["short folder"].level is Level.OK


def test_a_link_that_somebody_laid_in_the_place_of_the_short_folder_is_a_problem(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(examined.place / ("long" * 25)))
    short_folder().symlink_to(examined.runs)
    assert sockets(examined)["short folder"].level is Level.PROBLEM


# -- stale sockets ---------------------------------------------------------------------------


def a_socket(kind: str, *, age_s: float) -> tuple[socket.socket, Path]:
    path = socket_path(new_run_number(), kind)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return listener, path


def test_a_socket_that_nobody_listens_at_is_named_and_removed_by_fix(examined: Examined) -> None:
    listener, path = a_socket("keeper", age_s=3600)
    listener.close()
    found = sockets(examined)["stale"]
    assert found.level is Level.WARNING
    assert path.name in found.message
    assert path.exists()
    assert sockets(examined, fix=True)["stale"].message.endswith("removed")
    assert not path.exists()
    assert sockets(examined)["stale"].message == "no socket without a listener"


def test_neither_a_listening_socket_nor_a_new_one_nor_any_other_file_is_removed(
    examined: Examined,
) -> None:
    listening, old = a_socket("driver", age_s=3600)
    listening.listen()
    being_made, new = a_socket("keeper", age_s=0)
    file = state_directory() / "8000000001.driver"
    file.touch()
    os.utime(file, (0, 0))
    with listening, being_made:
        assert sockets(examined, fix=True)["stale"].message == "no socket without a listener"
        assert all(path.exists() for path in (old, new, file))


# -- locks -----------------------------------------------------------------------------------


def locks(place: Examined, *, fix: bool = False) -> list[Finding]:
    return list(check_locks(place.examination(fix=fix)))


def lock_file(name: str) -> Path:
    return state_directory() / "locks" / f"{name}.json"


def a_lock_of_the_dead(place: Examined, name: str, folder: Path) -> Holder:
    driver = a_dead_process()
    holder = Holder("gone", folder / "gone", "2026-01-01T00:00:00Z", driver)
    NameLock(name)  # makes the folder
    lock_file(name).write_text(json.dumps(holder.to_json()))
    return holder


def test_the_lock_of_a_dead_run_is_told_and_fix_settles_the_run_and_removes_it(
    examined: Examined,
) -> None:
    elsewhere = examined.place / "elsewhere"
    holder = a_lock_of_the_dead(examined, "nightly", elsewhere)
    examined.run("gone", folder=elsewhere, driver=holder.driver.to_json())
    found = of_level(Level.WARNING, locks(examined))
    assert [finding.subject for finding in found] == ["nightly"]
    assert f"process {holder.driver.pid} is gone" in found[0].message
    assert lock_file("nightly").exists()
    locks(examined, fix=True)
    assert not lock_file("nightly").exists()
    file = RunFile.read(elsewhere / "gone")
    assert file is not None
    assert file.status is RunStatus.CRASHED


def test_a_lock_whose_run_directory_is_gone_is_removed_by_fix(examined: Examined) -> None:
    a_lock_of_the_dead(examined, "nightly", examined.place / "nowhere")
    assert of_level(Level.PROBLEM, locks(examined, fix=True)) == []
    assert not lock_file("nightly").exists()


def test_a_lock_whose_run_cannot_be_settled_stays_and_is_a_problem(examined: Examined) -> None:
    holder = a_lock_of_the_dead(examined, "nightly", examined.runs)
    examined.run("gone", driver=holder.driver.to_json())
    (examined.runs / "gone" / "events.jsonl").mkdir()
    found = of_level(Level.PROBLEM, locks(examined, fix=True))
    assert [finding.subject for finding in found] == ["nightly"]
    assert lock_file("nightly").exists()


def test_a_lock_that_a_living_run_holds_is_left_alone(examined: Examined) -> None:
    lock = NameLock("nightly")
    lock.take(
        lambda: new_holder("alive", examined.runs / "alive"),
        dead=lambda holder: pytest.fail(f"{holder} is not dead"),
        wait_for_keeper=lambda holder, keeper: None,
    )
    (found,) = locks(examined, fix=True)
    assert (found.level, found.message) == (Level.OK, "1 by living runs")
    assert lock_file("nightly").exists()
    lock.release()


def test_a_lock_that_cannot_be_read_is_told_and_removed_by_fix(
    examined: Examined, caplog: pytest.LogCaptureFixture
) -> None:
    NameLock("nightly")
    lock_file("nightly").write_text('{"run": "torn')
    (found,) = of_level(Level.WARNING, locks(examined))
    assert found.message.startswith("its lock cannot be read")
    with caplog.at_level(logging.WARNING):
        locks(examined, fix=True)
    assert not lock_file("nightly").exists()
    assert caplog.records == []
