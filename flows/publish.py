"""Results of experiments appear under their own name at once, complete, and never change.

The jobs write inside the run directory.  What is complete there becomes one folder with the time
as its name, by one rename; nobody ever sees half of it, and nothing is overwritten.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.atomic_file import write_json_atomically
from tasks.errors import HoldfastError, UnknownError
from tasks.events import iso_utc
from tasks.experiment_files import PUBLICATION_FOLDER

MANIFEST = "manifest.json"

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Published:
    """Results as they lie on the disk."""

    path: Path
    experiments: Mapping[str, Mapping[str, Document]]
    """For each experiment the document of each library, the reference first."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Empty where nothing has been published yet."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "path": str(self.path),
            "manifest": dict(self.manifest),
            "experiments": {
                name: list(documents.values()) for name, documents in self.experiments.items()
            },
        }

    @property
    def failures(self) -> dict[str, str]:
        """Candidates without usable results, as ``<experiment>.<library>``, and why."""
        return {
            f"{name}.{library}": document["cause"]["message"]
            for name, documents in self.experiments.items()
            for library, document in documents.items()
            if document["cause"] is not None
        }


def collect(directory: Path) -> Published:
    """Return the results in a run directory, or in a folder that was published.

    Every figure is read from a document that a job wrote.  Raises ``UnknownError`` where there
    are no results, ``HoldfastError`` for a document that cannot be read.
    """
    inside = directory / PUBLICATION_FOLDER
    folder = inside if inside.is_dir() else directory
    experiments = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        documents = _documents(path) if path.is_dir() else {}
        if documents:
            experiments[path.name] = documents
    if not experiments:
        raise UnknownError(
            f'there are no results in "{directory}"; a run publishes what its experiments completed'
        )
    manifest = folder / MANIFEST
    return Published(folder, experiments, _read(manifest) if manifest.is_file() else {})


def publish(
    run_directory: Path,
    results_root: Path,
    manifest_facts: Mapping[str, Any],
    *,
    at: float | None = None,
) -> Path | None:
    """Publish what a run completed and return the new folder; ``None`` if it completed nothing.

    The folder is ``<results_root>/<time in UTC>``, with a suffix where that name is taken; ``at``
    (seconds since the epoch) is now unless given.  ``manifest_facts`` (see ``manifest_facts``)
    name what was ``requested``; what else there is to know is added.  Call it only for a run
    that ended by itself: a cancelled or crashed one publishes nothing.

    Until the rename nothing is visible under ``results_root`` but a hidden folder where the two
    places lie on different file systems.  Raises ``HoldfastError`` if it cannot be written; the
    results are then still complete in the run directory, and publishing can be repeated.
    """
    source = run_directory / PUBLICATION_FOLDER
    try:
        published = collect(run_directory)
    except UnknownError:
        return None
    when = time.time() if at is None else at
    try:
        write_json_atomically(source / MANIFEST, _manifest(published, manifest_facts, when))
        results_root.mkdir(parents=True, exist_ok=True)
        _sync_tree(source)
        return _publish_folder(source, results_root, when)
    except OSError as error:
        raise HoldfastError(
            f'cannot publish to "{results_root}": {error.strerror or error}; the results are '
            f'complete in "{source}", make room or choose another folder and publish again'
        ) from error


def manifest_facts(
    run_directory: Path, requested: Sequence[str], configuration: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a manifest says of the run: from its ``run.json``, and what was asked for.

    ``configuration`` is what decides the results: n, seed, rounds, suite.
    """
    run: Mapping[str, Any] = {}
    if (run_directory / "run.json").is_file():
        run = _read(run_directory / "run.json")
    return {
        "run": run_directory.name,
        "configuration": dict(configuration),
        "versions": dict(run.get("versions") or {}),
        "git": run.get("git"),
        "requested": list(requested),
    }


def _documents(folder: Path) -> dict[str, Document]:
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    for document in found:
        if "candidate_library" not in document:
            raise HoldfastError(f'"{folder}" holds a JSON file that is no result; remove it')
    found.sort(key=lambda each: each["candidate_library"] != each["reference_library"])
    return {document["candidate_library"]: document for document in found}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise HoldfastError(
            f'"{path}" cannot be read: {error}; run the experiment again'
        ) from error
    if not isinstance(value, dict):
        raise HoldfastError(f'"{path}" is no JSON object; run the experiment again')
    return value


def _manifest(published: Published, facts: Mapping[str, Any], at: float) -> dict[str, Any]:
    requested = list(facts.get("requested", published.experiments))
    return {
        **facts,
        "published_at": iso_utc(at),
        "versions": {**facts.get("versions", {}), **_library_versions(published)},
        "machine": _machine(),
        "requested": requested,
        "completed": [name for name in requested if name in published.experiments],
        "missing": [name for name in requested if name not in published.experiments],
        "failed": published.failures,
    }


def _library_versions(published: Published) -> dict[str, str]:
    return {
        library: version
        for documents in published.experiments.values()
        for library, document in documents.items()
        if (version := document["run_metadata"]["library_version"]) is not None
    }


def _machine() -> dict[str, Any]:
    """Return what speed depends on; the host's name is nobody's business."""
    return {
        "platform": platform.platform(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or None)


def _publish_folder(source: Path, root: Path, at: float) -> Path:
    stem = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d_%H-%M-%S}"
    try:
        return _rename_to_free_name(source, root, stem)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    # Another file system: the copy becomes durable under a hidden name beside its place.
    copy = root / f".{stem}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy, symlinks=True)
        _sync_tree(copy)
        path = _rename_to_free_name(copy, root, stem)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    shutil.rmtree(source, ignore_errors=True)
    return path


def _rename_to_free_name(folder: Path, root: Path, stem: str) -> Path:
    """Rename to the first name that nobody has; the rename itself decides who comes first."""
    for count in itertools.count(1):
        path = root / (stem if count == 1 else f"{stem}-{count}")
        try:
            # A folder that holds something is never replaced, and every published one does.
            folder.rename(path)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            continue
        _sync_folder(root)
        return path
    raise AssertionError("unreachable")


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name), os.O_RDONLY)
        _sync_folder(Path(parent))


def _sync_folder(folder: Path) -> None:
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
