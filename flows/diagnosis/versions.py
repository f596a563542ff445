"""Are the versions that are installed those that Holdfast is made for?"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from flows.diagnosis.examination import Examination
from flows.diagnosis.finding import Finding, ok, problem, warning

PACKAGE = "holdfast"
_OPTIONAL = "lab"
"""The extra whose packages users have; those of ``dev`` are for developers."""

_KNOWN_CONFLICTS = (
    (
        Requirement("prefect>=3.8,<3.9"),
        Requirement("fastapi>=0.155"),
        "the Prefect server that a run starts fails: Body() has no min_items any more",
        "fastapi<0.155",
    ),
)
"""Pairs that install side by side and do not work: what, with what, how it fails, the remedy."""


class Installation:
    """The packages in a list of folders; ``None``: those that Python would import."""

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = path
        self._known: dict[str, Distribution | None] = {}

    def find(self, name: str) -> Distribution | None:
        """Return the package of that name; ``None`` if it is not installed."""
        if name not in self._known:
            given = {} if self._path is None else {"path": list(self._path)}
            context = DistributionFinder.Context(name=name, **given)
            found = MetadataPathFinder.find_distributions(context)
            self._known[name] = next(iter(found), None)
        return self._known[name]

    def version(self, name: str) -> str | None:
        """Return the version of a package; ``None`` if it is not installed."""
        found = self.find(name)
        return None if found is None else found.version

    def needs(self, name: str, extra: str = "") -> list[Requirement]:
        """Return what a package needs here; with ``extra``, what that adds."""
        found = self.find(name)
        needs = []
        for text in () if found is None else found.requires or ():
            try:
                need = Requirement(text)
            except InvalidRequirement:  # of somebody else's package: pip would say so
                continue
            if _applies(need, extra) and not (extra and _applies(need, "")):
                needs.append(need)
        return needs


def _applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def check_versions(_examination: Examination) -> Iterator[Finding]:
    """Hold every installed version against the bounds that the package's metadata states."""
    yield from versions_of(Installation())


def versions_of(
    installation: Installation, python: str = platform.python_version()
) -> Iterator[Finding]:
    """Yield what is right and wrong with the versions of an installation."""
    own = installation.find(PACKAGE)
    if own is None:
        message = "is not installed, so the bounds of what it needs are unknown"
        yield problem(PACKAGE, message, f"{_PIP} {PACKAGE}, or in its source: {_PIP} -e .")
        return
    yield _python(own, python)
    yield ok(PACKAGE, own.version)
    yield from _outdated_metadata(own)
    for need in installation.needs(PACKAGE):
        yield _direct(installation, need)
        yield from _its_own_needs(installation, need.name)
    yield from _known_conflicts(installation)
    yield from _optional(installation)


_PIP = "python -m pip install"


def _python(own: Distribution, python: str) -> Finding:
    bounds = str(own.metadata.json.get("requires_python", ""))
    if SpecifierSet(bounds).contains(python, prereleases=True):
        return ok("python", f"{python} ({bounds})")
    return problem("python", f"{python} is outside {bounds}", "start with another Python")


def _outdated_metadata(own: Distribution) -> Iterator[Finding]:
    """Tell of a source tree whose bounds changed after it was installed from there."""
    try:
        text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        stated = {str(Requirement(each)) for each in project["dependencies"]}
    except (OSError, ValueError, KeyError, TypeError):
        return  # installed from a wheel: there is no source tree that could differ
    known = {str(need) for need in map(Requirement, own.requires or ()) if need.marker is None}
    if project.get("name") == PACKAGE and stated != known:
        changed = ", ".join(sorted(stated ^ known))
        message = f"pyproject.toml states other bounds than what was installed: {changed}"
        yield warning(PACKAGE, message, f"install it again: {_PIP} -e .")


def _direct(installation: Installation, need: Requirement) -> Finding:
    version = installation.version(need.name)
    remedy = f'{_PIP} "{need.name}{need.specifier}"'
    if version is None:
        return problem(need.name, f"is not installed; {need.specifier} is needed", remedy)
    if not need.specifier.contains(version, prereleases=True):
        return problem(need.name, f"{version} is outside {need.specifier}", remedy)
    return ok(need.name, f"{version} ({need.specifier})")


def _its_own_needs(installation: Installation, name: str) -> Iterator[Finding]:
    """Tell what a dependency itself is missing: two packages that pip was forced to mix."""
    for need in installation.needs(name):
        version = installation.version(need.name)
        if version is not None and need.specifier.contains(version, prereleases=True):
            continue
        there = "is not installed" if version is None else f"{version} is installed"
        wanted = f"{need.name}{need.specifier}"
        yield problem(name, f"needs {wanted}, but {need.name} {there}", f'{_PIP} "{wanted}"')


def _known_conflicts(installation: Installation) -> Iterator[Finding]:
    for first, second, how, remedy in _KNOWN_CONFLICTS:
        versions = [installation.version(each.name) for each in (first, second)]
        if all(
            version is not None and each.specifier.contains(version, prereleases=True)
            for each, version in zip((first, second), versions, strict=True)
        ):
            subject = f"{first.name} with {second.name}"
            message = f"{versions[0]} with {versions[1]} does not work: {how}"
            yield problem(subject, message, f'{_PIP} "{remedy}"')


def _optional(installation: Installation) -> Iterator[Finding]:
    missing = []
    for need in installation.needs(PACKAGE, _OPTIONAL):
        version = installation.version(need.name)
        if version is None:
            missing.append(need.name)
        elif not need.specifier.contains(version, prereleases=True):
            remedy = f'{_PIP} "{need.name}{need.specifier}"'
            yield warning(need.name, f"{version} is outside {need.specifier}", remedy)
    if missing:
        message = f"not installed: {', '.join(missing)}; only demo and experiment need them"
        yield ok(_OPTIONAL, message, f'{_PIP} "{PACKAGE}[{_OPTIONAL}]"')
    else:
        yield ok(_OPTIONAL, "installed")
