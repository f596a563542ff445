"""The project's own rules, as far as a program can hold somebody to them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOMS = ("tasks", "backends", "observers", "flows")
MAX_LINES = 600
USUAL_LINES = 500
"""Nine files in ten are shorter than that."""

PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)["project"]


def tracked_files() -> list[Path]:
    """Return what git knows of, or every file where this is no clone."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a clone")
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def direct_dependencies() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


# -- dependencies --------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", direct_dependencies(), ids=lambda each: each.name)
def test_a_direct_dependency_has_a_lower_and_an_upper_bound(requirement: Requirement) -> None:
    operators = {clause.operator for clause in requirement.specifier}
    assert operators == {">=", "<"}, f'"{requirement}" needs a lower and an upper bound'


def test_each_bound_says_why_it_is_there() -> None:
    lines = PYPROJECT.splitlines()
    for number, line in enumerate(lines):
        if re.match(r'\s+"[A-Za-z][\w.-]*[><=]', line):
            before = lines[number - 1].strip()
            assert "#" in line or before.startswith("#"), f"pyproject.toml:{number + 1}: no reason"


def test_constraints_pin_exact_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    wrong = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.!+]+", pin)]
    assert wrong == []
    assert len(pins) == len(constraints()), "a package is pinned twice"
    assert "holdfast" not in constraints()


@pytest.mark.parametrize("requirement", direct_dependencies(), ids=lambda each: each.name)
def test_constraints_pin_every_direct_dependency_within_its_bounds(
    requirement: Requirement,
) -> None:
    pinned = constraints().get(canonicalize_name(requirement.name))
    assert pinned is not None, f'"{requirement.name}" is not pinned; run: make constraints'
    assert pinned in requirement.specifier, f"pinned to {pinned}, which is out of {requirement}"


def test_constraints_pin_nothing_that_nobody_needs() -> None:
    # What somebody has installed by hand beside the tree gets in when `make constraints` lists it.
    needed = {canonicalize_name(each.name) for each in direct_dependencies()} | {
        "pip",
        "setuptools",
    }
    for name in constraints():
        try:
            required = metadata.requires(name)
        except metadata.PackageNotFoundError:  # of another Python version
            continue
        needed |= {canonicalize_name(Requirement(line).name) for line in required or ()}
    assert set(constraints()) - needed == set()


def test_no_lock_file_with_addresses_is_kept() -> None:
    kept = {path.name for path in tracked_files()}
    assert not kept & {"uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock"}


# -- text ----------------------------------------------------------------------------------------

# Put together from pieces, so that this file does not hold them.
_PRIVATE = re.compile(
    r"(?<![\w.*])/(?:" + "|".join(["wor" + "k", "ro" + "ot", "hom" + "e", "User" + "s"]) + r")/\w"
)
_REGISTRIES = re.compile("|".join(["py" + "pi.org", "python" + "hosted", "find" + "-links"]))
_PROMISES = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")


@pytest.mark.parametrize(
    ("what", "pattern"),
    [("a path of one machine", _PRIVATE), ("a registry", _REGISTRIES), ("a promise", _PROMISES)],
)
def test_no_file_names(what: str, pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in tracked_files()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == [], f"{what} in a file of the project"


def test_the_version_stands_in_one_place() -> None:
    version = PROJECT["version"]
    for path in modules():
        assert "__version__ =" not in text_of(path), f"{path}: the version is the package's"
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{version}]" in changelog or "## [Unreleased]" in changelog


def test_every_file_that_a_page_names_is_there() -> None:
    rooms = "|".join([*ROOMS, "tests", "docs", "benchmarks", "examples"])
    named = re.compile(rf"`((?:{rooms})/[\w./-]+\.(?:py|md|yaml|toml|json|jsonl))`")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages
        for name in named.findall(page.read_text())
        # A page on adding something names the file that its reader will write.
        if "your" not in name and not (ROOT / name).exists()
    ]
    assert missing == []


def test_every_link_of_a_page_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


# -- code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_is_of_a_size_to_read(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module begins with a docstring"
    assert len(text.splitlines()) <= MAX_LINES, "one concept a file: split it"


def test_long_modules_are_the_exception() -> None:
    sizes = [len(path.read_text().splitlines()) for path in modules()]
    assert sum(size > USUAL_LINES for size in sizes) <= len(sizes) // 10


def test_the_rooms_are_packages_and_there_are_four() -> None:
    assert all((ROOT / room / "__init__.py").is_file() for room in ROOMS)


def test_the_command_line_is_light_to_import() -> None:
    # Sabotage: an import of prefect at the top of a module of the command line.
    program = "import sys, flows.run; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    ).stdout.split()
    heavy = {"prefect", "rich", "lmdb", "numpy", "httpx", "fastapi", "sqlalchemy"}
    assert heavy & set(loaded) == set()


# -- the commands of a newcomer ------------------------------------------------------------------


def test_every_target_that_a_person_may_call_says_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text()
    described = set(re.findall(r"^([a-z][a-z-]*):.*## \S", text, re.MULTILINE))
    assert described >= {
        *("run", "test", "check", "newest", "soak", "serve", "bench", "clean", "help"),
        "constraints",
    }
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert all(f"make {target} " in shown for target in described)


def test_what_ci_runs_can_be_run_and_stops_at_the_first_error() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "make check" in text
    assert "make test" in text
    subprocess.run(["bash", "-n", script], check=True)


def test_nothing_in_the_rooms_reads_pickles() -> None:
    """What lies on disk may be anybody's; a pickle is a program."""
    pattern = re.compile(
        r"^\s*(?:import|from)\s+(?:cloud)?(?:pickle|shelve|dill|joblib)\b|\bmarshal\.loads?\b",
        re.MULTILINE,
    )
    rooms = ("tasks", "backends", "observers", "flows")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert files
    assert [str(path) for path in files if pattern.search(path.read_text())] == []
