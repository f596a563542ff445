"""The keeper's socket and those who are connected to it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from backends.keeper.protocol import FrameReader, Message, encode

MAX_CONNECTIONS = 16
HELLO_WITHIN_S = 10.0
_MAX_UNSENT_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024


class ConnectionEnded(Exception):  # noqa: N818 - the other end hung up: an event, not an error
    """The peer closed the connection, or it broke."""


class Connection:
    """One peer; nothing here ever blocks."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self.stream = stream
        self.role: str | None = None
        """``driver`` or ``control`` once it has said hello."""
        self.pid, self.uid = _peer(stream)
        self._reader = FrameReader()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """Return the descriptor, for the selector."""
        return self.stream.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for the peer to read."""
        return bool(self._unsent)

    def receive(self) -> list[Message]:
        """Return what has arrived; raises ``ProtocolError`` or ``ConnectionEnded``."""
        try:
            data = self.stream.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise ConnectionEnded(str(error)) from error
        if not data:
            raise ConnectionEnded("closed by the peer")
        return self._reader.feed(data)

    def send(self, message: Message) -> None:
        """Send a message, now or when the peer reads; raises ``ConnectionEnded``."""
        self._unsent += encode(message)
        if len(self._unsent) > _MAX_UNSENT_BYTES:
            raise ConnectionEnded("the peer does not read")
        self.send_rest()

    def send_rest(self) -> None:
        """Send what the peer has room for; raises ``ConnectionEnded``."""
        try:
            while self._unsent:
                del self._unsent[: self.stream.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            raise ConnectionEnded(str(error)) from error

    def nudge(self, frame: bytes) -> None:
        """Send a frame that may be lost where others wait to be read: any of them wakes too."""
        if self._unsent:
            return
        try:
            sent = self.stream.send(frame)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise ConnectionEnded(str(error)) from error
        self._unsent += frame[sent:]

    def close(self) -> None:
        """Let go of it."""
        self.stream.close()


class Listener:
    """The Unix socket at which drivers and control clients arrive, for its own user alone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.unlink(path)  # noqa: PTH108
        except FileNotFoundError:
            pass
        previous = os.umask(0o177)
        try:
            self.stream.bind(path)
        finally:
            os.umask(previous)
        self.stream.setblocking(False)
        self.stream.listen(MAX_CONNECTIONS)

    def fileno(self) -> int:
        """Return the descriptor, for the selector."""
        return self.stream.fileno()

    def accept(self, admit: Callable[[Connection], None]) -> None:
        """Hand the next peer to ``admit``; another user's is closed at once.

        Raises ``OSError`` where no descriptor is free: then it stays readable without end.
        """
        try:
            stream, _ = self.stream.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        try:
            connection = Connection(stream)
        except OSError:
            stream.close()
            return
        if connection.uid == os.getuid():
            admit(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self.stream.close()
        try:
            os.unlink(self.path)  # noqa: PTH108
        except OSError:
            pass


def _peer(stream: socket.socket) -> tuple[int, int]:
    """Return pid and user id of the peer, as the kernel vouches for them."""
    if not hasattr(socket, "SO_PEERCRED"):  # macOS: the socket's mode is the guard
        return 0, os.getuid()
    layout = struct.Struct("3i")
    credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    pid, uid, _ = layout.unpack(credentials)
    return int(pid), int(uid)
