"""Does a keeper come up, quickly, and go away again?"""

from __future__ import annotations

from collections.abc import Iterator

from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.diagnosis.keeper_probe import END_WITHIN_S, KeeperProbe

_SLOW_S = 2.0
"""A twentieth of that is usual on an idle machine."""


def check_keeper(examination: Examination) -> Iterator[Finding]:
    """Start a keeper for real, and end it."""
    yield judge_keeper(examination.keeper)


def judge_keeper(probe: KeeperProbe) -> Finding:
    """Say what a keeper's start and end mean."""
    if probe.up_s is None:
        return problem("start", f"it does not come up: {probe.error}", "no local job can run")
    up = f"up in {probe.up_s * 1000:.0f} ms"
    if probe.ended_s is None:
        message = f"{up}, but it did not end within {END_WITHIN_S:g} s and was killed"
        return problem("start", message, "ends of runs will hang; this is a bug, please report it")
    if probe.left:
        message = f'{up}, but it left "{probe.left}" behind when it ended'
        return warning("start", message, "this is a bug, please report it")
    message = f"{up}, gone {probe.ended_s * 1000:.0f} ms after it was told"
    if probe.up_s > _SLOW_S:
        return warning("start", message, "each run waits for that: is the machine overloaded?")
    return ok("start", message)
