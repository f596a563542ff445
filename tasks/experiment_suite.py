"""Where experiments come from: the laboratory of this project, or a file of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from tasks.errors import InputError
from tasks.experiment import Experiment, problems_of

LABORATORY = "laboratory"
"""How commands call the built-in suite; anything else is the path of a file."""

Suite = Mapping[str, type[Experiment]]


def load_suite(path: Path | str | None = None) -> Suite:
    """Return the experiments of a Python file by name, in its order; ``None``: the built-in ones.

    The file is executed.  Raises ``InputError`` with every problem: no such file, what it raises
    while it is loaded, no experiment in it, experiments that cannot run.
    """
    if path is None:
        from tasks.laboratory import EXPERIMENTS

        return _by_name(EXPERIMENTS, "the laboratory")
    file = Path(path).absolute()
    found = [
        value
        for value in vars(_load(file)).values()
        if inspect.isclass(value)
        and issubclass(value, Experiment)
        and not inspect.isabstract(value)
        and value.__module__ == _module_name(file)
    ]
    if not found:
        raise InputError([f'"{file}" defines no experiment; subclass tasks.experiment.Experiment'])
    return _by_name(list(dict.fromkeys(found)), f'"{file}"')


def suite_argument(experiment: type[Experiment]) -> str:
    """Return what names the experiment's suite in a command, for ``load_named_suite``."""
    file = suite_file(experiment)
    builtin = Path(__file__).with_name("laboratory")
    return LABORATORY if builtin in file.parents else str(file)


def suite_file(experiment: type[Experiment]) -> Path:
    """Return the file that defines the experiment."""
    return Path(inspect.getfile(experiment)).absolute()


def load_named_suite(argument: str) -> Suite:
    """Return the suite that ``suite_argument`` named."""
    return load_suite(None if argument == LABORATORY else argument)


def choose(suite: Suite, names: Sequence[str]) -> Suite:
    """Return the named experiments in the suite's order; all of them for no name at all.

    Raises ``InputError`` for names that are not in the suite.
    """
    unknown = []
    for name in dict.fromkeys(names):
        if name in suite:
            continue
        near = get_close_matches(name, suite, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(suite)}"
        unknown.append(f'there is no experiment "{name}"; {hint}')
    if unknown:
        raise InputError(unknown)
    return {name: suite[name] for name in suite if not names or name in names}


def _by_name(experiments: Sequence[type[Experiment]], source: str) -> Suite:
    problems = [problem for experiment in experiments for problem in problems_of(experiment)]
    suite: dict[str, type[Experiment]] = {}
    if not problems:
        for experiment in experiments:
            if experiment.name in suite:
                problems.append(f'two experiments are called "{experiment.name}"; rename one')
            suite[experiment.name] = experiment
    if problems:
        raise InputError([f"{source}: {problem}" for problem in problems])
    return suite


def _module_name(file: Path) -> str:
    return "holdfast_suite_" + hashlib.sha256(str(file).encode()).hexdigest()[:16]


def _load(file: Path) -> ModuleType:
    if not file.is_file():
        raise InputError([f'suite "{file}" is no file; give the path of a Python file'])
    spec = importlib.util.spec_from_file_location(_module_name(file), file)
    if spec is None or spec.loader is None:
        raise InputError([f'suite "{file}" is no Python file; its name must end in .py'])
    module = importlib.util.module_from_spec(spec)
    # Registered while it loads, as dataclasses ask for; last on the path, so that modules
    # beside it are found and none of them hides an installed one.
    sys.modules[spec.name] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise InputError([_load_problem(file, error)]) from error
    return module


def _load_problem(file: Path, error: BaseException) -> str:
    line = None
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line = error.lineno
    else:
        own = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(file)
        ]
        line = own[-1] if own else None
    place = f'suite "{file}"' + (f", line {line}" if line is not None else "")
    return f"{place}: {type(error).__name__}: {error}; mend it and start again"
