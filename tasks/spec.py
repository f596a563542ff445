"""The specification of a job: validated once as ``JobSpec``, kept as a ``JobRecord``.

Pydantic validates what a person or a file says.  What the engine keeps is a slotted record of
the fields that differ from the defaults: a kept pydantic object costs over 2 KB for each job,
a record a third of that, and jobs that share their options share one mapping.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from tasks.shown import quoted

ID_PATTERN = r"^[A-Za-z0-9_:=+,@][A-Za-z0-9._:=+,@-]{0,199}$"
"""A job id is a file name in the run directory: no separators, no leading ``.`` or ``-``.

With ``re`` use ``fullmatch``: there ``$`` admits a newline at the end, in pydantic it does not.
"""

NAME_PATTERN = r"^[a-z0-9_][a-z0-9._-]{0,99}$"
"""The name of a run, of its lock and of its checkpoint."""

NeedsPolicy = Literal["all", "any"]
Leftovers = Literal["kill", "allow"]
JobId = Annotated[str, StringConstraints(strict=True)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegativeSeconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
# Strict numbers: a lax one would read the YAML value `on` as a time limit of one second.
Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]
PathText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


def default_group(job_id: str) -> str:
    """Return the progress row of a job: its id up to the first ``-``, digit or ``{``."""
    match = re.match(r"[^-0-9{]+", job_id)
    return match.group().rstrip("._:=+,@") or job_id if match else job_id


class JobSpec(BaseModel):
    """One job as a person describes it: a command, what it needs, its limits and checks.

    Times are in seconds.  Paths in ``inputs``, ``outputs`` are globs relative to ``cwd``.
    Raises ``pydantic.ValidationError`` with one entry for each wrong field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=1_000_000)

    id: Annotated[str, StringConstraints(strict=True, pattern=ID_PATTERN)]
    command: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """A list is executed as it is; a string goes to ``/bin/sh -c``."""
    needs: tuple[JobId, ...] = ()
    needs_policy: NeedsPolicy = "all"
    """``any``: runs after all its needs have ended, if at least one passed."""
    group: str | None = None
    backend: str | None = None
    resources: Mapping[str, Count] = Field(default_factory=dict)
    weight: Annotated[float, Field(allow_inf_nan=False, strict=True)] = 0
    timeout_s: Seconds | None = None
    grace_s: NotNegativeSeconds = 2.0
    retries: Count = 0
    retry_delay_s: NotNegativeSeconds = 0.0
    retry_exit_codes: tuple[Annotated[int, Field(ge=1, le=255, strict=True)], ...] = ()
    env: Mapping[str, str] = Field(default_factory=dict)
    cwd: PathText | None = None
    inputs: tuple[PathText, ...] = ()
    outputs: tuple[PathText, ...] = ()
    pass_patterns: tuple[str, ...] = ()
    fail_patterns: tuple[str, ...] = ()
    leftovers: Leftovers = "kill"
    keep_previous: Count = 0
    interactive: Annotated[bool, Field(strict=True)] = False
    tags: tuple[str, ...] = ()

    @field_validator("command")
    @classmethod
    def _command_says_something(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        words = (value,) if isinstance(value, str) else value
        if not words[0].strip():
            raise ValueError("is empty")
        if any("\0" in word for word in words):
            raise ValueError("contains a NUL character")
        return value

    @field_validator("env")
    @classmethod
    def _environment_is_one(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if not name or "=" in name or "\0" in name or "\0" in text:
                raise ValueError(f"{quoted(name)} cannot be an environment variable")
        return value

    @field_validator("pass_patterns", "fail_patterns")
    @classmethod
    def _patterns_compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            reason = _why_no_pattern(pattern)
            if reason is not None:
                raise ValueError(f"{quoted(pattern)} is no regular expression: {reason}")
        return value

    def record(self) -> JobRecord:
        """Return the compact form that the engine keeps."""
        rest = {
            name: value
            for name in self.model_fields_set
            if name not in _OWN_SLOTS and (value := getattr(self, name)) != DEFAULTS[name]
        }
        return JobRecord(self.id, self.command, self.needs, rest)


@lru_cache(maxsize=1024)
def _why_no_pattern(pattern: str) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a nested set that may mean more one day
        try:
            re.compile(pattern)
        except (re.error, OverflowError) as error:
            return str(error)
        except RecursionError:
            return "it is nested too deeply"
    return None


_OWN_SLOTS = frozenset({"id", "command", "needs"})

DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        name: field.get_default(call_default_factory=True)
        for name, field in JobSpec.model_fields.items()
        if name not in ("id", "command")
    }
)
"""The value of each field that a record does not hold."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class JobRecord:
    """A validated job, compact: own slots for what always differs, a mapping for the rest.

    Read a field as an attribute; a field that was not given reads as its default.  Records are
    immutable by convention and may share ``rest``.
    """

    __slots__ = ("command", "id", "needs", "rest")

    if TYPE_CHECKING:
        needs_policy: NeedsPolicy
        backend: str | None
        resources: Mapping[str, int]
        weight: float
        timeout_s: float | None
        grace_s: float
        retries: int
        retry_delay_s: float
        retry_exit_codes: tuple[int, ...]
        env: Mapping[str, str]
        cwd: str | None
        inputs: tuple[str, ...]
        outputs: tuple[str, ...]
        pass_patterns: tuple[str, ...]
        fail_patterns: tuple[str, ...]
        leftovers: Leftovers
        keep_previous: int
        interactive: bool
        tags: tuple[str, ...]
    else:

        def __getattr__(self, name: str) -> object:
            # Reached only for names that are no slot: the optional fields.
            try:
                return self.rest[name]
            except KeyError:
                pass
            try:
                return DEFAULTS[name]
            except KeyError:
                raise AttributeError(f"a job has no field {name!r}") from None

    def __init__(
        self,
        id: str,  # noqa: A002 - the field's name in every format
        command: str | tuple[str, ...],
        needs: tuple[str, ...] = (),
        rest: Mapping[str, Any] = _NOTHING,
    ) -> None:
        self.id = id
        self.command = command
        self.needs = needs
        self.rest = rest

    @property
    def group(self) -> str:
        """The row that shows this job in progress displays."""
        return self.rest.get("group") or default_group(self.id)

    def to_json(self) -> dict[str, Any]:
        """Return the job as a line of a DAG file: only what differs from the defaults."""
        line: dict[str, Any] = {"id": self.id, "command": self.command}
        if self.needs:
            line["needs"] = self.needs
        line.update(self.rest)
        return line

    def __repr__(self) -> str:
        return f"JobRecord({self.id!r})"
