"""A driver to be killed: starts a run with the commands it is given and waits.

Called with a folder and a JSON object: ``jobs`` (fields of each), ``context`` (of the run), and
with ``churn`` (how many at once) the jobs are launched over and over again.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from support.local_run import LocalRun


def main() -> None:
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    context = options.get("context", {})
    if "settle_command" in context:
        context["settle_command"] = tuple(context["settle_command"])
    with LocalRun(folder, **context) as run:
        for pid in options.get("wards", ()):
            run.backend.ward(pid)
        run.backend.launch([run.job(**fields) for fields in options["jobs"]])
        if options.get("fork") and os.fork() == 0:
            # Outlives the driver and holds all its descriptors, the line to the keeper too.
            time.sleep(options["fork"])
            os._exit(0)
        print("ready", flush=True)
        if options.get("churn"):
            churn(run, options["jobs"], options["churn"])
        signal.pause()


def churn(run: LocalRun, jobs: list[dict[str, Any]], at_once: int) -> None:
    for fields in itertools.cycle(jobs):
        run.launch(**fields)
        run.completions.count(len(run.jobs) - at_once, timeout_s=60)


if __name__ == "__main__":
    main()
