"""What an exit means: passed, or failed for one recorded reason."""

from __future__ import annotations

import glob
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from backends.log_scan import Found, scan_log
from tasks.events import JobEnd
from tasks.sanitise import one_line
from tasks.spec import JobRecord
from tasks.status import Cause, CauseKind

_LINE_CHARACTERS = 300


def has_checks(job: JobRecord) -> bool:
    """Whether exit code 0 alone does not pass the job: only such jobs pay for looking."""
    rest = job.rest
    return "outputs" in rest or "pass_patterns" in rest or "fail_patterns" in rest


def cause_of_exit(end: JobEnd, log: str, *, out_of_memory: bool = False) -> Cause | None:
    """Return why an attempt that ended by itself failed; ``None`` for exit code 0.

    ``log`` is the path of its log, for the context.
    """
    context: dict[str, object] = {"log": log}
    if out_of_memory:
        message = "killed by the kernel: the machine, or the job's limit, ran out of memory"
        return Cause(CauseKind.OUT_OF_MEMORY, message, context)
    if end.signal is not None:
        message = f"killed by signal {end.signal} ({signal_name(end.signal)})"
        return Cause(CauseKind.SIGNAL, message, context)
    if end.exit_code:
        return Cause(CauseKind.EXIT_CODE, f"exit code {end.exit_code}", context)
    return None


def cause_of_checks(job: JobRecord, *, cwd: Path, log: Path) -> Cause | None:
    """Return which declared check of a job that exited with 0 does not hold; ``None`` if all do.

    Blocks while it reads the log, whatever its size.  A log that cannot be read passes nothing.
    """
    cause = _missing_output(job, cwd)
    if cause is None and (job.fail_patterns or job.pass_patterns):
        cause = _patterns(job, log)
    return cause


def signal_name(number: int) -> str:
    """Return the name of a signal, also of one that has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRT{number}" if number > signal.SIGSYS else "unknown"


def _missing_output(job: JobRecord, cwd: Path) -> Cause | None:
    for pattern in job.outputs:
        if not _exists(pattern, cwd):
            message = f'exit code 0, but its output "{pattern}" does not exist in "{cwd}"'
            return Cause(CauseKind.MISSING_OUTPUT, message, {"output": pattern, "cwd": str(cwd)})
    return None


def _exists(pattern: str, cwd: Path) -> bool:
    # A name that happens to look like a pattern counts too; a dangling link is no output.
    if (cwd / pattern).exists():
        return True
    # Path.glob refuses absolute patterns and hides less; outputs may be either.
    found = glob.iglob(pattern, root_dir=cwd, recursive=True, include_hidden=True)  # noqa: PTH207
    return any(os.path.exists(cwd / name) for name in found)  # noqa: PTH110 - odd names, any type


def _patterns(job: JobRecord, log: Path) -> Cause | None:
    try:
        found = scan_log(log, (*job.fail_patterns, *job.pass_patterns))
    except OSError as error:
        kind = CauseKind.MISSING_PASS_PATTERN if job.pass_patterns else CauseKind.FAIL_PATTERN
        message = f'its log "{log}" cannot be read: {error.strerror}'
        return Cause(kind, message, {"log": str(log)})
    return _fail_pattern(job, found, log) or _pass_pattern(job, found, log)


def _fail_pattern(job: JobRecord, found: Mapping[str, Found], log: Path) -> Cause | None:
    hits = [
        (found[pattern].line_number, pattern) for pattern in job.fail_patterns if pattern in found
    ]
    if not hits:
        return None
    number, pattern = min(hits)
    line = one_line(found[pattern].line, _LINE_CHARACTERS)
    context = {"pattern": pattern, "line": line, "line_number": number, "log": str(log)}
    message = f'exit code 0, but line {number} of its log matches "{pattern}": {line}'
    return Cause(CauseKind.FAIL_PATTERN, message, context)


def _pass_pattern(job: JobRecord, found: Mapping[str, Found], log: Path) -> Cause | None:
    for pattern in job.pass_patterns:
        if pattern not in found:
            message = f'exit code 0, but no line of its log matches "{pattern}"'
            context = {"pattern": pattern, "log": str(log)}
            return Cause(CauseKind.MISSING_PASS_PATTERN, message, context)
    return None
