"""A driver to be killed: starts a run with the commands it is given and waits.

Called with a folder and a JSON object: ``jobs`` (fields of each), ``context`` (of the run).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    from support.local_run import LocalRun

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
        signal.pause()


if __name__ == "__main__":
    main()
