"""The control socket: one question, one answer, and no harm from whoever asks."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.control import ControlServer, ask


def _handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
    if request.get("op") == "fail":
        raise ValueError("no such thing")
    return {"echo": request}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    server = ControlServer(tmp_path / "s", _handle)
    yield server
    server.close()


def test_a_request_gets_its_answer(server: ControlServer) -> None:
    assert ask(server.path, {"op": "x"}) == {"ok": True, "echo": {"op": "x"}}


def test_what_the_handler_raises_is_told_to_the_client(server: ControlServer) -> None:
    assert ask(server.path, {"op": "fail"}) == {"ok": False, "error": "no such thing"}


@pytest.mark.parametrize("sent", [b"\n", b"no json\n", b"[1]\n", b'"x"\n', b"\xff\xfe\n", b"{}"])
def test_a_malformed_request_ends_its_own_connection_only(
    server: ControlServer, sent: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as hostile:
        hostile.connect(str(server.path))
        hostile.sendall(sent)
        hostile.shutdown(socket.SHUT_WR)
        assert b'"ok": false' in hostile.recv(4096)
    assert ask(server.path, {"op": "x"})["ok"]


def test_a_request_without_end_is_cut_off(server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX) as hostile:
        hostile.connect(str(server.path))
        try:
            while True:
                hostile.sendall(b"x" * 65536)
        except OSError:
            pass
    assert ask(server.path, {"op": "x"})["ok"]


def test_the_socket_is_its_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "s", _handle)
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    server.close()
    assert not server.path.exists()
    with pytest.raises(OSError, match="No such file"):
        ask(server.path, {"op": "x"})
