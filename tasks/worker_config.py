"""What a worker process of a pipeline is told, and what it tells."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.pipeline import CodeChanges
from tasks.shares import Share

COUNTS_NAME = "counts.json"
"""In the job's directory: what the worker did so far."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker is told, on its command line."""

    pipeline: str
    """``file.py:name`` or ``module:name``."""
    share: Share = field(default_factory=Share)
    checkpoint: str | None = None
    """The store's directory; ``None``: nothing is remembered, and nothing of it is imported."""
    generation: int = 0
    """The generation that the run has begun."""
    base: int | None = None
    """The generation from which on records count; ``None``: none does."""
    code_changes: CodeChanges = "keep"
    mounts: str = "/proc/self/mountinfo"
    """The mount table, from which unsafe file systems are known."""
    local_candidates: tuple[str, ...] | None = None
    """Where to look for a local disk if the store is on a network file system."""

    def to_text(self) -> str:
        """Return it as an argument for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> WorkerConfig:
        """Read what ``to_text`` wrote."""
        values = json.loads(text)
        share = Share(**values.pop("share"))
        places = values.pop("local_candidates")
        return cls(
            **values, share=share, local_candidates=None if places is None else tuple(places)
        )


@dataclass(slots=True)
class WorkerCounts:
    """What a worker did so far, as ``counts.json`` tells it."""

    sources: Counter[str] = field(default_factory=Counter)
    """``seen``, ``spared``, ``done``, ``failed``, ``reopened``."""
    items: Counter[str] = field(default_factory=Counter)
    """``read``, ``out``, ``filtered``, ``empty``, ``failed``, ``repeated``, ``corrected``,
    ``late``."""
    failures: list[str] = field(default_factory=list)
    """The first few, in words."""
    bugs: list[str] = field(default_factory=list)
    """Answers that came after their source was complete."""
    finished: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every source that was seen is done."""
        return self.finished and not self.sources["failed"] and not self.sources["reopened"]

    def to_json(self) -> dict[str, Any]:
        """Return the contents of the file."""
        return {
            "sources": dict(self.sources),
            "items": dict(self.items),
            "failures": self.failures,
            "bugs": self.bugs,
            "finished": self.finished,
        }

    @classmethod
    def read(cls, path: Path) -> WorkerCounts:
        """Read the file of a worker; one that has not written any has done nothing."""
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls()
        return cls(
            Counter(values["sources"]),
            Counter(values["items"]),
            values["failures"],
            values["bugs"],
            values["finished"],
        )

    def add(self, other: WorkerCounts) -> None:
        """Add what another worker did."""
        self.sources.update(other.sources)
        self.items.update(other.items)
        self.failures += other.failures
        self.bugs += other.bugs
        self.finished = self.finished and other.finished
