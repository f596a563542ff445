"""A writer: one process's own file, to which records go in groups.

A record is durable when the group it belongs to is committed: after 50 ms, after 1,000 records, or
when somebody waits for it.  One thread commits; before it does, it makes durable what the records
stand for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.checkpoint.durable import in_words, remove_quietly, sync_directory, sync_paths
from tasks.checkpoint.environment import Environment, lock_file, open_to_write
from tasks.checkpoint.errors import CheckpointError
from tasks.checkpoint.header import Header
from tasks.checkpoint.owner import Ownership
from tasks.checkpoint.publishing import PUBLISH_EVERY_S, publish_copy
from tasks.checkpoint.record import Outcome, Output, detail_of, encode, key_of
from tasks.checkpoint.seal import Contents, seal_file
from tasks.checkpoint.withdrawn_log import Withdrawal, append, log_of
from tasks.errors import HoldfastError
from tasks.process_identity import ProcessIdentity, host_name

GROUP_S = 0.05
GROUP_RECORDS = 1_000
_REST_SHARE = 15
_LONGEST_REST_S = 1.0
"""Between commits that take long (small files by the hundred on a busy disk) the thread rests so
many times as long as the last one took, so that being durable costs a few percent and no more.
Nobody who waits is made to wait longer."""

_BLOCK = 5_000
_MOST_WAITING = 100_000
"""Records that wait for their commit; who brings more waits with them."""

MAP_BYTES = 1 << 24
"""The first size of the map; it doubles whenever it is full."""


def own_stem() -> str:
    """Return the name of this process's store file: host, pid and start time."""
    me = ProcessIdentity.of_this_process()
    host = "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in host_name())
    return f"{host.lstrip('.')}-{me.pid}-{me.start_time}"


@dataclass(frozen=True, slots=True)
class WriterPlace:
    """Where a writer's files lie."""

    directory: Path
    """The store's directory, which all hosts see."""
    live: Path
    """The directory of the live file: the same, or one on this host's own disk."""
    stem: str

    @property
    def live_file(self) -> Path:
        """The file that is written."""
        return self.live / f"{self.stem}.mdb"

    @property
    def shared_file(self) -> Path:
        """The file that others read."""
        return self.directory / f"{self.stem}.mdb"

    @property
    def publishes(self) -> bool:
        """Whether the two differ."""
        return self.live != self.directory


@dataclass(slots=True)
class _Group:
    """Records that are committed together."""

    puts: list[tuple[bytes, bytes]] = field(default_factory=list)
    withdrawn: list[bytes] = field(default_factory=list)
    unsynced: list[str] = field(default_factory=list)
    since: float = 0.0


class CheckpointWriter:
    """Writes records of one generation into a file of its own.  Thread-safe.

    Whoever opens one closes it.  An error of the disk ends it: it is raised by whatever is called
    next, and ``failed`` is called from the committing thread as soon as it happens.
    """

    def __init__(
        self,
        place: WriterPlace,
        generation: int,
        *,
        map_bytes: int = MAP_BYTES,
        group_s: float = GROUP_S,
        group_records: int = GROUP_RECORDS,
        publish_every_s: float = PUBLISH_EVERY_S,
        failed: Callable[[HoldfastError], None] | None = None,
    ) -> None:
        """Claim and make the file.

        Raises ``CheckpointBusyError`` where a live process holds it, ``CheckpointError``.
        """
        self.place = place
        self.generation = generation
        self._group_s = group_s
        self._group_records = group_records
        self._publish_every_s = publish_every_s
        self._failed = failed
        self._pid = os.getpid()
        self._sequence = 0
        self._group = _Group()
        self._accepted = 0
        self._durable = 0
        self._waiting = 0
        self._closing = False
        self._error: HoldfastError | None = None
        self._changed = threading.Condition()
        self._unpublished = False
        self._publish_wanted = False
        self._rest_until = 0.0
        self._published_at = time.monotonic()
        try:
            self._owner = Ownership(place.live_file)
            self.environment = self._make_file(map_bytes)
        except Exception as error:
            raise self._in_words("opening a writer's file", error) from error
        self._thread = threading.Thread(
            target=self._commit_groups, name="holdfast-checkpoint", daemon=True
        )
        self._thread.start()

    def _make_file(self, map_bytes: int) -> Environment:
        environment: Environment | None = None
        try:
            remove_quietly(lock_file(self.place.live_file))
            environment = open_to_write(self.place.live_file, map_bytes)
            environment.write([Header(self.place.stem).item()])
            sync_directory(self.place.live)
        except BaseException:
            if environment is not None:
                environment.close()
            remove_quietly(self.place.live_file, lock_file(self.place.live_file))
            self._owner.release()
            raise
        return environment

    # -- what callers do -------------------------------------------------------------------

    def record(
        self,
        source: str,
        fingerprint: bytes,
        outcome: Outcome = Outcome.DONE,
        *,
        outputs: Sequence[Output] = (),
        fields: Mapping[str, Any] | None = None,
        reason: str = "",
        unsynced: Iterable[str] = (),
    ) -> None:
        """Take one record; it is durable soon, and certainly after ``flush``.

        ``unsynced`` are files and folders that the record stands for and that are not durable yet:
        they are made so before the record is.  Raises ``CheckpointError`` when an earlier commit
        failed.
        """
        key = key_of(source)
        detail = detail_of(source, outputs, fields, reason)
        value = encode(key, outcome, self.generation, fingerprint, detail)
        with self._changed:
            self._wait_for_room()
            group = self._group
            before = len(group.puts)
            group.puts.append((key, value))
            group.unsynced.extend(unsynced)
            self._accept(before)

    def withdraw(self, sources: Iterable[str]) -> None:
        """Take back what is known of these sources; when it returns that is durable.

        To be called before a source that has a record runs again.  Raises ``CheckpointError``.
        """
        names = iter(sources)
        while block := list(islice(names, _BLOCK)):
            with self._changed:
                self._wait_for_room()
                before = len(self._group.puts)
                for source in block:
                    key = key_of(source)
                    value = encode(key, Outcome.WITHDRAWN, self.generation, b"", detail_of(source))
                    self._group.puts.append((key, value))
                    self._group.withdrawn.append(key)
                self._accept(before)
        self.flush()
        if self.place.publishes:
            self.publish()

    def _wait_for_room(self) -> None:
        self._check()
        if self._accepted - self._durable >= _MOST_WAITING:
            self._wait_until(lambda: self._accepted - self._durable < _MOST_WAITING)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        self._waiting += 1
        self._changed.notify_all()
        try:
            while not condition():
                self._changed.wait()
                self._check()
        finally:
            self._waiting -= 1

    def _accept(self, before: int) -> None:
        """Count what was put behind the first ``before`` records of the group."""
        count = len(self._group.puts)
        if before == 0:
            self._group.since = time.monotonic()
        self._accepted += count - before
        # The committing thread looks for itself when the time is up: wake it for nothing else.
        if before == 0 or before < self._group_records <= count:
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything taken so far is durable; raises ``CheckpointError``."""
        with self._changed:
            self._check()
            target = self._accepted
            self._wait_until(lambda: self._durable >= target)

    def publish(self) -> None:
        """Return when everything taken so far can be read on other hosts; raises as ``flush``."""
        self.flush()
        with self._changed:
            self._publish_wanted = True
            self._wait_until(lambda: not self._publish_wanted)

    @property
    def durable(self) -> int:
        """How many records and withdrawals are durable."""
        return self._durable

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise CheckpointError(
                f'the writer of "{self.place.shared_file}" was opened by process {self._pid} and '
                f"is used by {os.getpid()}, a fork of it: open a writer after the fork"
            )
        if self._error is not None:
            raise self._error
        if self._closing:
            raise CheckpointError(f'the writer of "{self.place.shared_file}" is closed')

    def close(self) -> None:
        """Commit what waits, seal the file, let go of it.  Idempotent.

        Raises the ``CheckpointError`` of a commit that failed.  In a fork it does nothing.
        """
        if os.getpid() != self._pid:
            return
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        try:
            if self._error is None:
                self._finish()
        except Exception as error:  # noqa: BLE001 - raised below, when all is let go
            self._error = self._in_words("closing a writer's file", error)
        finally:
            self.environment.close()
            remove_quietly(lock_file(self.place.live_file))
            self._owner.release()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the end ---------------------------------------------------------------------------

    def _finish(self) -> None:
        contents = self._contents()
        if self.place.publishes:
            if contents.entries:
                publish_copy(self.environment, self.place.shared_file, contents, final=True)
            remove_quietly(self.place.live_file)
        elif contents.entries:
            seal_file(self.place.live_file, contents)
        else:
            remove_quietly(self.place.live_file)

    def _contents(self) -> Contents:
        entries = self.environment.entries() - 1  # the header is no record
        generation = self.generation if entries else 0
        return Contents(entries, generation, generation, self._sequence)

    # -- the committing thread -------------------------------------------------------------

    def _commit_groups(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                if group.puts:
                    self._commit(group)
                published = self._publish_if_due()
                with self._changed:
                    self._durable += len(group.puts)
                    self._publish_wanted &= not published
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
            self._fail(self._in_words("a commit", error))

    def _next_group(self) -> _Group | None:
        """Wait for records and return them; an empty group when it is time to publish."""
        with self._changed:
            while True:
                left_s = self._seconds_to_next()
                if left_s is not None and left_s <= 0:
                    group, self._group = self._group, _Group()
                    return group
                if self._closing and not self._group.puts:
                    return None
                self._changed.wait(left_s)

    def _seconds_to_next(self) -> float | None:
        """Return how long nothing needs to be done; ``None``: until somebody says something."""
        group = self._group
        now = time.monotonic()
        due = []
        if self._publish_wanted and not self._closing:
            return 0.0
        if group.puts:
            if self._waiting or self._closing:
                return 0.0
            is_full = len(group.puts) >= self._group_records
            left_s = 0.0 if is_full else group.since + self._group_s - now
            due.append(max(left_s, self._rest_until - now))
        if self._unpublished and not self._closing:
            due.append(self._published_at + self._publish_every_s - now)
        return min(due, default=None)

    def _commit(self, group: _Group) -> None:
        started = time.monotonic()
        sync_paths(_unique(group.unsynced))
        sequence = self._sequence + 1
        if group.withdrawn:
            log = log_of(self.place.shared_file)
            append(log, (Withdrawal(key, self.generation, sequence) for key in group.withdrawn))
        header = Header(self.place.stem, sequence)
        self.environment.write([*group.puts, header.item()])
        self._sequence = sequence
        ended = time.monotonic()
        self._rest_until = ended + min(_LONGEST_REST_S, _REST_SHARE * (ended - started))
        self._unpublished = self.place.publishes

    def _publish_if_due(self) -> bool:
        """Publish when it is time or somebody waits for it; whether it was done."""
        waited_s = time.monotonic() - self._published_at
        due = self._unpublished and waited_s >= self._publish_every_s
        if not self.place.publishes or not (due or self._publish_wanted):
            return False
        publish_copy(self.environment, self.place.shared_file, self._contents(), final=False)
        self._unpublished = False
        self._published_at = time.monotonic()
        return True

    def _in_words(self, doing: str, error: Exception) -> HoldfastError:
        if isinstance(error, HoldfastError):
            return error
        return in_words(self.place.directory, doing, error)

    def _fail(self, error: HoldfastError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()
        if self._failed is not None:
            self._failed(error)


def _unique(paths: Collection[str]) -> Collection[str]:
    return dict.fromkeys(paths)
