"""Runs the jobs of experiments one after the other, as plain processes, and suites for that."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tasks.spec import JobRecord

HUNG = "hung"
"""Stands for the exit code of a job that was killed after it had said that it hangs."""

LIMIT_S = 120.0


def run_jobs(
    jobs: Sequence[JobRecord], *, hangs: Callable[[JobRecord], bool] = lambda job: False
) -> dict[str, int | str]:
    """Run jobs in their order where their needs allow it; return the exit code of each.

    A job of which ``hangs`` is true is expected to make a file ``hanging`` in its directory and
    to hang; it is killed when it did.
    """
    codes: dict[str, int | str] = {}
    for job in jobs:
        passed = [codes.get(need) == 0 for need in job.needs]
        if job.needs and not (any(passed) if job.needs_policy == "any" else all(passed)):
            continue
        codes[job.id] = _run(job, hangs=hangs(job))
    return codes


def _run(job: JobRecord, *, hangs: bool) -> int | str:
    assert job.cwd is not None
    process = subprocess.Popen(
        job.command,
        cwd=job.cwd,
        env={**os.environ, **job.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    log = Path(job.cwd, f"{job.id}.log")
    try:
        if hangs:
            # The adapter prints its line when it is about to hang.
            log.write_bytes(process.stdout.readline())
            return HUNG
        output, _ = process.communicate(timeout=LIMIT_S)
        log.write_bytes(output)
        return process.returncode
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdout.close()


def write_suite(folder: Path, adapters: Mapping[str, str], *, name: str = "echo") -> Path:
    """Write a suite whose cases are numbers and whose answers should be the same numbers.

    ``adapters`` gives each library's program: the body of a script that finds ``cases`` (the
    list), ``document`` (the file of cases) and ``results`` (a path to write to).  ``reference``
    is added where it is not given.
    """
    programs = {"reference": "write({'value': cases})", **adapters}
    for library, body in programs.items():
        script = folder / f"{library}_program.py"
        script.write_text(_PROGRAM + textwrap.dedent(body) + "\n")
    suite = folder / "suite.py"
    suite.write_text(_SUITE.format(name=name, libraries=tuple(programs), folder=str(folder)))
    return suite


_PROGRAM = """
import json, os, signal, sys, time
document = json.load(open(sys.argv[1]))
cases, results = document["cases"], sys.argv[2]

def write(answers, **more):
    with open(results, "w") as stream:
        json.dump({"results": answers, **more}, stream)

"""

_SUITE = """
import sys
from tasks.experiment import Adapter, Alignment, Expectation, Experiment, Metric


class Echo(Experiment):
    name = "{name}"
    title = "Echo of numbers"
    reference = "reference"
    alignment = Alignment(quantity="The number itself.", model="identity")
    metrics = (Metric("difference_m", "difference", "m"),)
    adapters = tuple(
        Adapter(
            library,
            (sys.executable, "{folder}/" + library + "_program.py"),
            expected=(Expectation("difference_m", 0.5, "Common sense."),),
        )
        for library in {libraries}
    )

    def cases(self, n, seed):
        return [seed + index for index in range(n)]

    def errors(self, cases, reference, candidate):
        ours, theirs = reference.numbers("value"), candidate.numbers("value")
        if ours is None or theirs is None:
            return {{"difference_m": None}}
        return {{"difference_m": [abs(a - b) for a, b in zip(ours, theirs)]}}
"""
