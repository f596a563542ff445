"""Break one line at a time and see that the test which guards it goes red.

    python tests/sabotage.py [--sample N] [--seed S] [--only TEXT] [--list]

The docstring of a test names its sabotage: ``Sabotage: <file>: <old> -> <new>``, in one
paragraph, with a backslash and an n for a line's end.  The tree is copied, ``old``, which must
stand in the file exactly once, is replaced in the copy, and that one test runs there, without the
parameters that are for ``make soak`` only, in a process namespace of its own: a broken killer
must not see anybody else.
Sabotages in other words are for people and are not counted.

Exit code 0: every test went red; 1: one stayed green, or a sabotage fits no file any more.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("tasks", "backends", "observers", "flows", "tests", "examples", "docs", "benchmarks")
TEST_TIMEOUT_S = 120
"""For one test; a sabotaged one may well hang, which is red too."""
_FORM = re.compile(r"Sabotage: (\S+\.\w+): (.+?) -> (.*)")
_PYTEST_FAILED = 1
_ALONE = 6
"""So many processes at most: two shells and what counts them."""


@dataclass(frozen=True)
class Sabotage:
    """One line of the code, what it becomes, and the test that has to notice."""

    test_file: str
    test: str
    file: str
    old: str
    new: str

    def __str__(self) -> str:
        change = f"{self.old} -> {self.new}".replace("\n", "\\n")
        return f"{self.file}: {change}  [{self.test_file}::{self.test}]"


def sabotages_in(path: Path) -> Iterator[Sabotage]:
    """Yield what the docstrings of one test file name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
            found = _FORM.search(re.sub(r"\s*\n\s*", " ", paragraph.strip()))
            if found is not None:
                file, old, new = (text.replace("\\n", "\n") for text in found.groups())
                yield Sabotage(str(path.relative_to(ROOT)), node.name, file, old, new)


def all_sabotages() -> list[Sabotage]:
    """Return every sabotage of the tests, in the order of files and lines."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [sabotage for path in files for sabotage in sabotages_in(path)]


@contextmanager
def copy_of_tree() -> Iterator[Path]:
    """Give a copy of what the tests need; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sabotage-") as name:
        tree = Path(name) / "tree"
        tree.mkdir()
        for each in COPIED:
            if (ROOT / each).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / each, tree / each, ignore=ignored)
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy2(path, tree / path.name)
        yield tree


def broken(tree: Path, sabotage: Sabotage) -> str:
    """Break the line in the copy; return why that cannot be done, else nothing."""
    path = tree / sabotage.file
    if not path.is_file():
        return "no such file"
    code = path.read_text()
    count = code.count(sabotage.old)
    if count != 1:
        return f"old text found {count} times"
    spoilt = code.replace(sabotage.old, sabotage.new)
    try:
        compile(spoilt, sabotage.file, "exec")
    except SyntaxError as error:
        return f"no Python: {error.msg}"
    path.write_text(spoilt)
    return ""


def verdict_on(tree: Path, sabotage: Sabotage) -> str:
    """Run the test in the copy, intact and with the line broken; ``red`` if it noticed."""
    path = tree / sabotage.file
    whole = path.read_text() if path.is_file() else ""
    if run_test(tree, sabotage) != "GREEN":
        return "red when intact"
    problem = broken(tree, sabotage)
    if problem:
        return problem
    try:
        return run_test(tree, sabotage)
    finally:
        path.write_text(whole)


def run_test(tree: Path, sabotage: Sabotage) -> str:
    """Run one test in the copy, alone with what it starts; nothing of that is left."""
    base = tree.parent / "tmp"
    options = ["-x", "-q", "-m", "not soak", "-p", "no:cacheprovider", "--basetemp", str(base)]
    test = subprocess.run(
        [
            *isolation(),
            *(sys.executable, "-m", "pytest", *options, "--timeout", str(TEST_TIMEOUT_S)),
            f"{sabotage.test_file}::{sabotage.test}",
        ],
        cwd=tree,
        # The time stamps of compiled files do not tell two changes within a second apart.
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = test.stdout + test.stderr
    # One that hung was ended by pytest-timeout, process and all: that is red too.
    if test.returncode == _PYTEST_FAILED or (test.returncode and "Timeout" in said):
        return "red"
    if test.returncode == 0:
        return "GREEN"
    return f"pytest ended with {test.returncode}: {said[-600:]}"


def isolation() -> list[str]:
    """Return what a test is started with so that it sees no process but its own.

    A killer with one line broken may take the whole machine for its prey: it runs in a process
    namespace, where there is nobody else, and which takes everything along when it ends.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    # The shell is the first process there, which has to fetch the orphans.
    return [*unshare, "sh", "-c", '"$@"; exit $?', "sh"]


def check_isolation() -> None:
    """Leave with a message where there are no process namespaces: nothing is broken then."""
    alone = [*isolation(), "sh", "-c", "ls -d /proc/[0-9]* | wc -l"]
    try:
        done = subprocess.run(alone, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit("sabotage.py needs unshare (Debian: util-linux)")
    if done.returncode != 0 or int(done.stdout) > _ALONE:
        sys.exit(f"sabotage.py needs process namespaces: {done.stdout}{done.stderr}")


def main() -> int:
    """Run the sabotages that the arguments choose and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sample", type=int, metavar="N", help="run so many, by chance")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of that chance")
    parser.add_argument("--only", default="", metavar="TEXT", help="those that contain this text")
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    options = parser.parse_args()
    chosen = [sabotage for sabotage in all_sabotages() if options.only in str(sabotage)]
    if options.sample is not None and options.sample < len(chosen):
        chosen = random.Random(options.seed).sample(chosen, options.sample)
    if not options.list:
        check_isolation()
    failures = 0
    with copy_of_tree() as tree:
        for sabotage in chosen:
            if options.list:
                problem = broken(tree, sabotage)
                shutil.copy2(ROOT / sabotage.file, tree / sabotage.file) if not problem else None
                say(f"{problem or 'fits':<12} {sabotage}")
                failures += bool(problem)
                continue
            begin = time.monotonic()
            verdict = verdict_on(tree, sabotage)
            failures += verdict != "red"
            say(f"{verdict:<8} {time.monotonic() - begin:6.1f} s  {sabotage}")
    say(f"{len(chosen)} sabotages, {failures} not noticed")
    return 1 if failures else 0


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
