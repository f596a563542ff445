"""Where the items of a pipeline end: what came from one source becomes visible all at once.

A part is written under a temporary name and published by a rename when its source is done.
Running a source twice replaces its part by the same one, which makes of work that is done at least
once output that is there exactly once.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.checkpoint.record import Output
from tasks.lineage import ItemId, in_order

_LONGEST_NAME = 180


class Published:
    """What publishing a part left to be made durable, and what a record says of it."""

    def __init__(self, outputs: Sequence[Output] = (), unsynced: Iterable[str] = ()) -> None:
        self.outputs = tuple(outputs)
        self.unsynced = tuple(unsynced)
        """Files and folders to be synced before the source is recorded."""


class Sink(ABC):
    """Takes the items of sources; one for each worker process.

    ``version`` is part of every source's fingerprint: another one makes all sources run again.
    """

    version: str = "1"

    def open(self) -> None:  # noqa: B027 - most sinks need nothing
        """Make ready, in the worker process."""

    @abstractmethod
    def publish(self, source: str, items: Sequence[tuple[ItemId, Any]]) -> Published:
        """Make the items of one source visible, in the place of any earlier ones.

        The items come in the order of the tree they form, whatever order they arrived in.  When
        this returns they need not be durable.  Raises ``OSError``.
        """

    def holds(self, source: str, outputs: Sequence[Output]) -> bool:
        """Whether what was published for a recorded source is still there, unchanged."""
        return True

    def close(self) -> None:  # noqa: B027 - most sinks need nothing
        """Let go of everything, in the worker process."""

    def parameters(self) -> Mapping[str, Any]:
        """Return what, beside the version, makes the sink's output what it is; plain values."""
        return {}


class FileSink(Sink):
    """A file for each source, below ``folder``; a source without items has none.

    Files are spread over folders by a digest of the source's name: a million in one would make
    every look at it slow.
    """

    suffix = ""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()

    def path_of(self, source: str) -> Path:
        """Return the file of a source; no name leads out of the folder."""
        name, digest = safe_name(source)
        return self.folder / digest[:2] / (name + self.suffix)

    def publish(self, source: str, items: Sequence[tuple[ItemId, Any]]) -> Published:
        """Write a temporary file beside the real one and rename it."""
        path = self.path_of(source)
        if not items:
            return self._publish_nothing(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Always the same name: what a killed worker left goes when its source runs again.
        temporary = path.with_name(f".{path.name[:200]}.tmp")
        try:
            self.write(temporary, [item for _, item in items])
            temporary.rename(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        status = path.stat()
        name = str(path.relative_to(self.folder))
        output = Output(name, status.st_size, status.st_mtime_ns)
        return Published([output], [str(path), str(self.folder)])

    def _publish_nothing(self, path: Path) -> Published:
        try:
            path.unlink()
        except FileNotFoundError:
            return Published()
        return Published(unsynced=[str(path.parent)])

    @abstractmethod
    def write(self, path: Path, items: Sequence[Any]) -> None:
        """Write the items of one source into a new file."""

    def holds(self, source: str, outputs: Sequence[Output]) -> bool:
        """Whether the file has the size and the time of modification that were recorded."""
        try:
            for output in outputs:
                status = os.stat(os.path.join(self.folder, output.path))  # noqa: PTH116, PTH118
                if (status.st_size, status.st_mtime_ns) != (output.size_bytes, output.mtime_ns):
                    return False
        except OSError:
            return False
        return bool(outputs) or not self.path_of(source).exists()


class JsonLinesSink(FileSink):
    """Writes each item as one line of JSON, with sorted keys: equal items are equal bytes."""

    suffix = ".jsonl"

    def write(self, path: Path, items: Sequence[Any]) -> None:
        """Write the lines; raises ``TypeError`` for an item that JSON has no form for."""
        lines = [json.dumps(item, sort_keys=True, ensure_ascii=False) for item in items]
        text = "".join(line + "\n" for line in lines)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


class CollectingSink(Sink):
    """Keeps what was published in memory, by source: for tests and for looking around."""

    def __init__(self) -> None:
        self.published: dict[str, list[Any]] = {}

    def publish(self, source: str, items: Sequence[tuple[ItemId, Any]]) -> Published:
        """Keep the items."""
        self.published[source] = [item for _, item in items]
        return Published()


class SinkPart:
    """The items of one source on their way into the sink; nothing of them is visible yet."""

    def __init__(self) -> None:
        self._items: dict[ItemId, Any] = {}

    def put(self, item_id: ItemId, item: Any) -> None:
        """Take an item, or another version of it."""
        self._items[item_id] = item

    def remove(self, item_id: ItemId) -> None:
        """Forget an item, if it is here."""
        self._items.pop(item_id, None)

    def items(self) -> list[tuple[ItemId, Any]]:
        """Return the items in the order of the tree they form."""
        return [(item_id, self._items[item_id]) for item_id in in_order(self._items)]


def safe_name(source: str) -> tuple[str, str]:
    """Return a file name that only this source has, and a digest of the source's name."""
    encoded = source.encode("utf-8", "surrogatepass")
    digest = blake2b(encoded, digest_size=16).hexdigest()
    name = quote(encoded, safe="=+,@ ")
    if len(name) > _LONGEST_NAME:
        return f"{name[:100]}~{digest}", digest
    return "%" + name if name.startswith(".") or not name else name, digest
