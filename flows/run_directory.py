"""One directory for each run, its name unique, and ``run.json`` in it."""

from __future__ import annotations

import errno
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.atomic_file import write_json_atomically
from tasks.events import iso_utc
from tasks.status import RunStatus


def create_run_directory(runs: Path, name: str, file_of: Callable[[str], RunFile]) -> Path:
    """Make and return ``<runs>/<time in UTC>_<name>``; its name is nobody else's.

    ``file_of`` returns the first ``run.json`` for the name that was found.  The directory appears
    by a rename, with that file in it: whoever dies at any moment leaves a run that can be told and
    settled, or a hidden folder.  The rename is also what decides between two starts in the same
    microsecond: the later one gets a suffix.  Raises ``OSError`` where the folder cannot be
    written.
    """
    runs.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.fromtimestamp(time.time(), UTC):%Y-%m-%d_%H-%M-%S-%f}_{name}"
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=runs))
    new.chmod(0o755)
    for count in itertools.count(1):
        directory = runs / (stem if count == 1 else f"{stem}-{count}")
        file_of(directory.name).write(new)
        try:
            # A run's directory is never empty, so a rename never takes one's place.
            new.rename(directory)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            continue
        return directory
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class RunFile:
    """The contents of ``run.json``; times are seconds since the epoch."""

    run: str
    name: str
    status: RunStatus = RunStatus.STARTING
    started_at: float = 0.0
    ended_at: float | None = None
    flow_run_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    resumed_from: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git: Mapping[str, Any] | None = None
    socket: str | None = None
    driver: Mapping[str, Any] | None = None
    """The process that leads the run: pid, start time, boot id and host."""
    cwd: str | None = None
    """Where jobs run that say nothing else."""
    number: int = 0
    """What every process of the run carries."""
    prefect: Mapping[str, Any] | None = None
    """How the run is reported: ``api_url``, ``ephemeral`` (the server ends with the run) and
    ``report_limit``."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that the file holds."""
        return {
            "run": self.run,
            "name": self.name,
            "status": self.status.value,
            "started_at": iso_utc(self.started_at),
            "ended_at": None if self.ended_at is None else iso_utc(self.ended_at),
            "flow_run_id": self.flow_run_id,
            "parameters": dict(self.parameters),
            "counts": dict(self.counts),
            "resumed_from": self.resumed_from,
            "versions": dict(self.versions),
            "git": self.git,
            "socket": self.socket,
            "driver": self.driver,
            "cwd": self.cwd,
            "number": self.number,
            "prefect": self.prefect,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunFile:
        """Read what ``to_json`` wrote; raises ``KeyError``, ``ValueError`` or ``TypeError``."""
        ended = value.get("ended_at")
        return cls(
            run=str(value["run"]),
            name=str(value["name"]),
            status=RunStatus(value["status"]),
            started_at=datetime.fromisoformat(value["started_at"]).timestamp(),
            ended_at=None if ended is None else datetime.fromisoformat(ended).timestamp(),
            flow_run_id=value.get("flow_run_id"),
            parameters=value.get("parameters") or {},
            counts=value.get("counts") or {},
            resumed_from=value.get("resumed_from"),
            versions=value.get("versions") or {},
            git=value.get("git"),
            socket=value.get("socket"),
            driver=value.get("driver"),
            cwd=value.get("cwd"),
            number=int(value.get("number") or 0),
            prefect=value.get("prefect"),
        )

    def write(self, directory: Path) -> None:
        """Replace ``run.json`` of the directory by this, in one step."""
        write_json_atomically(directory / "run.json", self.to_json())

    @classmethod
    def read(cls, directory: Path) -> RunFile | None:
        """Return the contents of the directory's ``run.json``; ``None`` if it is no run."""
        try:
            return cls.from_json(json.loads((directory / "run.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def report_limit(self) -> int | None:
        """Above how many jobs Prefect is told of groups; ``None`` where nobody said."""
        limit = (self.prefect or {}).get("report_limit")
        return limit if isinstance(limit, int) else None

    def ended(self, status: RunStatus, counts: Mapping[str, int], at: float) -> RunFile:
        """Return this run as one that is over."""
        return replace(self, status=status, counts=dict(counts), ended_at=at, socket=None)
