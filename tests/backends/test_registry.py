from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backends.base import Backend
from backends.registry import BUILT_IN, backend_names, load_backend
from tasks.errors import InputError


@pytest.fixture
def installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with backends of its own, as an installer would leave it on the path."""
    (tmp_path / "moonbase.py").write_text(
        "from backends.base import Backend\n"
        "class MoonBackend(Backend):\n"
        "    name = 'moon'\n"
        "    def launch(self, launches): ...\n"
        "    def kill(self, numbers, grace_s=None): ...\n"
        "not_a_backend = 3\n"
    )
    metadata = tmp_path / "moonbase-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: moonbase\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[holdfast.backends]\n"
        "moon = moonbase:MoonBackend\n"
        "broken = moonbase_that_is_missing:Backend\n"
        "wrong = moonbase:not_a_backend\n"
        "nothing = moonbase:NoSuchClass\n"
        "fake = moonbase:MoonBackend\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("moonbase", None)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_each_built_in_backend_loads_and_carries_its_name(name: str) -> None:
    backend = load_backend(name)
    assert issubclass(backend, Backend)
    assert backend.name == name


def test_an_unknown_name_is_answered_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        load_backend("locall")
    assert str(error.value) == (
        f'unknown backend "locall"; known are {", ".join(backend_names())}; did you mean "local"?'
    )


def test_an_unknown_name_that_resembles_none_gets_no_guess() -> None:
    with pytest.raises(InputError, match=r'^unknown backend "xyz"; known are [a-z, ]+$'):
        load_backend("xyz")


@pytest.mark.usefixtures("installed_package")
def test_a_package_adds_a_backend_with_an_entry_point() -> None:
    assert "moon" in backend_names()
    assert load_backend("moon").__name__ == "MoonBackend"


@pytest.mark.usefixtures("installed_package")
def test_a_package_cannot_take_the_name_of_a_built_in_backend() -> None:
    assert load_backend("fake").__module__ == "backends.fake"


@pytest.mark.usefixtures("installed_package")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", r'cannot be imported from "moonbase_that_is_missing:Backend": ModuleNotFound'),
        ("nothing", r'cannot be imported from "moonbase:NoSuchClass": AttributeError'),
        ("wrong", r'"moonbase:not_a_backend" is no subclass of backends.base.Backend'),
    ],
)
def test_a_backend_that_cannot_be_had_says_why(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=f'^backend "{name}".*{reason}'):
        load_backend(name)


def test_no_backend_is_imported_before_it_is_asked_for() -> None:
    import subprocess

    code = (
        "import sys, backends.registry as r; r.backend_names();"
        "print([m for m in ('backends.local', 'backends.fake') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
