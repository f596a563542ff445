"""Is there a cgroup for a run: the last resort that nothing slips away from?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from backends.run_cgroup import HIDE_VARIABLE, own_cgroup
from flows.diagnosis.cgroup_paths import cgroup2_mounts
from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, warning

_WITHOUT = "jobs are found by number, session and descent instead"


def check_cgroups(examination: Examination) -> Iterator[Finding]:
    """Say where cgroup v2 is, whether a run can have its own there, and whether it can kill."""
    mounts = cgroup2_mounts()
    if not mounts:
        yield ok("cgroup v2", f"not mounted; {_WITHOUT}")
        return
    yield ok("cgroup v2", f"mounted at {' and '.join(map(str, mounts))}")
    if os.environ.get(HIDE_VARIABLE):
        message = f"{HIDE_VARIABLE} is set, so runs do without; {_WITHOUT}"
        yield warning("run cgroup", message, f"unset {HIDE_VARIABLE}")
        return
    yield _of_a_run(examination)


def _of_a_run(examination: Examination) -> Finding:
    probe = examination.keeper
    if probe.up_s is None:
        return warning("run cgroup", "unknown, since no keeper came up", "see the keeper above")
    if probe.cgroup is None:
        return _not_writable()
    parent = Path(probe.cgroup).parent
    if not probe.cgroup_kill:
        message = f'runs get their own below "{parent}", without cgroup.kill (Linux 5.14)'
        return warning("run cgroup", message, "processes are killed one by one; update the kernel")
    return ok("run cgroup", f'runs get their own below "{parent}", with cgroup.kill')


def _not_writable() -> Finding:
    own = own_cgroup()
    where = "this process is in none" if own is None else f'"{own}" is not ours to write'
    remedy = "to have one: systemd-run --user --scope -p Delegate=yes COMMAND"
    return ok("run cgroup", f"none for runs, since {where}; {_WITHOUT}", remedy)
