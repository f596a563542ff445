"""LMDB environments, opened so that none of LMDB's rules can be broken from outside.

LMDB's rules: a file is opened once in a process (its locks belong to the process, a second open
breaks the first), an environment does not survive a fork, the map of a file that another process
grew must be taken over, readers that died must be cleared.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tasks.checkpoint.durable import in_words, reserve
from tasks.checkpoint.errors import CheckpointBusyError, CheckpointError, CheckpointRefusedError

_LOCK_FILE_BYTES = 1 << 14
"""More than LMDB asks for with 126 readers: it takes a lock file as large as it finds it."""
_LARGEST_MAP = 1 << 46
_BLOCK = 10_000


def lock_file(path: Path) -> Path:
    """Return where LMDB keeps the locks of a file."""
    return path.with_name(path.name + "-lock")


class Environment:
    """An open file; shared by all in this process that open the same one.

    ``writable`` for the file's one writer.  ``live`` for a file that another process writes:
    only then are LMDB's locks taken part in.
    """

    def __init__(
        self, path: Path, *, writable: bool, live: bool, map_bytes: int = 1 << 20, sync: bool = True
    ) -> None:
        import lmdb

        self._lmdb = lmdb
        self.path = path
        self.pid = os.getpid()
        self.writable = writable
        self._users = 1
        self._lock = threading.RLock()
        """Held during every transaction of a live file: its map may only grow between them."""
        self._changes = locks = writable or live
        if writable:
            reserve(lock_file(path), _LOCK_FILE_BYTES)
        try:
            self._env: Any = lmdb.open(
                str(path),
                subdir=False,
                readonly=not writable,
                create=writable,
                lock=locks,
                sync=sync,
                map_size=map_bytes,
                max_readers=126,
                readahead=not writable,
                mode=0o644,
            )
        except (lmdb.VersionMismatchError, lmdb.InvalidError) as error:
            raise CheckpointRefusedError(
                f'checkpoint file "{path}" was written by another LMDB than the installed '
                f"{lmdb.__version__} can read ({error}); install the one that wrote it, or choose "
                "another folder with --checkpoint DIR"
            ) from error
        except lmdb.Error as error:
            raise in_words(path.parent, f'opening "{path.name}"', error) from error
        self.identity = _identity(path)
        if locks:
            self._env.reader_check()

    def check_process(self) -> None:
        """Raise ``CheckpointError`` in a process that inherited this environment by a fork."""
        if os.getpid() != self.pid:
            raise CheckpointError(
                f'checkpoint file "{self.path}" was opened by process {self.pid} and is used by '
                f"{os.getpid()}, a fork of it: open the store after the fork"
            )

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A read transaction; takes over a map that the file's writer has grown."""
        self.check_process()
        with self._lock if self._changes else nullcontext():
            try:
                transaction = self._env.begin()
            except self._lmdb.MapResizedError:
                self._env.set_mapsize(0)
                transaction = self._env.begin()
            with transaction:
                yield transaction

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that the file has."""
        with self.reading() as transaction, transaction.cursor() as cursor:
            return dict(cursor.getmulti(keys))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key and value in the order of the keys."""
        return chain.from_iterable(self.blocks(_BLOCK))

    def blocks(self, size: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield what ``items`` yields, ``size`` at a time.

        No transaction is open while the caller works: one that stays open would keep the map of a
        live file from growing.
        """
        start = b""
        while True:
            with self.reading() as transaction, transaction.cursor() as cursor:
                found = cursor.set_range(start) if start else cursor.first()
                block = list(islice(cursor.iternext(), size)) if found else []
            if block:
                yield block
            if len(block) < size:
                return
            start = block[-1][0] + b"\0"

    def write(self, puts: Sequence[tuple[bytes, bytes]], *, append: bool = False) -> None:
        """Commit these durably, all or none; grows the map as often as it takes.

        Raises the error of LMDB for anything but a full map.
        """
        self.check_process()
        with self._lock:
            while not self._has_written(puts, append):
                # The transaction is lost as a whole and is done again from its beginning.
                self._grow()

    def _has_written(self, puts: Sequence[tuple[bytes, bytes]], append: bool) -> bool:
        try:
            with self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(puts, append=append)
        except self._lmdb.MapFullError:
            return False
        return True

    def _grow(self) -> None:
        size = self._env.info()["map_size"]
        if size >= _LARGEST_MAP:
            raise CheckpointError(f'checkpoint file "{self.path}" cannot grow beyond {size} bytes')
        self._env.set_mapsize(size * 2)

    def copy(self, target: Path) -> None:
        """Write a compacted copy as of now; ``target`` must not exist."""
        self.check_process()
        with self._lock:
            self._env.copy(str(target), compact=True)

    def entries(self) -> int:
        """Return how many keys the file has."""
        self.check_process()
        return int(self._env.stat()["entries"])

    def close(self) -> None:
        """Let go; the file is closed when the last user has let go.

        In a fork of the process that opened it nothing is touched.
        """
        if os.getpid() != self.pid:
            return
        with _registry_lock:
            self._users -= 1
            if self._users == 0:
                _open.pop(self.identity, None)
                self._env.close()

    def hold(self) -> None:
        """Keep other threads from beginning a transaction that writes."""
        self._lock.acquire()

    def let_go(self) -> None:
        """End what ``hold`` began."""
        self._lock.release()

    def drop(self) -> None:
        """Close what a fork inherited; only ``check_process`` works afterwards."""
        self._env.close()

    def share(self) -> Environment:
        """Return the same environment for one more user."""
        self._users += 1
        return self


_registry_lock = threading.Lock()
_open: dict[tuple[int, int], Environment] = {}


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _hold_still() -> None:
    """Let no transaction be half done in the moment of a fork."""
    _registry_lock.acquire()
    for environment in _open.values():
        environment.hold()


def _go_on() -> None:
    for environment in _open.values():
        environment.let_go()
    _registry_lock.release()


def _drop_what_was_inherited() -> None:
    """Close the environments in the child, which may then open the same files for itself.

    Between transactions that touches neither the parent's locks nor its readers.
    """
    inherited = list(_open.values())
    _open.clear()
    for environment in inherited:
        environment.let_go()
        environment.drop()
    _registry_lock.release()


os.register_at_fork(
    before=_hold_still, after_in_parent=_go_on, after_in_child=_drop_what_was_inherited
)


def open_to_read(path: Path, *, live: bool = False) -> Environment:
    """Open a file for reading, or share it with whoever in this process has it open.

    The caller has made sure that the file is whole.  Raises ``FileNotFoundError``.
    """
    with _registry_lock:
        known = _open.get(_identity(path))
        if known is not None:
            return known.share()
        return _registered(Environment(path, writable=False, live=live))


def open_to_write(path: Path, map_bytes: int, *, sync: bool = True) -> Environment:
    """Make a file and open it as its one writer; without ``sync`` a commit is not durable.

    Raises ``CheckpointBusyError`` when there is one already.
    """
    with _registry_lock:
        if path.exists():
            raise CheckpointBusyError(
                f'checkpoint file "{path}" is there already; a writer only writes its own'
            )
        return _registered(
            Environment(path, writable=True, live=True, map_bytes=map_bytes, sync=sync)
        )


def _registered(environment: Environment) -> Environment:
    _open[environment.identity] = environment
    return environment
