"""The thread that listens to the keeper."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Callable

from backends.keeper.protocol import Message, ProtocolError
from backends.keeper_process import KeeperConnection

_log = logging.getLogger("holdfast.local")


class KeeperReader:
    """Reads one connection until the keeper hangs up.

    ``spooled`` is called when completions may be in the spool, ``hung_up`` once at the end,
    with the keeper's farewell if it left in order; both on the thread of the reader.
    """

    def __init__(
        self,
        connection: KeeperConnection,
        *,
        spooled: Callable[[], None],
        hung_up: Callable[[Message | None], None],
    ) -> None:
        self._connection = connection
        self._spooled = spooled
        self._hung_up = hung_up
        self._farewell: Message | None = None
        self._unspooled: list[str] = []
        self._wake_up, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._wake_up.setblocking(False)
        self._thread = threading.Thread(target=self._read, name="holdfast-keeper", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the keeper has hung up and all it said was passed on; whether it has."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def wake(self) -> None:
        """Look after what could not be sent at once."""
        try:
            self._waker.send(b"\0")
        except OSError:  # full: it wakes anyway; closed: there is nobody to send to
            pass

    def _read(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection.stream, selectors.EVENT_READ)
                selector.register(self._wake_up, selectors.EVENT_READ)
                while self._turn(selector):
                    pass
        finally:
            self._connection.close()
            self._wake_up.close()
            self._waker.close()
            self._hung_up(self._farewell)

    def _turn(self, selector: selectors.BaseSelector) -> bool:
        events = selectors.EVENT_READ
        if self._connection.has_unsent:
            events |= selectors.EVENT_WRITE
        selector.modify(self._connection.stream, events)
        going_on = True
        for key, ready in selector.select():
            if key.fileobj is self._wake_up:
                self._wake_up.recv(4096)
            if ready & selectors.EVENT_WRITE:
                self._connection.send_rest()
            if key.fileobj is self._connection.stream and ready & selectors.EVENT_READ:
                going_on = self._receive()
        return going_on

    def _receive(self) -> bool:
        try:
            messages = self._connection.receive()
        except ProtocolError:
            _log.exception("the keeper sent nonsense; this is a bug")
            return False
        if messages is None:
            return False
        for message in messages:
            if message["type"] == "unspooled":
                self._unspooled.append(message["text"])
            elif message["type"] == "closed":
                self._farewell = {**message, "unspooled": "".join(self._unspooled)}
            elif message["type"] in ("trouble", "error"):
                _log.error("keeper: %s", message.get("message"))
        # Whatever it said, it was awake: a wake-up may have been lost where others waited.
        self._spooled()
        return True
