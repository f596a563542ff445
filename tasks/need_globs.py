"""Globs in ``needs``: which jobs of a graph they mean."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable
from fnmatch import translate

_SPECIAL = re.compile(r"[*?\[]")


def is_glob(need: str) -> bool:
    """Return whether the text is a glob; no id of a job is one."""
    return _SPECIAL.search(need) is not None


class NeedGlobs:
    """Finds the ids that a glob (``*``, ``?``, ``[...]``) matches, for many jobs that ask.

    Each glob is looked up once, among the ids that begin like it.  Jobs with the same glob share
    one result.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._position = {job_id: position for position, job_id in enumerate(ids)}
        self._sorted = sorted(self._position)
        self._found: dict[str, dict[str, None]] = {}

    def matches(self, glob: str, job_id: str) -> Collection[str]:
        """Return the ids that the glob matches, in the graph's order, without ``job_id`` itself."""
        found = self._found.get(glob)
        if found is None:
            found = self._found[glob] = self._look_up(glob)
        return [other for other in found if other != job_id] if job_id in found else found

    def _look_up(self, glob: str) -> dict[str, None]:
        special = _SPECIAL.search(glob)
        prefix = glob[: special.start()] if special else glob
        matches = re.compile(translate(glob)).match
        start = bisect_left(self._sorted, prefix)
        found = []
        for position in range(start, len(self._sorted)):
            job_id = self._sorted[position]
            if not job_id.startswith(prefix):
                break
            if matches(job_id):
                found.append(job_id)
        return dict.fromkeys(sorted(found, key=self._position.__getitem__))
