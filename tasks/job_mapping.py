"""A job as a file gives it, before it is validated: defaults, and numbers where text must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from tasks.dag_file_problems import Path
from tasks.job_problems import Spelling, job_problems
from tasks.spec import JobSpec

JobMapping = dict[str, Any]

_MERGED = ("env", "resources")
_OWN = ("id", "matrix")
_TEXTUAL = 2**63
"""Integers beyond this are no number that anybody meant."""


def with_defaults(job: JobMapping, defaults: Mapping[str, Any]) -> JobMapping:
    """Return the job with the defaults under its own fields; ``env`` and ``resources`` merge."""
    if not defaults:
        return job
    merged = {**defaults, **job}
    for name in _MERGED:
        own, default = job.get(name), defaults.get(name)
        if isinstance(own, dict) and isinstance(default, Mapping):
            merged[name] = {**default, **own}
    return merged


def with_texts(job: JobMapping) -> JobMapping:
    """Return the job with the integers in ``env`` and in a ``command`` list as text.

    An integer has one spelling, so nothing is guessed; a float or a boolean stays what it is
    and is refused.
    """
    env, command = job.get("env"), job.get("command")
    if isinstance(env, dict) and any(type(value) is int for value in env.values()):
        job = {**job, "env": {name: _text(value) for name, value in env.items()}}
    if isinstance(command, list | tuple) and any(type(word) is int for word in command):
        job = {**job, "command": [_text(word) for word in command]}
    return job


def valid_defaults(
    defaults: Mapping[str, Any], report: Callable[[Path, str], None], spelling: Spelling
) -> JobMapping:
    """Return the defaults that are valid; ``report`` receives what is wrong with the others.

    Reported here once, so that a wrong default is not reported again for each job.
    """
    if not all(isinstance(name, str) for name in defaults):
        report((), "has a key that is no text; the keys are fields of a job")
        return {}
    good = with_texts({name: defaults[name] for name in defaults if name not in _OWN})
    for name in _OWN:
        if name in defaults:
            report((name,), "is each job's own; give it in the job")
    try:
        JobSpec.model_validate({"command": "true", **good, "id": "job"})
    except ValidationError as error:
        for path, text in job_problems(error, spelling):
            report(path, text)
            good.pop(str(path[0]), None)
    return good


def _text(value: object) -> object:
    return str(value) if type(value) is int and abs(value) < _TEXTUAL else value
