"""The control socket: how another terminal talks to a run that is in progress.

One request a connection, one line of JSON each way.  The socket lies in the user's own state
folder with mode 0600, and the peer's user id is checked too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger("holdfast.control")

_MAX_REQUEST_BYTES = 64 * 1024
_PEER_TIMEOUT_S = 5.0

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlServer:
    """Answers requests to one run on a thread of its own.

    ``handler`` gets each request as a mapping and returns the answer; what it raises becomes
    ``{"ok": false, "error": …}``.  ``close`` removes the socket and ends the thread.
    """

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self._handler = handler
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(previous)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, name="holdfast-control", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with connection:
                try:
                    self._answer(connection)
                except Exception:  # noqa: BLE001
                    # Whatever a client does ends its own connection and nothing else.
                    _log.exception("a request to the control socket failed")

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(_PEER_TIMEOUT_S)
        if _peer_uid(connection) != os.getuid():
            return
        try:
            request = _receive_line(connection)
        except (OSError, ValueError) as error:
            answer: Mapping[str, Any] = {"ok": False, "error": f"unreadable request: {error}"}
        else:
            answer = self._handle(request)
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(answer, default=str).encode() + b"\n")

    def _handle(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return {"ok": True, **self._handler(request)}
        except Exception as error:  # noqa: BLE001 - the client is told, the run goes on
            return {"ok": False, "error": str(error) or type(error).__name__}

    def close(self) -> None:
        """Stop answering.  Idempotent."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        if threading.current_thread() is not self._thread:
            self._thread.join(_PEER_TIMEOUT_S + 1)


def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request to a run's control socket and return its answer.

    Raises ``OSError`` (``TimeoutError`` included) where nobody answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        try:
            return dict(_receive_line(connection))
        except ValueError as error:
            raise ConnectionError(f"unreadable answer: {error}") from error


def _receive_line(connection: socket.socket) -> Mapping[str, Any]:
    received = b""
    while not received.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            raise ValueError("the connection ended before the line did")
        received += part
        if len(received) > _MAX_REQUEST_BYTES:
            raise ValueError(f"longer than {_MAX_REQUEST_BYTES} bytes")
    value = json.loads(received)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a matter of the peer's data
    return value


def _peer_uid(connection: socket.socket) -> int:
    if not hasattr(socket, "SO_PEERCRED"):  # pragma: no cover - macOS: the mode of the file guards
        return os.getuid()
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    return int(struct.unpack("3i", credentials)[1])
