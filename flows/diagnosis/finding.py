"""What a check found: one subject, how bad it is, the fact, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is: only a problem makes ``doctor`` end with exit code 1."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what ``doctor`` tells; ``advice`` is empty where there is nothing to do."""

    subject: str
    level: Level
    message: str
    advice: str = ""


def ok(subject: str, message: str, advice: str = "") -> Finding:
    """Return that something is as it should be, or simply not there."""
    return Finding(subject, Level.OK, message, advice)


def warning(subject: str, message: str, advice: str = "") -> Finding:
    """Return what runs survive, but a person should know."""
    return Finding(subject, Level.WARNING, message, advice)


def problem(subject: str, message: str, advice: str) -> Finding:
    """Return what keeps runs from working as promised."""
    return Finding(subject, Level.PROBLEM, message, advice)
