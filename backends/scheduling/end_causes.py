"""The causes of ends that the scheduler itself decides."""

from __future__ import annotations

from tasks.status import Cause, CauseKind, JobStatus

_HOW = {JobStatus.FAILED: "failed", JobStatus.KILLED: "was killed"}


def need_did_not_pass(need: str, status: JobStatus, root: str) -> Cause:
    """A needed job failed or was killed; ``root`` is where that began."""
    message = f'needs "{need}", which {_HOW[status]}'
    if root != need:
        message += f', because of "{root}"'
    return Cause(CauseKind.DEPENDENCY, message, {"need": need, "root": root})


def none_passed(needs: tuple[str, ...], root: str) -> Cause:
    """A job with ``needs_policy: any`` had no need that passed."""
    message = f'none of its {len(needs)} needs passed; the last was "{root}"'
    return Cause(CauseKind.DEPENDENCY, message, {"need": root, "root": root})


def requested(kind: CauseKind, by: str, reason: str) -> Cause:
    """Somebody asked for the job to be killed."""
    return Cause(kind, reason or f"cancelled by {by}", {"by": by})


def with_remark(asked: Cause, remark: Cause) -> Cause:
    """A kill that was asked for, with what the backend has to say of how it went."""
    context = {**remark.context, **asked.context}
    return Cause(asked.kind, f"{asked.message}; {remark.message}", context)


def ended_by_backend(backend: str) -> Cause:
    """A backend killed an attempt that nobody had asked it to kill."""
    return Cause(
        CauseKind.CANCELLED,
        f'backend "{backend}" ended the attempt unasked, as when it is closed',
        {"by": backend},
    )


def launch_raised(backend: str, error: BaseException) -> Cause:
    """``Backend.launch`` raised, against its contract."""
    return Cause(
        CauseKind.LAUNCH_ERROR,
        f'backend "{backend}" could not launch it: {type(error).__name__}: {error}',
        {"error": type(error).__name__},
    )


def never_started() -> Cause:
    """An attempt was announced by a driver that died before it could start it."""
    return Cause(
        CauseKind.DRIVER_LOST, "the run's process died before this attempt began; it begins again"
    )
