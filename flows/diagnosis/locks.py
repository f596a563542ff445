"""Which names are held by runs that are no more?"""

from __future__ import annotations

from collections.abc import Iterator

from flows.diagnosis.examination import Examination, UnsettledError
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.lock import Holder, NameLock
from flows.places import state_directory
from flows.run_directory import RunFile


def check_locks(examination: Examination) -> Iterator[Finding]:
    """Find locks whose holder died; with ``fix`` settle its run and remove them."""
    held = 0
    for path in sorted(state_directory().glob("locks/*.json")):
        lock = NameLock(path.stem)
        holder = lock.holder()
        if holder is not None and _is_held(holder):
            held += 1
        elif examination.fix:
            yield _cleared(lock, _whose(holder), examination)
        elif path.exists():
            message = f"{_whose(holder)}; the next start takes it over by itself"
            yield warning(lock.name, message, "remove it now: python -m flows.run doctor --fix")
    yield ok("held", f"{held} by living runs" if held else "none by a living run")


def _is_held(holder: Holder) -> bool:
    return holder.driver.is_alive() or holder.live_keeper() is not None


def _whose(holder: Holder | None) -> str:
    if holder is None:
        return "its lock cannot be read"
    return f"held by run {holder.run}, whose process {holder.driver.pid} is gone"


def _cleared(lock: NameLock, whose: str, examination: Examination) -> Finding:
    def settle(holder: Holder) -> None:
        if RunFile.read(holder.directory) is not None:  # else there is nothing left of the run
            examination.settle(holder.directory)

    try:
        removed = lock.clear(settle)
    except UnsettledError as error:
        advice = "see why: python -m flows.run settle RUN --runs DIR"
        return problem(lock.name, f"{whose}; {error}", advice)
    return ok(lock.name, f"{whose}; {'removed' if removed else 'no longer there'}")
