"""Finding the pipeline that a person names: ``file.py:pipeline`` or ``module:pipeline``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from tasks.errors import InputError
from tasks.pipeline import Pipeline


def load_pipeline(target: str) -> Pipeline:
    """Return the pipeline; what is named may also be a function without arguments that makes it.

    Raises ``InputError`` for a file or module that is not there or cannot be imported, and where
    the name in it is no pipeline.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise InputError([f'"{target}" names no pipeline: give FILE.py:NAME or MODULE:NAME'])
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        known = [each for each, value in vars(module).items() if isinstance(value, Pipeline)]
        hint = f"; it has {', '.join(known)}" if known else "; it has no pipeline"
        raise InputError([f'"{place}" has no "{name}"{hint}'])
    found = getattr(module, name)
    if callable(found) and not isinstance(found, Pipeline):
        found = found()
    if not isinstance(found, Pipeline):
        raise InputError([f'"{target}" is a {type(found).__name__} and no Pipeline'])
    return found


def absolute_target(target: str) -> str:
    """Return the same target for a process that runs in another folder."""
    place, _, name = target.rpartition(":")
    return f"{Path(place).absolute()}:{name}" if place.endswith(".py") else target


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError([f'there is no file "{path}"'])
    absolute = path.absolute()
    digest = blake2b(str(absolute).encode(), digest_size=6).hexdigest()
    name = f"_pipeline_{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, absolute)
    if spec is None or spec.loader is None:
        raise InputError([f'"{path}" is no Python file'])
    module = importlib.util.module_from_spec(spec)
    # The file may import its neighbours, and what it defines may be looked up in it by name.
    folder = str(absolute.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _cannot_import(str(path), error) from error
    return module


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _cannot_import(name, error) from error


def _cannot_import(what: str, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError([f'"{what}" cannot be imported: {type(error).__name__}: {error}'])
