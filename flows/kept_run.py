"""Runs whose driver died and whose jobs run on under the keeper, for the next start to adopt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from backends.keeper_process import KeeperError, KeeperFile, ask_keeper
from flows.run_directory import RunFile
from observers.job_list import JOB_LIST_FILE
from observers.json_lines import read_json_lines
from tasks.job_lines import job_line
from tasks.process_identity import ProcessIdentity
from tasks.spec import JobRecord

_ANSWER_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run without a driver that goes on."""

    directory: Path
    file: RunFile
    keeper: KeeperFile
    running: Mapping[int, str]
    """Number and id of the jobs that the keeper keeps."""


def driver_of(file: RunFile) -> ProcessIdentity | None:
    """Return the process that leads the run, dead or alive."""
    try:
        return ProcessIdentity.from_json(file.driver or {})
    except (KeyError, ValueError, TypeError):
        return None


def has_lost_its_driver(file: RunFile) -> bool:
    """Whether the run reads as going on although its driver is dead."""
    if file.status.is_end:
        return False
    driver = driver_of(file)
    return driver is None or not driver.is_alive()


def kept_run(directory: Path) -> KeptRun | None:
    """Return the run if its keeper keeps the jobs of a dead driver; ``None`` if it does not.

    A keeper that does not answer keeps nothing that anybody could adopt.
    """
    file, keeper = RunFile.read(directory), KeeperFile.read(directory)
    if file is None or not has_lost_its_driver(file):
        return None
    if keeper is None or not keeper.identity.is_alive():
        return None
    try:
        answer = ask_keeper(keeper, {"type": "status"}, within_s=_ANSWER_WITHIN_S)
    except KeeperError:
        return None
    if not answer.get("keeps"):
        return None
    running = {int(job["number"]): str(job["id"]) for job in answer["running"]}
    return KeptRun(directory, file, keeper, running)


def stop_kept_run(kept: KeptRun, grace_s: float | None) -> None:
    """Have the keeper end the jobs, then settle the run; returns at once.

    Raises ``KeeperError`` where it does not answer.
    """
    ask_keeper(kept.keeper, {"type": "stop", "grace_s": grace_s}, within_s=_ANSWER_WITHIN_S)


def difference(kept: KeptRun, jobs: Sequence[JobRecord], cwd: Path | None) -> str | None:
    """Return how the jobs that are to be run differ from those of the kept run, in words.

    ``None``: they are the same.  The list on disk may lack the last ones: a driver that dies
    may have launched jobs that it had not come to write down.
    """
    if kept.file.cwd != str(cwd or kept.directory):
        return f'it runs in "{kept.file.cwd}", not in "{cwd}"'
    for number, (job, line) in enumerate(zip_longest(jobs, _listed(kept.directory)), 1):
        if job is None:
            return f'it has job "{line["id"]}", which is not in the graph'
        if line is not None and line != json.loads(job_line(job)):
            what = "another definition" if line["id"] == job.id else f'"{line["id"]}"'
            return f'job {number}, "{job.id}", is {what} there'
    for number, job_id in kept.running.items():
        if not 0 < number <= len(jobs) or jobs[number - 1].id != job_id:
            return f'its job {number} is "{job_id}"'
    return None


def _listed(directory: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from islice(read_json_lines(directory / JOB_LIST_FILE), 1, None)
    except FileNotFoundError:
        return
