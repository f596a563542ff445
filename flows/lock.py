"""One run of a name at a time, by a lock that heals itself.

The lock is a small file that names the run and its processes.  It is free when they are gone,
so nothing has to be removed after a crash; a file lock guards only the moment of taking it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from flows.places import state_directory
from tasks.atomic_file import write_json_atomically
from tasks.errors import BusyError
from tasks.events import iso_utc
from tasks.process_identity import ProcessIdentity, wait_for_end

_GUARD_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a name: a run, its driver and, once it is up, its keeper."""

    run: str
    directory: Path
    since: str
    driver: ProcessIdentity
    keeper: ProcessIdentity | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object that the lock file holds."""
        return {
            "run": self.run,
            "directory": str(self.directory),
            "since": self.since,
            "driver": self.driver.to_json(),
            "keeper": self.keeper.to_json() if self.keeper else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Holder:
        """Read what ``to_json`` wrote; raises ``KeyError``, ``ValueError`` or ``TypeError``."""
        keeper = value.get("keeper")
        return cls(
            run=str(value["run"]),
            directory=Path(value["directory"]),
            since=str(value["since"]),
            driver=ProcessIdentity.from_json(value["driver"]),
            keeper=ProcessIdentity.from_json(keeper) if keeper else None,
        )

    def live_keeper(self) -> ProcessIdentity | None:
        """Return the keeper if it lives; the driver may have died before it wrote it here."""
        keeper = self.keeper or keeper_of(self.directory)
        return keeper if keeper is not None and keeper.is_alive() else None


def keeper_of(directory: Path) -> ProcessIdentity | None:
    """Return the keeper that a run directory names, dead or alive; ``None`` without one."""
    try:
        return ProcessIdentity.from_json(json.loads((directory / ".keeper.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class NameLock:
    """The right to be the run of a name, for this user on this host.

    ``take`` either returns or raises ``BusyError``; ``release`` lets go.  ``dead`` is called
    with the holder that died, while nobody else can take the lock, before it is taken over: it
    ends and settles whatever that run left behind.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        folder = state_directory() / "locks"
        folder.mkdir(mode=0o700, exist_ok=True)
        self._path = folder / f"{name}.json"
        self._guard = FileLock(folder / f"{name}.guard", timeout=_GUARD_TIMEOUT_S)
        self._held: Holder | None = None

    def holder(self) -> Holder | None:
        """Return what the lock file says; ``None`` where there is none or it is unreadable."""
        try:
            return Holder.from_json(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def take(
        self,
        claim: Callable[[], Holder],
        *,
        dead: Callable[[Holder], None],
        wait_for_keeper: Callable[[Holder, ProcessIdentity], None],
        adopt: Callable[[Holder], Holder | None] = lambda _: None,
        wait: bool = False,
        waiting: Callable[[Holder], None] | None = None,
    ) -> None:
        """Take the lock for the holder that ``claim`` makes once the lock is ours.

        A holder whose driver is dead and whose keeper lives is given to ``adopt``, which takes
        the run over and returns who holds it now; if it returns ``None`` the keeper is waited
        for with ``wait_for_keeper``.  With ``wait`` a live holder is waited for too (``waiting`` is
        called once); otherwise it raises ``BusyError``.
        """
        told = False
        while True:
            with self._guard:
                holder = self.holder()
                keeper = holder.live_keeper() if holder else None
                if holder is None or (keeper is None and not holder.driver.is_alive()):
                    if holder is not None:
                        dead(holder)
                    self._write(claim())
                    return
                adopted = None if holder.driver.is_alive() else adopt(holder)
                if adopted is not None:
                    self._write(adopted)
                    return
            if keeper is not None and not holder.driver.is_alive():
                wait_for_keeper(holder, keeper)
            elif not wait:
                raise BusyError(self._busy(holder))
            else:
                if waiting is not None and not told:
                    waiting(holder)
                    told = True
                # Looked at again now and then: a process that lives on may have let go.
                wait_for_end(holder.driver, timeout_s=1.0)

    def update(self, holder: Holder) -> None:
        """Replace what the lock says of its holder, for example when the keeper is up."""
        with self._guard:
            self._write(holder)

    def release(self) -> None:
        """Let go, if it is still ours.  Idempotent."""
        if self._held is None:
            return
        with self._guard:
            now = self.holder()
            if now is not None and now.run == self._held.run:
                self._path.unlink(missing_ok=True)
        self._held = None

    def clear(self, dead: Callable[[Holder], None]) -> bool:
        """Remove a lock that nobody alive holds; whether there was one.

        ``dead`` is called with the holder that died, as for ``take``; what it raises leaves the
        lock as it is.
        """
        with self._guard:
            holder = self.holder()
            if holder is not None:
                if holder.driver.is_alive() or holder.live_keeper() is not None:
                    return False
                dead(holder)
            was_there = self._path.exists()
            self._path.unlink(missing_ok=True)
            return was_there

    def _write(self, holder: Holder) -> None:
        write_json_atomically(self._path, holder.to_json(), mode=0o600)
        self._held = holder

    def _busy(self, holder: Holder) -> str:
        return (
            f'"{self.name}" is held by run {holder.run} since {holder.since} '
            f"(process {holder.driver.pid}); wait for it with --wait, or end it: "
            f"python -m flows.run cancel {holder.run} --runs {holder.directory.parent}"
        )


def new_holder(run: str, directory: Path) -> Holder:
    """Return this process as the holder of a name."""
    return Holder(run, directory, iso_utc(time.time()), ProcessIdentity.of_this_process())
