"""The least that anybody can do: start processes with posix_spawn, so many at a time, and wait.

    python benchmarks/bare_spawn.py COUNT PARALLEL [FOLDER]

With a folder each process gets what a job of a run gets: a directory, a log file as its output,
and a link that is made when it starts and moved when it ends.  Prints the seconds that it took.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

TRUE = "/bin/true"


def spawn_all(count: int, parallel: int) -> None:
    """Run the processes with the output of this one."""
    environment = dict(os.environ)
    running = 0
    for _ in range(count):
        if running == parallel:
            os.wait()
            running -= 1
        os.posix_spawn(TRUE, [TRUE], environment)
        running += 1
    for _ in range(running):
        os.wait()


def spawn_all_with_files(count: int, parallel: int, folder: Path) -> None:
    """Run the processes with the files of a run's jobs."""
    for name in ("jobs", "running", "passing"):
        (folder / name).mkdir(parents=True)
    environment = dict(os.environ)
    jobs, started, passed = (
        os.open(folder / name, os.O_RDONLY) for name in ("jobs", "running", "passing")
    )
    names: dict[int, str] = {}

    def wait_for_one() -> None:
        pid, _ = os.wait()
        name = names.pop(pid)
        os.rename(name, name, src_dir_fd=started, dst_dir_fd=passed)

    for number in range(count):
        if len(names) == parallel:
            wait_for_one()
        name = f"t-{number}"
        os.mkdir(name, dir_fd=jobs)
        log = str(folder / "jobs" / name / "log.txt")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            TRUE,
            [TRUE],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        os.symlink(f"../jobs/{name}", name, dir_fd=started)
        names[pid] = name
    while names:
        wait_for_one()


def main() -> None:
    """Run and print the seconds."""
    count, parallel = int(sys.argv[1]), int(sys.argv[2])
    began = time.perf_counter()
    if len(sys.argv) > 3:
        spawn_all_with_files(count, parallel, Path(sys.argv[3]))
    else:
        spawn_all(count, parallel)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
