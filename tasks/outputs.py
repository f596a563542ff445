"""The files that a job leaves behind: found, compared with a record, put out of the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.checkpoint.record import Output
from tasks.content_hashes import ContentHashes, FileStamp
from tasks.matched_files import matched_files
from tasks.spec import JobRecord

_DIGEST_UP_TO_BYTES = 1 << 24
"""Above this an output that was merely touched makes its job run again: reading it twice for every
run would cost more than that."""


def outputs_of(
    job: JobRecord, cwd: Path, hashes: ContentHashes, before: Mapping[str, FileStamp]
) -> list[Output]:
    """Return the outputs of a job that passed, as they are now.  Raises ``OSError``.

    ``before`` is what ``globbed_outputs`` found when it started: what a glob stands for and the
    job did not write is another's, unless it wrote nothing at all, being up to date.
    """
    found: dict[str, Path] = {}
    for pattern in job.outputs:
        matched = matched_files((pattern,), cwd)
        written = {
            name: path for name, path in matched.items() if before.get(name) != FileStamp.of(path)
        }
        found.update(written or matched)
    return [_output(name, path, hashes) for name, path in sorted(found.items())]


def globbed_outputs(job: JobRecord, cwd: Path) -> dict[str, FileStamp]:
    """Return what globs among a job's outputs stand for before it starts.  Raises ``OSError``."""
    globs = [pattern for pattern in job.outputs if not os.path.lexists(cwd / pattern)]
    return {name: FileStamp.of(path) for name, path in matched_files(globs, cwd).items()}


def _output(name: str, path: Path, hashes: ContentHashes) -> Output:
    status = path.stat()
    digest = hashes.digest(path) if status.st_size <= _DIGEST_UP_TO_BYTES else ""
    return Output(name, status.st_size, status.st_mtime_ns, digest)


def changed_output(
    job: JobRecord, recorded: Sequence[Output], cwd: Path, hashes: ContentHashes
) -> str:
    """Say which output is not what was recorded; empty if all are.

    An output with another time of modification and the same content is unchanged.
    """
    for output in recorded:
        path = cwd / output.path
        try:
            status = path.stat()
            if status.st_size != output.size_bytes:
                return f'output "{output.path}" changed its size'
            if status.st_mtime_ns == output.mtime_ns:
                continue
            if not output.digest or hashes.digest(path) != output.digest:
                return f'output "{output.path}" changed'
        except OSError:
            return f'output "{output.path}" is missing'
    return _undeclared(job, recorded, cwd)


def _undeclared(job: JobRecord, recorded: Sequence[Output], cwd: Path) -> str:
    """Say which declared output no recorded file stands for."""
    if recorded and len(job.outputs) == 1:
        return ""
    for pattern in job.outputs:
        if not matched_files((pattern,), cwd) and not (cwd / pattern).is_dir():
            return f'output "{pattern}" is missing'
    return ""


def move_outputs_aside(job: JobRecord, cwd: Path, aside: Path) -> list[Path]:
    """Move the outputs of an earlier attempt out of the way of a job that is about to run.

    Those that are named outright: what matches a glob may be another job's.  What is named as an
    input too stays, and so does a folder with inputs in it.  ``aside`` is a folder of this job's
    own; what is in it goes.  Returns what was moved.  Raises ``OSError``.
    """
    inputs = matched_files(job.inputs, cwd)
    moved: list[Path] = []
    for number, name in enumerate(dict.fromkeys(job.outputs)):
        path = cwd / name
        if not os.path.lexists(path) or _is_used(name, job, inputs):
            continue
        if not moved:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        shutil.move(path, aside / f"{number}-{path.name}")
        moved.append(path)
    return moved


def _is_used(name: str, job: JobRecord, inputs: Iterable[str]) -> bool:
    plain = os.path.normpath(name)
    if any(os.path.normpath(used) == plain for used in job.inputs):
        return True
    return any(os.path.normpath(used).startswith(plain + os.sep) for used in inputs)
