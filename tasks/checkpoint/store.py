"""The checkpoint store of one name: which sources are done, for this run and the next ones."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, tee
from pathlib import Path
from typing import Any

from tasks.checkpoint.durable import disk_errors
from tasks.checkpoint.environment import Environment, open_to_read
from tasks.checkpoint.errors import CheckpointBusyError, CheckpointError
from tasks.checkpoint.file_systems import answer_within, local_directory_for
from tasks.checkpoint.generations import (
    FILE_NAME,
    RESET,
    RESET_ALL,
    Generations,
    Mark,
    missing_shards,
)
from tasks.checkpoint.header import Header
from tasks.checkpoint.healing import (
    adopt_local_files,
    free_stem,
    heal,
    mark_reset,
    next_number,
    withdraw_apart,
)
from tasks.checkpoint.inspection import FileState, Inspection, inspect, store_files
from tasks.checkpoint.owner import has_live_owner, is_mine, owner_in_words
from tasks.checkpoint.record import Outcome, Record
from tasks.checkpoint.settings import StoreSettings
from tasks.checkpoint.summary import StoreFileSummary, StoreSummary
from tasks.checkpoint.view import Entry, Holds, View
from tasks.checkpoint.writer import CheckpointWriter, WriterPlace
from tasks.errors import HoldfastError, UnknownError
from tasks.status import RunStatus

_log = logging.getLogger("holdfast.checkpoint")


class Generation:
    """One run's part of a store, from its start mark to its end mark."""

    def __init__(self, store: CheckpointStore, mark: Mark) -> None:
        self._store = store
        self.mark = mark

    @property
    def number(self) -> int:
        """The generation that its records carry."""
        return self.mark.number

    @property
    def base(self) -> int:
        """The generation from which on records count when this run resumes an interrupted one."""
        return self.mark.base

    def writer(self, failed: Callable[[HoldfastError], None] | None = None) -> CheckpointWriter:
        """Open this process's writer; see ``CheckpointStore.writer``."""
        return self._store.writer(self.number, failed=failed)

    def end(self, status: RunStatus, counts: Mapping[str, int] | None = None) -> None:
        """Write the end mark; every writer must be closed before.

        Without it, or with CANCELLED or CRASHED, the next start with ``auto`` resumes.
        Raises ``CheckpointError``.
        """
        self._store._end(self.number, status, counts or {})


class CheckpointStore:
    """The store in one directory.

    Reading needs nothing but the directory; ``begin`` makes it, heals it and takes a generation;
    ``writer`` opens this process's own file.  Nothing that this class does imports ``lmdb`` before
    there is a file to open.  Close it, or use it in a ``with`` statement.

    What went wrong with the files and was survived is logged as a warning and kept in
    ``messages``.  Raises ``CheckpointRefusedError`` for a place or a format that cannot be used,
    ``CheckpointBusyError``, and ``CheckpointError`` for everything else.
    """

    def __init__(self, settings: StoreSettings | Path | str) -> None:
        if not isinstance(settings, StoreSettings):
            settings = StoreSettings(Path(settings))
        directory = Path(os.path.abspath(settings.directory))  # noqa: PTH100 - touches nothing
        self.settings = replace(settings, directory=directory)
        self.directory = directory
        self.messages: list[str] = []
        self._pid = os.getpid()
        self._view: View | None = None
        self._files: dict[str, Environment] = {}
        self._inspection = Inspection()
        self._lock = threading.RLock()
        self._live: Path | None = None
        self._is_probed = False

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every file opened for reading; writers are closed by those who opened them."""
        with self._lock:
            self._close_files()
            self._view = None

    # -- reading ---------------------------------------------------------------------------

    def lookup(self, source: str) -> Record | None:
        """Return what is known about a source; see ``lookup_many``."""
        return next(self.lookup_many((source,)))

    def lookup_many(self, sources: Iterable[str]) -> Iterator[Record | None]:
        """Yield for each source, in order, its newest record; ``None`` where there is none.

        A source that was withdrawn since has a record that says so.  Files that writers of other
        processes have made since the first look are seen after ``refresh``.  Memory does not grow
        with the number of sources.
        """
        return self._open_view().lookup(sources)

    def undone(
        self, sources: Iterable[Entry], base: int = 0, holds: Holds | None = None
    ) -> Iterator[tuple[Entry, Record | None]]:
        """Yield those sources that must run, as they were given, each with what is known of it.

        They are given as tuples that begin with the name and the fingerprint.  A source is spared
        when it is DONE with this fingerprint in a generation from ``base`` on.  What is known of
        the others is something else, or ``None``.  ``holds`` may look at each record that would
        spare a source, and refuse it.  Memory does not grow with the number of sources.
        """
        return chain.from_iterable(self._open_view().undone(sources, base, holds))

    def records(self) -> Iterator[Record]:
        """Yield the newest record of every source that has one, in the order of their names."""
        return self._open_view().records()

    def interrupted(self, shard: str = "") -> bool:
        """Whether the newest run was cancelled, crashed or killed: what ``auto`` resumes."""
        last = self.last(shard)
        return last is not None and last.was_interrupted

    def last(self, shard: str = "") -> Mark | None:
        """Return the newest generation; ``None`` if there is none."""
        return self.generations().last(shard)

    def generations(self) -> Generations:
        """Read the marks of all generations."""
        self._probe()
        with disk_errors(self.directory, f'reading "{FILE_NAME}"'):
            generations = Generations(self.directory)
        for problem in generations.problems:
            self._say(problem)
        return generations

    def missing(self, sources: Iterable[str]) -> Iterator[str]:
        """Yield those sources that are not done."""
        # Lookups run ahead by one block, so that is all that waits between the two.
        first, second = tee(sources)
        for source, record in zip(first, self.lookup_many(second), strict=True):
            if record is None or record.outcome is not Outcome.DONE:
                yield source

    def missing_shards(self) -> list[str]:
        """Return the shards, as ``I/N``, whose newest run did not complete."""
        return missing_shards(self.generations().marks.values())

    def show(self) -> StoreSummary:
        """Return what the store holds; reads every record."""
        generations = self.generations()
        view = self._open_view()
        counts = Counter(record.outcome.name.lower() for record in view.records())
        return StoreSummary(
            self.directory,
            tuple(mark for _, mark in sorted(generations.marks.items())),
            dict(counts),
            tuple(self._file_summaries()),
            tuple(sorted(path.name for path in self.directory.glob("*.damaged-*"))),
            tuple(self.messages),
        )

    def _file_summaries(self) -> Iterator[StoreFileSummary]:
        for file in self._inspection.files:
            if file.state is not FileState.LIVE:
                name, size = file.path.name, file.size_bytes
                yield StoreFileSummary(name, file.state.value, file.contents.entries, size)
        for path in filter(has_live_owner, store_files(self.directory)):
            if path.name in self._files:
                entries = self._files[path.name].entries() - 1  # the header is no record
                size = path.stat().st_size
                yield StoreFileSummary(path.name, FileState.LIVE.value, entries, size)

    def refresh(self) -> None:
        """Look at the directory again: files of writers that were opened elsewhere since."""
        with self._lock:
            self._view = None

    def _open_view(self) -> View:
        self._check_process()
        with self._lock:
            if self._view is None:
                self._probe()
                self._view = self._opened(self.generations().floor)
            return self._view

    def _opened(self, floor: int) -> View:
        """Open every file that can be read; another start may merge some away meanwhile."""
        for _ in range(20):
            self._close_files()
            try:
                self._inspection = inspect(self.directory)
                return self._open_files(self._inspection, floor)
            except FileNotFoundError:
                continue
        raise CheckpointError(
            f'checkpoint "{self.directory}" keeps changing while it is read; try again'
        )

    def _open_files(self, inspection: Inspection, floor: int) -> View:
        for message in inspection.messages:
            self._say(message)
        if inspection.nothing_counts:
            return View(())
        live = [file.path for file in inspection.files if file.state is FileState.LIVE]
        whole = [file for file in inspection.files if file.state is not FileState.LIVE]
        view = View(
            [(self._opened_file(file.path), file.contents.highest) for file in whole],
            inspection.withdrawn,
            floor,
        )
        for path in [*live, *filter(is_mine, store_files(self.directory))]:
            environment = self._opened_file(path, live=True)
            Header.of(environment)  # refuses a file of a newer version
            view.add_live(environment)
        return view

    def _opened_file(self, path: Path, *, live: bool = False) -> Environment:
        environment = open_to_read(path, live=live)
        self._files[path.name] = environment
        return environment

    def _close_files(self) -> None:
        for environment in self._files.values():
            environment.close()
        self._files.clear()

    # -- a run -----------------------------------------------------------------------------

    def begin(
        self,
        run: str,
        *,
        base: int | None = None,
        shard: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> Generation:
        """Heal the store, merge what dead writers left, and take the next generation.

        ``base``: the generation from which on records count, for a run that resumes; ``None`` for
        a run that starts afresh.  ``shard``: ``3/8`` for a part of the sources.  ``facts``: what
        all records of this generation have in common.
        """
        self._check_process()
        self._probe()
        with self._locked():
            self._view = None
            generations = self.generations()
            adopt_local_files(self.directory, self._live_directory(), self._say)
            inspection = self._heal(generations)
            number = next_number(generations, inspection)
            mark = Mark(
                number,
                run=run,
                started_at=time.time(),
                base=number if base is None else base,
                shard=shard,
                facts=dict(facts or {}),
            )
            generations.start(mark)
            self._view = self._opened(generations.floor)
        return Generation(self, mark)

    def writer(
        self,
        generation: int,
        *,
        stem: str | None = None,
        failed: Callable[[HoldfastError], None] | None = None,
    ) -> CheckpointWriter:
        """Open a writer of this process for a generation that was begun, here or elsewhere.

        ``failed`` is called, from the writer's thread, when a commit fails.
        Raises ``CheckpointBusyError`` when a live process writes the file of this name.
        """
        self._check_process()
        self._probe()
        live = self._live_directory()
        place = WriterPlace(self.directory, live, free_stem((live, self.directory), stem))
        writer = CheckpointWriter(
            place,
            generation,
            map_bytes=self.settings.map_bytes,
            publish_every_s=self.settings.publish_every_s,
            failed=failed,
        )
        with self._lock:
            if self._view is not None:
                environment = writer.environment.share()
                self._files[place.shared_file.name] = environment
                self._view.add_live(environment)
        return writer

    def _end(self, number: int, status: RunStatus, counts: Mapping[str, int]) -> None:
        with self._locked():
            self.generations().end(number, status.value, counts)

    def reset(self, sources: Iterable[str] | None = None) -> int:
        """Forget these sources, or all: they run again.  Returns how many were forgotten.

        Raises ``UnknownError`` that names sources without a record, ``CheckpointBusyError`` while
        a writer lives.
        """
        self._check_process()
        self._probe()
        with self._locked():
            self._refuse_while_written()
            generations = self.generations()
            number = next_number(generations, inspect(self.directory))
            if sources is None:
                count = sum(1 for _ in self._opened(generations.floor).records())
                mark_reset(generations, number, RESET_ALL)
            else:
                wanted = list(dict.fromkeys(sources))
                count = len(wanted)
                withdraw_apart(self.directory, self._known_only(wanted, generations.floor), number)
                mark_reset(generations, number, RESET)
            self._view = None
            self._heal(generations)
        return count

    def _known_only(self, sources: list[str], floor: int) -> list[str]:
        found = self._opened(floor).lookup(sources)
        unknown = [name for name, record in zip(sources, found, strict=True) if record is None]
        if unknown:
            named = ", ".join(f'"{name}"' for name in unknown[:10])
            raise UnknownError(
                f'checkpoint "{self.directory}" has no record of {named}; '
                "`checkpoint show` lists what it has"
            )
        return sources

    def _refuse_while_written(self) -> None:
        for path in store_files(self.directory):
            if has_live_owner(path):
                raise CheckpointBusyError(
                    f'checkpoint "{self.directory}" is being written by {owner_in_words(path)}; '
                    "wait until the run ends, or cancel it"
                )

    # -- what both need --------------------------------------------------------------------

    def _heal(self, generations: Generations) -> Inspection:
        self._close_files()
        return heal(self.directory, self._live_directory(), generations, self._say)

    def _say(self, message: str) -> None:
        if message not in self.messages:
            self.messages.append(message)
            _log.warning("%s", message)

    # -- the place -------------------------------------------------------------------------

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise CheckpointError(
                f'checkpoint "{self.directory}" was opened by process {self._pid} and is used by '
                f"{os.getpid()}, a fork of it: open the store after the fork"
            )

    def _probe(self) -> None:
        """Touch the directory once, in bounded time."""
        if not self._is_probed:
            system = self.settings.mounts.file_system(self.directory)
            what = f'checkpoint directory "{self.directory}" on {system}'
            answer_within(self.directory.exists, what)
            self._is_probed = True

    def _live_directory(self) -> Path:
        """Return where this host's live files go; raises ``CheckpointRefusedError``."""
        if self._live is None:
            mounts = self.settings.mounts
            real = self.directory.resolve()
            if mounts.file_system(self.directory).is_safe and mounts.file_system(real).is_safe:
                self._live = self.directory
            else:
                candidates = self.settings.local_candidates
                self._live = local_directory_for(real, mounts, candidates)
        return self._live

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the store's lock: one start, end or reset at a time."""
        from filelock import FileLock, Timeout

        with self._lock:
            self._live_directory()
            with disk_errors(self.directory, "making the directory"):
                self.directory.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.directory / ".lock")
            with disk_errors(self.directory, "taking the lock"):
                try:
                    lock.acquire(timeout=self.settings.lock_within_s)
                except Timeout:
                    raise CheckpointBusyError(
                        f'checkpoint "{self.directory}" has been locked by another start for '
                        f"{self.settings.lock_within_s:g} s; wait until it is done, or end it"
                    ) from None
            try:
                with disk_errors(self.directory, "writing"):
                    yield
            finally:
                lock.release()
