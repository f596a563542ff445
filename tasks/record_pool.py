"""Compact records of validated jobs that share whatever is equal between them."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tasks.spec import DEFAULTS, JobRecord, JobSpec

_OWN_SLOTS = frozenset({"id", "command", "needs"})
_FIELDS = tuple(name for name in JobSpec.model_fields if name not in _OWN_SLOTS)
_NOTHING: Mapping[str, Any] = MappingProxyType({})

_KEPT = 65_536
"""How many different commands and options are remembered; graphs with more share less."""


class RecordPool:
    """Makes the records of one graph.

    A million jobs with the same time limit hold one mapping that says so.  Equal to what
    ``JobSpec.record`` makes, but for the sharing.
    """

    def __init__(self) -> None:
        self._commands: dict[str | tuple[str, ...], str | tuple[str, ...]] = {}
        self._options: dict[bytes, Mapping[str, Any]] = {}

    def record(self, spec: JobSpec) -> JobRecord:
        """Return the record of a job."""
        values = spec.__dict__
        command = values["command"]
        shared = self._commands.get(command)
        if shared is None:
            if len(self._commands) >= _KEPT:
                self._commands.clear()
            shared = self._commands[command] = command
        if spec.__pydantic_fields_set__ <= _OWN_SLOTS:
            return JobRecord(values["id"], shared, values["needs"], _NOTHING)
        return JobRecord(values["id"], shared, values["needs"], self._options_of(spec))

    def _options_of(self, spec: JobSpec) -> Mapping[str, Any]:
        given, values = spec.__pydantic_fields_set__, spec.__dict__
        options = {
            name: values[name]
            for name in _FIELDS
            if name in given and values[name] != DEFAULTS[name]
        }
        if not options:
            return _NOTHING
        try:
            # Bytes, because 1, 1.0 and True are equal as keys but are not the same option.
            key = marshal.dumps(options, 2)
        except ValueError:  # a mapping of Python code's own, which cannot be compared by content
            return options
        shared = self._options.get(key)
        if shared is None:
            if len(self._options) >= _KEPT:
                self._options.clear()
            shared = self._options[key] = options
        return shared
