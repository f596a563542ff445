"""Looks at the files that globs stand for: what is there, and when it last changed.

Thousands of jobs may share their inputs, so a look is shared by all that may have it: whoever asks
says how old it may be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from hashlib import blake2b
from pathlib import Path

from tasks.content_hashes import ContentHashes, FileStamp
from tasks.matched_files import matched_files

_MOST_REMEMBERED = 1_000


class FileLook:
    """The files that some globs stood for at one moment."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self.stamps: Mapping[str, FileStamp] = {
            name: FileStamp.of(path) for name, path in paths.items()
        }
        self._digests: Mapping[str, str] | None = None
        self._digest = ""

    def without(self, names: Collection[str]) -> FileLook:
        """Return this look without some of its files."""
        look = FileLook({})
        look._paths = {name: path for name, path in self._paths.items() if name not in names}
        look.stamps = {name: self.stamps[name] for name in look._paths}
        return look

    def digests(self, hashes: ContentHashes) -> Mapping[str, str]:
        """Return the digest of each file's content; raises ``OSError`` if one changed since."""
        if self._digests is None:
            self._digests = {
                name: hashes.digest(path, self.stamps[name]) for name, path in self._paths.items()
            }
        return self._digests

    def digest(self, hashes: ContentHashes) -> str:
        """Return one digest over all names and contents; raises ``OSError``."""
        if not self._digest:
            digest = blake2b(digest_size=16)
            for name, content in self.digests(hashes).items():
                digest.update(os.fsencode(name) + b"\0" + content.encode("ascii") + b"\0")
            self._digest = digest.hexdigest()
        return self._digest


class FileLooks:
    """Remembers looks.  Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, tuple[str, ...]], tuple[float, FileLook]] = {}

    def look(self, patterns: tuple[str, ...], cwd: Path, not_before: float) -> FileLook:
        """Return a look that was taken at ``not_before``, in monotonic seconds, or later.

        Raises ``OSError``.
        """
        key = (cwd, patterns)
        taken_at, known = self._known.get(key, (0.0, None))
        if known is not None and taken_at >= not_before:
            return known
        now = time.monotonic()
        look = FileLook(matched_files(patterns, cwd))
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = (now, look)
        return look
