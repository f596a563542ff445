"""What identifies a job's work: its command and parameters and the content of what it uses.

Nothing of it depends on where the graph's folder lies or on when a file was touched, so a second
clone in another directory has the same fingerprints.  Each field has a digest of its own, so that a
plan can name what changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tasks.content_hashes import ContentChangedError, ContentHashes, FileStamp
from tasks.file_looks import FileLook, FileLooks
from tasks.job_program import program_files
from tasks.matched_files import matched_files
from tasks.spec import JobRecord

FIELDS = ("command", "env", "cwd", "checks", "program", "inputs", "needs")
"""In the order in which a change is named."""

FINGERPRINT_BYTES = 16
_NAMED_FILES = 50
"""Up to so many files each has its own digest in the record, so that the one that changed can be
named; beyond, only the field is."""
_SHORT = 12


class UnknownContentError(Exception):
    """The content that a job uses cannot be told: it cannot be spared, nor recorded."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The fingerprint of one job."""

    digest: bytes
    fields: Mapping[str, Any]
    """The short digest of each field; of ``inputs`` and ``program`` by file where they are few."""

    def what_changed(self, recorded: Mapping[str, Any]) -> tuple[str, str]:
        """Return the first field that differs from a record's, and say so in words."""
        for name in FIELDS:
            now, before = self.fields.get(name), recorded.get(name)
            if now != before:
                return name, _change_in_words(name, before, now)
        return "", "its fingerprint is another, as an earlier version of Holdfast recorded it"


def _change_in_words(name: str, before: object, now: object) -> str:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        kind = "input" if name == "inputs" else name
        for file in sorted({*before, *now}):
            if file not in now:
                return f'{kind} "{file}" is gone'
            if file not in before:
                return f'{kind} "{file}" is new'
            if before[file] != now[file]:
                return f'{kind} "{file}" changed'
    return f"{name} changed"


@dataclass(frozen=True, slots=True)
class UsedFiles:
    """The files that a job uses, as they were at one moment."""

    inputs: FileLook
    program: Mapping[str, FileStamp | None]
    """``None`` for a program that was not there."""

    def difference(self, other: UsedFiles) -> str:
        """Name the first file that is not the same in both; empty if all are."""
        for kind, here, there in (
            ("input", self.inputs.stamps, other.inputs.stamps),
            ("program", self.program, other.program),
        ):
            if here != there:
                names = sorted({*here, *there})
                return next(f'{kind} "{n}"' for n in names if here.get(n) != there.get(n))
        return ""


class Fingerprints:
    """Makes the fingerprints of one graph's jobs.

    ``folder`` is the graph's own: what lies in it is named relative to it, and programs in it
    count.  Not thread-safe.
    """

    def __init__(self, folder: Path, hashes: ContentHashes) -> None:
        self._folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
        self._inside = os.path.join(self._folder, "")  # noqa: PTH118
        self._hashes = hashes
        self._looks = FileLooks()

    def working_directory(self, job: JobRecord) -> Path:
        """Return where the job runs."""
        return self._folder if job.cwd is None else self._folder / job.cwd

    def used_files(self, job: JobRecord, not_before: float) -> UsedFiles:
        """Look at the files that the job uses, without reading them.

        Inputs that were looked at after ``not_before``, in monotonic seconds, are not looked at
        again.  Raises ``UnknownContentError``.
        """
        cwd = self.working_directory(job)
        try:
            inputs = self._inputs(job, cwd, not_before)
            program = {
                self._named(path): FileStamp.of(path) if os.path.isfile(path) else None  # noqa: PTH113
                for path in program_files(
                    job.command, str(self._folder), str(cwd), job.env.get("PATH")
                )
            }
        except OSError as error:
            raise _unknown(error) from error
        return UsedFiles(inputs, program)

    def _inputs(self, job: JobRecord, cwd: Path, not_before: float) -> FileLook:
        look = self._looks.look(job.inputs, cwd, not_before)
        if not job.outputs or not look.stamps:
            return look
        # A glob of inputs may match what the job itself makes; that is no input of it.
        own = look.stamps.keys() & matched_files(job.outputs, cwd).keys() - set(job.inputs)
        return look.without(own) if own else look

    def _named(self, path: str) -> str:
        """Return a path as it is called in every clone of the graph's folder."""
        return path.removeprefix(self._inside)

    def of(
        self, job: JobRecord, used: UsedFiles, needs: Callable[[str], bytes | None]
    ) -> Fingerprint:
        """Return the fingerprint of a job from what its files hold.

        ``needs`` gives the fingerprint of a job that this one needs.  Raises
        ``UnknownContentError`` where a need has none, and where a file cannot be read or is not
        what it was when it was looked at.
        """
        try:
            content = used.inputs.digest(self._hashes)
            inputs = used.inputs.digests(self._hashes)
            program = {
                name: "" if stamp is None else self._hashes.digest(self._folder / name, stamp)
                for name, stamp in used.program.items()
            }
        except OSError as error:
            raise _unknown(error) from error
        cwd = os.path.normpath(self.working_directory(job))
        values: dict[str, Any] = {
            "command": job.command,
            "env": sorted(job.env.items()),
            "cwd": self._named(os.path.join(cwd, "")),  # noqa: PTH118
            "checks": [job.outputs, job.pass_patterns, job.fail_patterns],
            "program": program,
            "inputs": content,
            "needs": [job.needs_policy, *_of_needs(job, needs)],
        }
        fields: dict[str, Any] = {name: _short(value) for name, value in values.items()}
        for name, files in (("inputs", inputs), ("program", program)):
            if len(files) <= _NAMED_FILES:
                fields[name] = {file: digest[:_SHORT] for file, digest in files.items()}
        return Fingerprint(_digest(values), fields)


def _of_needs(job: JobRecord, needs: Callable[[str], bytes | None]) -> Iterable[list[str]]:
    for name in sorted(set(job.needs)):
        fingerprint = needs(name)
        if fingerprint is None:
            raise UnknownContentError(f'what its need "{name}" made is not known')
        yield [name, fingerprint.hex()]


def _unknown(error: OSError) -> UnknownContentError:
    what = "changed" if isinstance(error, ContentChangedError) else f"cannot be read: {error}"
    return UnknownContentError(f'"{error.filename}" {what}')


_AS_TEXT = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def _digest(value: object) -> bytes:
    text = _AS_TEXT(value)
    return blake2b(text.encode("ascii"), digest_size=FINGERPRINT_BYTES).digest()


def _short(value: object) -> str:
    return _digest(value).hex()[:_SHORT]
