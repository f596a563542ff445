"""The keeper's loop: who is connected, whether the driver lives, when the run is over."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from enum import Enum

from backends.keeper.aftermath import Settling, Wards
from backends.keeper.connections import (
    HELLO_WITHIN_S,
    MAX_CONNECTIONS,
    Connection,
    ConnectionEnded,
    Listener,
)
from backends.keeper.deadlines import Deadline, Deadlines
from backends.keeper.driver_watch import DriverWatch
from backends.keeper.job import LaunchRequest
from backends.keeper.jobs import Jobs
from backends.keeper.lent_terminal import LentTerminal
from backends.keeper.protocol import (
    PROTOCOL,
    Message,
    ProtocolError,
    encode,
    numbers_field,
    seconds_field,
    whole_field,
)
from backends.keeper.settings import Settings, driver_identity
from backends.keeper.spawn import Spawner
from backends.keeper.spool import Spool
from backends.members import Members
from backends.process_tree import Identity, read_process
from backends.run_cgroup import RunCgroup
from tasks.process_identity import boot_id, host_name

KEEPER_FILE = ".keeper.json"
SPOOL_FILE = ".completions.jsonl"
LOG_FILE = ".keeper.log"

HUNG_UP_PATIENCE_S = 0.5
"""A driver that dies closes its socket just before the kernel tells of its death."""
_FAREWELL_S = 2.0
_PIECE = 1 << 20
_FULL_DISK_PATIENCE_S = 30.0
_NO_DESCRIPTOR_PAUSE_S = 1.0
_WAKE_UP = encode({"type": "spool"})


class Phase(Enum):
    """How far the end of the run has come."""

    RUNNING = 1
    ENDING_JOBS = 2
    ENDING_REST = 3
    SETTLING = 4
    ENDING_WARDS = 5
    LEAVING = 6
    OVER = 7


def log(text: str) -> None:
    """Write a line to the keeper's log: its standard error."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        os.write(2, f"{stamp} {text}\n".encode("utf-8", "replace"))
    except OSError:  # a full disk: what is to be said goes to the driver as well
        pass


class Keeper:
    """One run's keeper; ``first`` is the connection that the driver left it with."""

    def __init__(self, first: socket.socket, wake_up: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._deadlines = Deadlines()
        self._connections: set[Connection] = set()
        self._driver: Connection | None = None
        self._watch: DriverWatch | None = None
        self._phase = Phase.RUNNING
        self._driver_died = False
        self._adoption: Deadline | None = None
        self._terminal = LentTerminal(log)
        self._wake_up = wake_up
        self._selector.register(wake_up, selectors.EVENT_READ, self._signals_arrived)
        self._admit(Connection(first))
        self._first = next(iter(self._connections))

    # -- the loop --------------------------------------------------------------------------

    def run(self) -> None:
        """Serve the run until nothing of it is left."""
        if not self._wait_for_first_hello():
            return
        while self._phase is not Phase.OVER:
            for key, events in self._selector.select(self._timeout()):
                key.data(events)
            self._turn()
        self._leave()

    def _wait_for_first_hello(self) -> bool:
        while self._watch is None and self._connections:
            arrived = self._selector.select(HELLO_WITHIN_S)
            if not arrived:
                break
            for key, events in arrived:
                key.data(events)
        return self._watch is not None

    def _timeout(self) -> float | None:
        if self._jobs.has_queued:
            return 0.0
        due = [at for at in (self._deadlines.next_at(), self._jobs.next_at()) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _turn(self) -> None:
        self._jobs.reap()
        # Before anything else is started: the driver thinks while the keeper goes on.
        self._report()
        self._deadlines.run_due(time.monotonic())
        self._jobs.start_some()
        self._jobs.step()
        self._report()
        self._advance()

    def _report(self) -> None:
        if not self._spool.waiting or self._spool.in_trouble:
            return
        self._write_spool()

    def _write_spool(self) -> None:
        if self._spool.flush():
            self._tell(lambda driver: driver.nudge(_WAKE_UP))
        if self._spool.in_trouble:
            self._deadlines.add(time.monotonic() + self._spool.retry_in_s(), self._write_spool)

    def _spool_trouble(self, text: str) -> None:
        log(text)
        self._say({"type": "trouble", "message": text})

    def _say(self, message: Message) -> None:
        self._tell(lambda driver: driver.send(message))

    def _tell(self, say: Callable[[Connection], None]) -> None:
        driver = self._driver
        if driver is None:
            return
        try:
            say(driver)
        except ConnectionEnded:
            self._hung_up(driver)
        else:
            if driver.has_unsent:
                self._watch_for_room(driver)

    # -- signals ---------------------------------------------------------------------------

    def _signals_arrived(self, _events: int) -> None:
        try:
            numbers = self._wake_up.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        # SIGCHLD needs nothing here: every turn reaps.
        if signal.SIGTERM in numbers:
            self._asked_to_terminate()

    def _asked_to_terminate(self) -> None:
        """SIGTERM goes to whole groups and slices: a driver that lives decides for the run."""
        if self._driver is None:
            self._end("SIGTERM to the keeper of a dead driver", "control")

    # -- connections -----------------------------------------------------------------------

    def _admit(self, connection: Connection) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            connection.close()
            return
        self._connections.add(connection)
        self._selector.register(
            connection, selectors.EVENT_READ, lambda events: self._serve(connection, events)
        )
        self._deadlines.add(
            time.monotonic() + HELLO_WITHIN_S, lambda: self._drop_if_silent(connection)
        )

    def _drop_if_silent(self, connection: Connection) -> None:
        if connection.role is None and connection in self._connections:
            self._drop(connection)

    def _accept(self, _events: int) -> None:
        try:
            self._listener.accept(self._admit)
        except OSError:  # no descriptor is free
            self._selector.unregister(self._listener)
            self._deadlines.add(time.monotonic() + _NO_DESCRIPTOR_PAUSE_S, self._listen)

    def _listen(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _serve(self, connection: Connection, events: int) -> None:
        if connection not in self._connections:  # dropped while its event was on the way
            return
        try:
            if events & selectors.EVENT_WRITE:
                connection.send_rest()
            if events & selectors.EVENT_READ:
                for message in connection.receive():
                    self._handle(connection, message)
            self._watch_for_room(connection)
        except ConnectionEnded:
            self._hung_up(connection)
        except ProtocolError as error:
            self._refuse(connection, str(error))

    def _watch_for_room(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        events = selectors.EVENT_READ
        if connection.has_unsent:
            events |= selectors.EVENT_WRITE
        key = self._selector.get_key(connection)
        if key.events != events:
            self._selector.modify(connection, events, key.data)

    def _refuse(self, connection: Connection, why: str) -> None:
        log(f"process {connection.pid} was refused: {why}")
        try:
            connection.send({"type": "error", "message": why})
        except ConnectionEnded:
            pass
        self._hung_up(connection)

    def _hung_up(self, connection: Connection) -> None:
        self._drop(connection)
        if connection is self._driver:
            self._driver = None
            self._deadlines.add(time.monotonic() + HUNG_UP_PATIENCE_S, self._driver_hung_up)

    def _drop(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self._selector.unregister(connection)
            connection.close()

    # -- messages --------------------------------------------------------------------------

    def _handle(self, connection: Connection, message: Message) -> None:
        kind = message["type"]
        if connection.role is None:
            if kind != "hello":
                raise ProtocolError(f"{kind!r} before hello")
            self._hello(connection, message)
        elif kind in _FOR_DRIVERS and connection.role == "driver":
            _FOR_DRIVERS[kind](self, message)
        elif kind in _FOR_ALL:
            _FOR_ALL[kind](self, connection, message)
        else:
            raise ProtocolError(f"unknown message {kind!r}")

    def _hello(self, connection: Connection, message: Message) -> None:
        if message.get("protocol") != PROTOCOL:
            raise ProtocolError(
                f"this keeper speaks protocol {PROTOCOL}, not {message.get('protocol')!r:.50}"
            )
        role = message.get("role")
        if role == "driver":
            self._driver_arrives(connection, message)
        elif role == "control" and connection is not self._first:
            connection.role = "control"
            connection.send(self._welcome())
        else:
            raise ProtocolError(f"unknown role {role!r:.50}")

    def _driver_arrives(self, connection: Connection, message: Message) -> None:
        if self._watch is not None:
            self._driver_dies()  # if it is dead and this is the first to notice
        if self._driver is not None:
            raise ProtocolError(f"the driver, process {self._driver.pid}, is connected")
        if self._phase is not Phase.RUNNING:
            raise ProtocolError("the run is being ended; wait until the keeper is gone")
        context = message.get("context")
        if not isinstance(context, dict):
            raise ProtocolError("'context' is no object")
        settings, identity = Settings(context), driver_identity(message)
        if self._watch is None:
            self._open(settings)
        elif settings.number != self._settings.number:
            raise ProtocolError(f"this is the keeper of run {self._settings.run!r}")
        elif not self._watch.is_dead():
            raise ProtocolError(f"the driver, process {self._watch.identity[0]}, lives")
        else:
            self._end_wards_of_the_dead()
        try:
            self._follow(settings, identity)
        except OSError as error:
            raise ProtocolError(f"the keeper's file cannot be written: {error}") from error
        self._driver = connection
        connection.role = "driver"
        connection.send(self._welcome())

    def _open(self, settings: Settings) -> None:
        """Make ready for the first driver's jobs."""
        self._settings = settings
        try:
            spool_path = f"{settings.run_directory}/{SPOOL_FILE}"
            self._spool = Spool(spool_path, self._spool_trouble)
            self._listener = Listener(settings.socket_path)
        except OSError as error:
            raise ProtocolError(f"the keeper cannot start: {error}") from error
        self._listen()
        self._spawner = Spawner(
            run_number=settings.number,
            jobs_directory=settings.jobs_directory,
            environment=settings.environment,
        )
        self._cgroup = RunCgroup.create(settings.number)
        own = read_process(os.getpid())
        self._start_time = own.start_time if own else 0
        members = Members(
            settings.number if self._spawner.carries_number else None,
            jobs_directory=settings.jobs_directory,
            since=self._start_time,
            parent=os.getpid(),
            never=(os.getpid(), os.getppid()),
        )
        self._jobs = Jobs(
            spawner=self._spawner,
            members=members,
            cgroup=self._cgroup,
            deadlines=self._deadlines,
            spool=self._spool,
        )
        self._wards = Wards(self._deadlines)
        self._settling = Settling(self._jobs, self._deadlines, log)

    def _follow(self, settings: Settings, identity: Identity) -> None:
        """Take this driver for the one whose death matters."""
        if self._watch is not None and self._watch.descriptor is not None:
            self._selector.unregister(self._watch.descriptor)
            self._watch.close()
        self._deadlines.cancel(self._adoption)
        self._settings = settings
        self._spawner.environment = settings.environment
        self._driver_died = False
        self._watch = DriverWatch(identity)
        if self._watch.descriptor is not None:
            self._selector.register(
                self._watch.descriptor, selectors.EVENT_READ, lambda _events: self._driver_dies()
            )
        self._write_keeper_file(identity)

    def _end_wards_of_the_dead(self) -> None:
        """A new driver has servers of its own; the old one's go on ending by their deadlines."""
        self._wards.end(self._settings.grace_s)
        self._wards = Wards(self._deadlines)

    def _write_keeper_file(self, driver: Identity) -> None:
        contents = {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "start_time": self._start_time,
            "boot_id": boot_id(),
            "host": host_name(),
            "number": self._settings.number,
            "socket": self._settings.socket_path,
            "cgroup": self._cgroup.path if self._cgroup else None,
            "driver": {"pid": driver[0], "start_time": driver[1]},
        }
        path = f"{self._settings.run_directory}/{KEEPER_FILE}"
        descriptor = os.open(
            f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, json.dumps(contents).encode() + b"\n")
        finally:
            os.close(descriptor)
        os.replace(f"{path}.tmp", path)  # noqa: PTH105

    def _welcome(self) -> Message:
        return {
            "type": "welcome",
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "start_time": self._start_time,
            "carries_number": self._spawner.carries_number,
            "cgroup": self._cgroup.path if self._cgroup else None,
            "running": self._jobs.running(),
        }

    def _launch(self, message: Message) -> None:
        jobs = message.get("jobs")
        if not isinstance(jobs, list):
            raise ProtocolError("'jobs' is no list")
        requests = [LaunchRequest(fields) for fields in jobs]
        self._jobs.add(requests)
        self._terminal.lent_to(requests)

    def _ward(self, message: Message) -> None:
        self._wards.add((whole_field(message, "pid"), whole_field(message, "start_time")))

    def _close(self, message: Message) -> None:
        self._end("closed by the driver", "request", seconds_field(message, "grace_s"))

    def _kill(self, connection: Connection, message: Message) -> None:
        numbers, grace_s = numbers_field(message, "numbers"), seconds_field(message, "grace_s")
        why = "request" if connection.role == "driver" else "control"
        self._jobs.kill(numbers, grace_s, why)
        if connection.role == "control":
            connection.send({"type": "done"})

    def _status(self, connection: Connection, _message: Message) -> None:
        connection.send(
            {
                "type": "status",
                "run": self._settings.run,
                "phase": self._phase.name.lower(),
                "driver_lives": not self._driver_died,
                "keeps": self._phase is Phase.RUNNING and self._settings.keep_on_crash,
                "running": self._jobs.running(),
            }
        )

    def _stop(self, connection: Connection, message: Message) -> None:
        grace_s = seconds_field(message, "grace_s")
        connection.send({"type": "done"})
        self._end(f"stopped by process {connection.pid}", "control", grace_s)

    # -- the driver's end ------------------------------------------------------------------

    def _driver_hung_up(self) -> None:
        """The driver closed its connection: did it die, or has it let go?"""
        if self._driver is not None or self._watch is None:
            return
        if self._watch.is_dead():
            self._driver_dies()
        else:
            self._end("the driver closed its connection", "request")

    def _driver_dies(self) -> None:
        if self._driver_died or self._watch is None or not self._watch.is_dead():
            return
        self._driver_died = True
        self._terminal.restore()
        if self._watch.descriptor is not None:
            self._selector.unregister(self._watch.descriptor)
            self._watch.close()
        if self._driver is not None:
            self._drop(self._driver)
            self._driver = None
        log(f"the driver, process {self._watch.identity[0]}, died")
        if not self._settings.keep_on_crash:
            self._end("the driver died", "driver_lost")
        elif self._phase is Phase.RUNNING:
            self._adoption = self._deadlines.add(
                time.monotonic() + self._settings.adopt_within_s,
                lambda: self._end("nobody adopted the jobs in time", "driver_lost"),
            )

    def _end(self, why: str, killed: str, grace_s: float | None = None) -> None:
        """End the run: its jobs first, then whatever else there is of it."""
        if self._phase is Phase.RUNNING:
            if killed != "request":
                log(f"ending the run: {why}")
            self._phase = Phase.ENDING_JOBS
            self._deadlines.cancel(self._adoption)
            self._jobs.refuse(killed)
        if self._phase is Phase.ENDING_JOBS:
            self._jobs.kill(None, grace_s, killed)
            self._write_spool()
        elif self._phase is Phase.ENDING_REST and grace_s is not None:
            self._jobs.end_rest(grace_s)

    def _advance(self) -> None:
        """Go from one phase to the next as soon as it is over."""
        if self._phase is Phase.RUNNING and self._driver_died and self._jobs.idle:
            self._end("the last job of a dead driver ended", "driver_lost")
        if self._phase is Phase.ENDING_JOBS and self._jobs.idle:
            self._phase = Phase.ENDING_REST
            self._jobs.end_rest(self._settings.grace_s)
            self._jobs.step()
        if self._phase is Phase.ENDING_REST and self._jobs.rest is not None:
            self._begin_settling()
        if self._phase is Phase.SETTLING and self._settling.is_over:
            self._phase = Phase.ENDING_WARDS
            if self._driver_died:
                self._wards.end(self._settings.grace_s)
        if self._phase is Phase.ENDING_WARDS and self._wards.are_gone:
            self._say_farewell()
        if self._phase is Phase.LEAVING and not self._has_more_to_say():
            self._phase = Phase.OVER

    def _begin_settling(self) -> None:
        self._phase = Phase.SETTLING
        if self._cgroup is not None:
            self._cgroup.leave()
            self._cgroup.remove()
        if self._driver_died and self._settings.settle_command:
            self._settling.start(self._settings.settle_command, self._settings.cwd)

    def _say_farewell(self) -> None:
        self._phase = Phase.LEAVING
        rest = self._jobs.rest
        patience = _FAREWELL_S if self._driver is not None else _FULL_DISK_PATIENCE_S
        self._deadlines.add(time.monotonic() + patience, self._leave_now)
        if self._driver is not None:
            unspooled = self._spool.take_waiting()
            for start in range(0, len(unspooled), _PIECE):
                self._say({"type": "unspooled", "text": unspooled[start : start + _PIECE]})
            self._say({"type": "closed", "stuck": rest.stuck if rest is not None else []})

    def _has_more_to_say(self) -> bool:
        return self._spool.waiting or (self._driver is not None and self._driver.has_unsent)

    def _leave_now(self) -> None:
        if self._spool.waiting:
            log(f"leaving with completions that no disk took: {self._spool.take_waiting()}")
        self._phase = Phase.OVER

    def _leave(self) -> None:
        """Leave nothing behind but the spool, and the log if there is something in it."""
        self._listener.close()
        self._remove(KEEPER_FILE)
        try:
            if os.fstat(2).st_size == 0:
                self._remove(LOG_FILE)
        except OSError:
            pass

    def _remove(self, name: str) -> None:
        try:
            os.unlink(f"{self._settings.run_directory}/{name}")  # noqa: PTH108
        except OSError:
            pass


_FOR_DRIVERS: dict[str, Callable[[Keeper, Message], None]] = {
    "launch": Keeper._launch,
    "ward": Keeper._ward,
    "close": Keeper._close,
}
_FOR_ALL: dict[str, Callable[[Keeper, Connection, Message], None]] = {
    "kill": Keeper._kill,
    "status": Keeper._status,
    "stop": Keeper._stop,
}
