"""The backends by name; each is imported only when it is asked for.

A package of its own adds a backend with an entry point::

    [project.entry-points."holdfast.backends"]
    mybackend = "mypackage.backend:MyBackend"
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from backends.base import Backend
from tasks.errors import InputError

ENTRY_POINT_GROUP = "holdfast.backends"

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "local": "backends.local:LocalBackend",
        "fake": "backends.fake:FakeBackend",
    }
)
"""To add a backend: its file, a line here, and its name in the contract suite's parameters."""


def backend_names() -> list[str]:
    """Return the names that ``load_backend`` knows, sorted; installed packages' ones too."""
    return sorted({*BUILT_IN, *_installed()})


def load_backend(name: str) -> type[Backend]:
    """Import and return the class of a backend.

    Raises ``InputError`` for a name that nobody registered, with the nearest one that exists,
    and for one whose class cannot be imported, with the reason.  A built-in name wins over an
    installed package's.
    """
    target = BUILT_IN.get(name) or _installed().get(name)
    if target is None:
        raise InputError([_unknown(name)])
    try:
        found = _import(target)
    except Exception as error:
        raise InputError(
            [f'backend "{name}" cannot be imported from "{target}": {_in_words(error)}']
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise InputError([f'backend "{name}": "{target}" is no subclass of backends.base.Backend'])
    return found


def _import(target: str) -> object:
    module_name, _, attribute = target.partition(":")
    found: object = importlib.import_module(module_name)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _installed() -> dict[str, str]:
    # Asked for only when a name is not built in: reading every package's metadata takes time.
    points: tuple[EntryPoint, ...] = tuple(entry_points(group=ENTRY_POINT_GROUP))
    return {point.name: point.value for point in points}


def _unknown(name: str) -> str:
    names = backend_names()
    nearest = difflib.get_close_matches(name, names, 1)
    advice = f'; did you mean "{nearest[0]}"?' if nearest else ""
    return f'unknown backend "{name}"; known are {", ".join(names)}{advice}'


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
