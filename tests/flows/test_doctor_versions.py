"""``doctor`` holds installed versions against bounds; here packages are metadata in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.diagnosis.finding import Finding, Level
from flows.diagnosis.versions import Installation, versions_of

OWN = """Requires-Python: >=3.11
Requires-Dist: prefect<3.9,>=3.8
Requires-Dist: fastapi<0.155,>=0.115
Requires-Dist: winonly>=1; sys_platform == "win32"
Provides-Extra: lab
Requires-Dist: numpy<3,>=1.26; extra == "lab"
"""


class Site:
    """A folder of packages that are nothing but their metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package("holdfast", "0.1.0", OWN)
        self.package("prefect", "3.8.8", "Requires-Dist: fastapi<1.0,>=0.139\n")
        self.package("fastapi", "0.154.0")
        self.package("numpy", "2.4.6")

    def package(self, name: str, version: str, more: str = "") -> None:
        for old in self.folder.glob(f"{name}-*.dist-info"):
            (old / "METADATA").unlink()
            old.rmdir()
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(head + more)

    def remove(self, name: str) -> None:
        (found,) = self.folder.glob(f"{name}-*.dist-info")
        (found / "METADATA").unlink()
        found.rmdir()

    def findings(self, python: str = "3.11.7") -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        for finding in versions_of(Installation([str(self.folder)]), python):
            found.setdefault(finding.subject, []).append(finding)
        return found

    def problems(self, python: str = "3.11.7") -> list[Finding]:
        every = [each for findings in self.findings(python).values() for each in findings]
        return [finding for finding in every if finding.level is Level.PROBLEM]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_versions_within_their_bounds_are_listed_with_them(site: Site) -> None:
    assert site.problems() == []
    found = site.findings()
    assert found["fastapi"][0].message == "0.154.0 (<0.155,>=0.115)"
    assert found["python"][0].level is Level.OK
    assert "winonly" not in found


def test_a_version_outside_its_bounds_is_a_problem_with_the_command_that_mends_it(
    site: Site,
) -> None:
    site.package("prefect", "3.9.1", "Requires-Dist: fastapi<1.0,>=0.139\n")
    (found,) = site.problems()
    assert (found.subject, found.message) == ("prefect", "3.9.1 is outside <3.9,>=3.8")
    assert found.advice == 'python -m pip install "prefect<3.9,>=3.8"'


def test_the_fastapi_that_breaks_prefect_s_server_is_named_as_a_pair(site: Site) -> None:
    site.package("fastapi", "0.155.0")
    subjects = {finding.subject: finding for finding in site.problems()}
    assert "fastapi" in subjects
    pair = subjects["prefect with fastapi"]
    assert "3.8.8 with 0.155.0 does not work" in pair.message
    assert "fastapi<0.155" in pair.advice


def test_a_dependency_that_is_missing_is_a_problem(site: Site) -> None:
    site.remove("fastapi")
    subjects = [finding.subject for finding in site.problems()]
    assert subjects == ["prefect", "fastapi"]


def test_a_dependency_whose_own_needs_are_not_met_is_a_problem(site: Site) -> None:
    site.package("fastapi", "0.120.0")  # within our bounds, outside Prefect's
    (found,) = site.problems()
    assert found.subject == "prefect"
    assert found.message == "needs fastapi<1.0,>=0.139, but fastapi 0.120.0 is installed"


def test_python_outside_the_bounds_is_a_problem(site: Site) -> None:
    (found,) = site.problems(python="3.10.4")
    assert found.message == "3.10.4 is outside >=3.11"


def test_optional_packages_may_be_missing_but_not_of_a_wrong_version(site: Site) -> None:
    site.remove("numpy")
    (found,) = site.findings()["lab"]
    assert found.level is Level.OK
    assert "numpy" in found.message
    site.package("numpy", "3.0.0")
    (found,) = site.findings()["numpy"]
    assert found.level is Level.WARNING


def test_a_source_tree_whose_bounds_differ_from_what_was_installed_is_told(site: Site) -> None:
    told = site.findings()["holdfast"]
    assert [finding.level for finding in told] == [Level.OK, Level.WARNING]
    assert "winonly" not in told[1].message
    assert "click" in told[1].message


def test_without_its_own_metadata_nothing_can_be_held_against_bounds(site: Site) -> None:
    site.remove("holdfast")
    (found,) = site.problems()
    assert found.message.startswith("is not installed")


def test_metadata_that_cannot_be_read_does_no_harm(site: Site) -> None:
    site.package("prefect", "3.8.8", "Requires-Dist: ;;; nonsense\nRequires-Dist: fastapi>=0.1\n")
    assert site.problems() == []
