"""Does the kernel keep what the engine builds on: the number, and orphans handed up?"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, problem, warning
from tasks.process_number import (
    JOB_BITS,
    RUN_BITS,
    carried_number,
    job_number_of,
    run_number_of,
)

_WITHIN_S = 10.0

_LARGEST = carried_number((1 << RUN_BITS) - 1, (1 << JOB_BITS) - 1)
_TRIAL = _LARGEST >> 1
"""As long as a number can be that is no run's: whoever looks for strays passes it over."""

# A process like a keeper, one like a job's leader, and one that the leader leaves behind in a
# session of its own.  The leader is reaped before its orphan looks who its parent is.
_PROBE = """
import ctypes, json, os, resource, sys
number, found = int(sys.argv[1]), {}
soft, hard = resource.getrlimit(resource.RLIMIT_RSS)
try:
    resource.setrlimit(resource.RLIMIT_RSS, (number, hard))
except (ValueError, OSError) as error:
    found["refused"] = f"{error}; the hard limit is {hard}"
found["subreaper"] = ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
go, told, stay = os.pipe(), os.pipe(), os.pipe()
leader = os.fork()
if leader == 0:
    orphan = os.fork()
    if orphan == 0:
        os.setsid()
        os.close(go[1])
        os.close(stay[1])
        os.read(go[0], 1)
        soft = resource.getrlimit(resource.RLIMIT_RSS)[0]
        os.write(told[1], json.dumps([os.getpid(), os.getppid(), soft]).encode())
        os.read(stay[0], 1)
    os._exit(0)
os.waitpid(leader, 0)
os.write(go[1], b"!")
pid, parent, found["inherited"] = json.loads(os.read(told[0], 4096))
found["handed_up"] = parent == os.getpid()
try:
    found["seen"] = resource.prlimit(pid, resource.RLIMIT_RSS)[0]
except (OSError, AttributeError) as error:
    found["seen"] = str(error)
print(json.dumps(found))
"""


def check_kernel(_examination: Examination) -> Iterator[Finding]:
    """Try the number through fork and setsid, and the subreaper, with real processes."""
    if not sys.platform.startswith("linux"):
        message = "this system has neither the number nor subreapers"
        yield warning("kernel", message, "jobs are found by session, group and parent alone")
        return
    found = _probe(_TRIAL)
    yield _number(found)
    yield _subreaper(found)


def _probe(number: int) -> dict[str, Any]:
    """Return what happened to a number, and to an orphan, in processes made for that."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROBE, str(number)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the probe ended with exit code {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


_WITHOUT = "a process that leaves its session and loses its keeper cannot be found"


def _number(found: dict[str, Any]) -> Finding:
    outer, hard = resource.getrlimit(resource.RLIMIT_RSS)
    run = run_number_of(outer)
    if run is not None:
        job = job_number_of(outer)
        return ok("number", f"this is job {job} of run {run:x}, whose number everything keeps")
    if "refused" in found or 0 <= hard < _LARGEST:
        why = found.get("refused", f"the hard limit is {hard}")
        message = f"RLIMIT_RSS cannot carry it: {why}; {_WITHOUT}"
        return problem("number", message, 'lift the hard limit "rss" in limits.conf')
    if found["inherited"] != _TRIAL:
        message = f"is lost at fork: {_TRIAL} became {found['inherited']}; {_WITHOUT}"
        return problem("number", message, "run on a Linux kernel that hands limits on")
    if found["seen"] != _TRIAL:
        message = f"cannot be read from outside: {found['seen']}; {_WITHOUT}"
        return problem("number", message, "let processes of one user ask each other's limits")
    return ok("number", "carried through fork and setsid in RLIMIT_RSS, and read from outside")


def _subreaper(found: dict[str, Any]) -> Finding:
    if found["subreaper"] and found["handed_up"]:
        return ok("subreaper", "orphans are handed up to it")
    message = "orphans are not handed up to a subreaper; they are found by other marks only"
    return problem("subreaper", message, "allow prctl(PR_SET_CHILD_SUBREAPER) in the sandbox")
