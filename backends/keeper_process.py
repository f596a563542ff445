"""The driver's end of the line to its keeper: starting one, finding one, talking to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.keeper.protocol import PROTOCOL, FrameReader, Message, encode
from tasks.errors import HoldfastError
from tasks.process_identity import ProcessIdentity, host_name
from tasks.run_context import RunContext

KEEPER_FILE = ".keeper.json"
KEEPER_LOG = ".keeper.log"

START_WITHIN_S = 20.0
"""How long a keeper may take to be up; it needs a tenth of a second on an idle machine."""

_SOCKET_PATH_BYTES = 107
_DEFAULT_GRACE_S = 2.0
_READ_BYTES = 256 * 1024

_START = "import sys; sys.path.append({root!r}); from backends.keeper.main import main; main()"


class KeeperError(HoldfastError):
    """The keeper could not be started or reached."""


@dataclass(frozen=True, slots=True)
class KeeperFile:
    """What ``.keeper.json`` in a run directory says: which keeper, and how to reach it."""

    identity: ProcessIdentity
    protocol: int
    number: int
    """The run's number."""
    socket: str
    cgroup: str | None
    driver_pid: int

    @classmethod
    def read(cls, directory: Path) -> KeeperFile | None:
        """Return what the file says; ``None`` where there is none or it is unreadable."""
        try:
            value = json.loads((directory / KEEPER_FILE).read_bytes())
            return cls(
                identity=ProcessIdentity.from_json(value),
                protocol=int(value["protocol"]),
                number=int(value["number"]),
                socket=str(value["socket"]),
                cgroup=None if value.get("cgroup") is None else str(value["cgroup"]),
                driver_pid=int(value["driver"]["pid"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def keeper_socket_path(run_number: int) -> str:
    """Return a path for the keeper's socket that is short enough for the kernel.

    It lies in the user's state folder for this host, else in a folder of the user's own below
    the temporary one.  Folders are made if missing, with mode 0700.
    """
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    place = Path(home).absolute() / "holdfast" / host_name()
    name = f"{run_number:x}.keeper"
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(os.fsencode(place / name)) <= _SOCKET_PATH_BYTES:
            return str(place / name)
    return str(_short_place() / name)


def _short_place() -> Path:
    place = Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    found = place.lstat()
    if place.is_symlink() or found.st_uid != os.getuid():
        # Somebody else made it first; the keeper's file says where the socket is instead.
        return Path(tempfile.mkdtemp(prefix="holdfast-"))
    return place


class KeeperConnection:
    """One connection to a keeper; sending never blocks, receiving is the reader's business.

    ``send`` may be called from any thread; what the keeper has no room for yet is kept and sent
    by ``send_rest``, which the reader calls when ``has_unsent`` and the socket is writable.
    """

    def __init__(self, stream: socket.socket, process: subprocess.Popen[bytes] | None) -> None:
        stream.setblocking(False)
        self.stream = stream
        self.process = process
        """The keeper, where it is a child of this process."""
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message, now or later; what a dead keeper does not get is lost."""
        frame = encode(dict(message))
        with self._lock:
            self._unsent += frame
        self.send_rest()

    def send_rest(self) -> None:
        """Send what there is room for."""
        with self._lock:
            try:
                while self._unsent:
                    del self._unsent[: self.stream.send(self._unsent)]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:  # the keeper is gone: its end is noticed elsewhere
                self._unsent.clear()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for room."""
        return bool(self._unsent)

    def receive(self) -> list[Message] | None:
        """Return what has arrived; ``None`` when the keeper has hung up."""
        try:
            data = self.stream.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        return self._reader.feed(data) if data else None

    def ask(
        self, message: Mapping[str, Any], answer: str, *, within_s: float = START_WITHIN_S
    ) -> Message:
        """Send a message and wait for the answer of that type, before any reader is at work.

        Raises ``KeeperError`` where the keeper refuses, hangs up or takes too long.
        """
        self.stream.settimeout(within_s)
        try:
            self.stream.sendall(encode(dict(message)))
            while True:
                data = self.stream.recv(_READ_BYTES)
                if not data:
                    raise KeeperError("the keeper hung up")
                for reply in self._reader.feed(data):
                    if reply["type"] == "error":
                        raise KeeperError(f"the keeper refused: {reply.get('message')}")
                    if reply["type"] == answer:
                        return reply
        except OSError as error:
            raise KeeperError(f"the keeper does not answer: {error}") from error
        finally:
            self.stream.setblocking(False)

    def close(self) -> None:
        """Hang up: a keeper whose driver does that ends the run."""
        self.stream.close()


def start_keeper(context: RunContext) -> tuple[KeeperConnection, Message]:
    """Start a keeper for the run and return the line to it with its welcome.

    Raises ``KeeperError`` with what the keeper's log says if it does not come up.
    """
    directory = _directory(context)
    ours, theirs = socket.socketpair()
    try:
        with theirs, (directory / KEEPER_LOG).open("ab") as log:
            process = subprocess.Popen(
                [*_keeper_command(), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
    except OSError as error:
        ours.close()
        raise KeeperError(f"cannot start the keeper: {error}") from error
    connection = KeeperConnection(ours, process)
    try:
        return connection, connection.ask(_hello(context, directory), "welcome")
    except KeeperError as error:
        connection.close()
        process.kill()
        process.wait()
        raise KeeperError(f"{error}; {_last_words(directory)}") from error


def find_keeper(context: RunContext) -> tuple[KeeperConnection, Message]:
    """Connect to the keeper of a dead driver as its new driver; return line and welcome.

    Raises ``KeeperError`` if there is none, it is ending, or its driver lives.
    """
    directory = _directory(context)
    file = KeeperFile.read(directory)
    if file is None or not file.identity.is_alive():
        raise KeeperError(f'there is no keeper for "{directory}"')
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(file.socket)
    except OSError as error:
        stream.close()
        raise KeeperError(f'cannot reach the keeper at "{file.socket}": {error}') from error
    connection = KeeperConnection(stream, None)
    try:
        hello = _hello(context, directory, socket_path=file.socket)
        return connection, connection.ask(hello, "welcome")
    except KeeperError:
        connection.close()
        raise


def ask_keeper(
    file: KeeperFile, message: Mapping[str, Any], *, within_s: float = START_WITHIN_S
) -> Message:
    """Ask a keeper something as a control client and return its answer.

    ``{"type": "status"}`` is answered with what runs; ``{"type": "kill", "numbers": null}`` and
    ``{"type": "stop"}`` (both with ``grace_s``) with ``done`` at once.  Raises ``KeeperError``.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(file.socket)
    except OSError as error:
        stream.close()
        raise KeeperError(f'cannot reach the keeper at "{file.socket}": {error}') from error
    connection = KeeperConnection(stream, None)
    try:
        hello = {"type": "hello", "protocol": PROTOCOL, "role": "control"}
        connection.ask(hello, "welcome", within_s=within_s)
        answer = "status" if message["type"] == "status" else "done"
        return connection.ask(message, answer, within_s=within_s)
    finally:
        connection.close()


def _directory(context: RunContext) -> Path:
    if context.directory is None:
        raise KeeperError(f"run {context.run!r} has no directory; local jobs need one")
    return context.directory.absolute()


def _keeper_command() -> Sequence[str]:
    root = str(Path(__file__).absolute().parent.parent)
    # Isolated, without site packages: up in milliseconds, whatever is in the environment.
    # Where there is no /proc it needs psutil, which is a site package.
    isolation = ("-I", "-S") if Path("/proc/self/stat").exists() else ("-I",)
    return [sys.executable, *isolation, "-X", "utf8", "-c", _START.format(root=root)]


def _hello(context: RunContext, directory: Path, *, socket_path: str | None = None) -> Message:
    driver = ProcessIdentity.of_this_process()
    return {
        "type": "hello",
        "protocol": PROTOCOL,
        "role": "driver",
        "driver": {"pid": driver.pid, "start_time": driver.start_time},
        "context": {
            "run": context.run,
            "number": context.number,
            "run_directory": str(directory),
            "socket": socket_path or keeper_socket_path(context.number),
            "cwd": _driver_folder(context),
            "environment": {
                wire_text(name): wire_text(value) for name, value in context.environment.items()
            },
            "on_crash": context.on_crash,
            "adopt_within_s": context.adopt_within_s,
            "grace_s": _DEFAULT_GRACE_S if context.grace_s is None else context.grace_s,
            "settle_command": list(context.settle_command),
        },
    }


def _driver_folder(context: RunContext) -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed under the driver
        return str(context.cwd)


def wire_text(text: str) -> str:
    """Return text of the system's encoding so that the keeper, in UTF-8, makes the same bytes."""
    if sys.getfilesystemencoding() == "utf-8":
        return text
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def _last_words(directory: Path) -> str:
    """Return what the keeper's log says at its end."""
    log = directory / KEEPER_LOG
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return f'its log "{log}" ends with: {" | ".join(lines[-3:])}' if lines else "its log is empty"
