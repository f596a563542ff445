"""Jobs a second beside what a user would pick instead, measured in one run.

    python benchmarks/throughput.py [--jobs N] [--rounds N] [--parallel N] [--directory DIR]
                                    [--json FILE] [--page docs/performance.md]

Every contestant runs N times /bin/true, the same number at a time, in turns: one round measures
each of them once, so that what else the machine does hits all alike.  A ratio is taken within a
round; the table shows the median of the rounds with the least and the most.

What is timed: for Holdfast from the first start of a job to the last line of the journal, with
journal, links, logs and results as users get them; for make and ninja the whole command; for
posix_spawn the loop.  ``+ files`` means that each job has a directory, a log file and a link;
``+ log`` that each writes a log file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TRUE = "/bin/true"
BEGIN, END = "<!-- throughput: begin -->", "<!-- throughput: end -->"


@dataclass(frozen=True)
class Task:
    """What a contestant has to do, and where it may write."""

    count: int
    parallel: int
    folder: Path


@dataclass(frozen=True)
class Contestant:
    """One way of running many commands; ``run`` returns the seconds that it took."""

    name: str
    run: Callable[[Task], float]
    program: str | None = None
    """What must be installed, and the Debian package that brings it."""
    package: str = ""


def run_holdfast(task: Task) -> float:
    """Run the jobs with ``flows.run jobs`` and read the time from the journal."""
    graph = task.folder / "jobs.jsonl"
    with graph.open("w") as stream:
        stream.write('{"name": "throughput"}\n')
        for number in range(task.count):
            stream.write(json.dumps({"id": f"t-{number}", "command": [TRUE]}) + "\n")
    command = [
        *(sys.executable, "-m", "flows.run", "jobs", str(graph), "--offline", "--quiet"),
        *("--runs", str(task.folder / "runs"), "--max-parallel", str(task.parallel)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"holdfast failed: {done.stderr[-2000:]}")
    (directory,) = (task.folder / "runs").glob("*_throughput*")
    return journal_seconds(directory / "events.jsonl", task.count)


def journal_seconds(journal: Path, count: int) -> float:
    """Return the time from the first start of a job to the last line."""
    first, passed = "", 0
    with journal.open() as stream:
        for line in stream:
            entry = json.loads(line)
            if entry["event"] == "job_status" and entry["to"] == "running" and not first:
                first = entry["at"]
            passed += entry["event"] == "job_status" and entry["to"] == "passed"
    if passed != count:
        raise SystemExit(f"{passed} of {count} jobs passed; see {journal}")
    return (datetime.fromisoformat(entry["at"]) - datetime.fromisoformat(first)).total_seconds()


def run_bare(task: Task) -> float:
    """Start the processes and nothing else."""
    return float(_output([sys.executable, HERE / "bare_spawn.py", task.count, task.parallel]))


def run_bare_with_files(task: Task) -> float:
    """Start the processes with the file operations of a run."""
    folder = task.folder / "bare"
    return float(
        _output([sys.executable, HERE / "bare_spawn.py", task.count, task.parallel, folder])
    )


def make_file(task: Task, recipe: str) -> float:
    """Run GNU make on one target for each job."""
    targets = " ".join(f"t-{number}" for number in range(task.count))
    text = f".PHONY: all {targets}\nall: {targets}\n{targets}:\n\t@{recipe}\n"
    (task.folder / "Makefile").write_text(text)
    return _timed(["make", "-s", f"-j{task.parallel}", "all"], task.folder)


def ninja_file(task: Task, command: str) -> float:
    """Run ninja on one edge for each job."""
    lines = [f"rule job\n  command = {command}\n"]
    lines += [f"build t-{number}: job\n" for number in range(task.count)]
    (task.folder / "build.ninja").write_text("".join(lines))
    return _timed(["ninja", "--quiet", f"-j{task.parallel}"], task.folder)


CONTESTANTS = (
    Contestant("holdfast", run_holdfast),
    Contestant("posix_spawn", run_bare),
    Contestant("posix_spawn + files", run_bare_with_files),
    Contestant("make", lambda task: make_file(task, TRUE), "make", "make"),
    Contestant("make + log", lambda task: make_file(task, f"{TRUE} > $@.log 2>&1"), "make", "make"),
    Contestant("ninja", lambda task: ninja_file(task, TRUE), "ninja", "ninja-build"),
    Contestant(
        "ninja + log",
        lambda task: ninja_file(task, f"{TRUE} > $out.log 2>&1"),
        "ninja",
        "ninja-build",
    ),
)


def install_missing(contestants: tuple[Contestant, ...]) -> list[Contestant]:
    """Install what is missing with apt-get where that is allowed; return who can take part."""
    packages = {
        each.package for each in contestants if each.program and not shutil.which(each.program)
    }
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", *sorted(packages)], check=False)
    present = [each for each in contestants if not each.program or shutil.which(each.program)]
    for each in contestants:
        if each not in present:
            print(f"left out: {each.name}; install {each.package}", file=sys.stderr)
    return present


def measure(contestants: list[Contestant], options: argparse.Namespace, folder: Path) -> Rounds:
    """Return the seconds of each contestant in each round."""
    seconds: Rounds = {each.name: [] for each in contestants}
    for number in range(options.rounds):
        # Each round begins with another one, so that nobody always comes after the same.
        turn = number % len(contestants)
        for each in contestants[turn:] + contestants[:turn]:
            place = folder / f"{number}-{each.name.replace(' ', '')}"
            place.mkdir()
            seconds[each.name].append(each.run(Task(options.jobs, options.parallel, place)))
            rate = options.jobs / seconds[each.name][-1]
            print(f"round {number + 1}: {each.name:20} {rate:7,.0f} jobs/s", file=sys.stderr)
    return seconds


Rounds = dict[str, list[float]]


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the least and the most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summed_up(seconds: Rounds, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the figures as ``--json`` writes them."""
    ours = seconds["holdfast"]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "jobs": options.jobs,
        "parallel": options.parallel,
        "rounds": options.rounds,
        "machine": {
            "processors": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "file_system": file_system(folder),
            "load_at_start": options.load,
        },
        "contestants": {
            name: {
                "jobs_per_s": spread([options.jobs / each for each in times]),
                "holdfast_ratio": spread(
                    [theirs / own for own, theirs in zip(ours, times, strict=True)]
                ),
            }
            for name, times in seconds.items()
        },
    }


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds the folder."""
    best, found = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if str(folder).startswith(point) and len(point) > len(best):
            best, found = point, kind
    return found


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    rows = ["| | jobs/s | Holdfast against it |", "|---|---|---|"]
    for name, row in figures["contestants"].items():
        against = "" if name == "holdfast" else cell(row["holdfast_ratio"], ".2f")
        rows.append(f"| {name} | {cell(row['jobs_per_s'], ',.0f')} | {against} |")
    machine = figures["machine"]
    head = (
        f"{figures['jobs']:,} × `{TRUE}`, {figures['parallel']} at a time, median of "
        f"{figures['rounds']} rounds (least–most); {machine['processors']} processors, "
        f"{machine['file_system']}, Python {machine['python']}, {machine['system']}, "
        f"load {machine['load_at_start']:.1f} at the start; {figures['at'][:10]}."
    )
    return head + "\n\n" + "\n".join(rows) + "\n"


def cell(values: Mapping[str, float], form: str) -> str:
    """Return ``median (least–most)``."""
    median, least, most = (format(values[name], form) for name in ("median", "min", "max"))
    return f"{median} ({least}–{most})"


def put_into_page(page: Path, text: str) -> None:
    """Replace what stands between the marks of the page."""
    before, found, rest = page.read_text().partition(BEGIN)
    _, also_found, after = rest.partition(END)
    if not (found and also_found):
        raise SystemExit(f'"{page}" has no marks {BEGIN} and {END}')
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def _output(command: list[object]) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def _timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=os.cpu_count())
    parser.add_argument("--directory", help="where the files are written (default: temporary)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--page", type=Path, help="also put the table into this page")
    options = parser.parse_args()
    options.load = os.getloadavg()[0]
    # One folder for all, removed at the end: ext4 is slow to make files for minutes after many
    # were deleted, since it passes over every inode that was freed lately.
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        folder = Path(name).resolve()
        seconds = measure(install_missing(CONTESTANTS), options, folder)
        figures = summed_up(seconds, options, folder)
    print(table(figures))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.page:
        put_into_page(options.page, table(figures))


if __name__ == "__main__":
    main()
