"""The steps of a pipeline: what an author writes, and what a step may answer."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, Protocol

from tasks.errors import InputError
from tasks.lineage import ItemId


class Filtered(Enum):
    """The answer that an item goes no further."""

    FILTERED = "filtered"


FILTERED = Filtered.FILTERED


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer that an item could not be processed: its source stays open and runs again."""

    reason: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The answer of a batch stage whose outputs do not stand one to one for its inputs.

    ``parents`` says for each output which inputs it came from, by their places in the batch: one,
    or several.  An input that no output came from counts as filtered.
    """

    outputs: Sequence[Any]
    parents: Sequence[int | Sequence[int]]


class Stage(ABC):
    """One step, on one item at a time.

    ``process`` may answer with one item, a list (fan-out; an empty one counts as filtered), with
    ``FILTERED``, or with ``Failed(reason)``; what it raises is a failure of that item too.

    ``version`` is part of every source's fingerprint: raise it when the answers change.  So are the
    stage's ``parameters``.  A stage that mixes sources (a shuffle, a global deduplication) says
    ``resumable = False``: no source is ever done by itself then, and a checkpoint is refused.
    """

    version: str = "1"
    resumable: bool = True

    @property
    def name(self) -> str:
        """How messages and fingerprints call the stage."""
        return type(self).__name__

    def open(self) -> None:  # noqa: B027 - most stages need nothing
        """Make ready, in the worker process."""

    @abstractmethod
    def process(self, item: Any) -> Any:
        """Answer for one item."""

    def close(self) -> None:  # noqa: B027 - most stages need nothing
        """Let go of everything, in the worker process."""

    def parameters(self) -> Mapping[str, Any]:
        """Return what makes two stages of this class different: the public attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def code(self) -> object:
        """Return what holds the stage's source text."""
        return type(self)


class BatchStage(Stage):
    """One step, on several items at a time.

    Items of one batch come from one source, unless the stage says ``resumable = False``.
    """

    batch_size: int = 100

    def process(self, item: Any) -> Any:
        """Answer for one item as for a batch of one."""
        return self.process_batch([item])

    @abstractmethod
    def process_batch(self, items: Sequence[Any]) -> Sequence[Any] | BatchResult:
        """Answer with a list of one answer for each item, or with a ``BatchResult``."""


class Answering(Protocol):
    """Takes the answer for one item, also more than once."""

    @property
    def item_id(self) -> ItemId:
        """The path of the item."""

    def answer(self, result: Any) -> None:
        """Say what became of the item; the same again is ignored, another answer replaces it."""


class AnsweringStage(Stage):
    """One step that answers when it can: for services that repeat or correct themselves.

    ``start`` hands an item over; the answers go to its ``Answering``, from this thread or another.
    ``finish`` returns when no more answers will come; it is called at the end of each source.  An
    item without an answer by then keeps its source open.
    """

    def process(self, item: Any) -> Any:
        """Never called: answers come through ``start``."""
        raise TypeError(f"{self.name} answers through start()")

    @abstractmethod
    def start(self, item: Any, to: Answering) -> None:
        """Begin to process an item."""

    def finish(self) -> None:
        """Wait for all answers."""


class FunctionStage(Stage):
    """A plain function as a stage; ``@stage(version=...)`` names its version."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self.version = str(getattr(function, "stage_version", "1"))

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self._function, "__qualname__", type(self._function).__name__)

    def process(self, item: Any) -> Any:
        """Call the function."""
        return self._function(item)

    def parameters(self) -> Mapping[str, Any]:
        """A function has none."""
        return {}

    def code(self) -> object:
        """The function itself."""
        return self._function


def stage(*, version: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Give a function that is used as a stage a version."""

    def mark(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        function.stage_version = version  # type: ignore[attr-defined]
        return function

    return mark


def as_stage(given: Stage | Callable[[Any], Any]) -> Stage:
    """Return a stage for what an author wrote; raises ``InputError``."""
    if isinstance(given, Stage):
        return given
    if callable(given) and not isinstance(given, type):
        return FunctionStage(given)
    raise InputError([f"{given!r} is no stage: give a Stage, or a function of one item"])


def parameters_text(owner: str, parameters: Mapping[str, Any]) -> str:
    """Return parameters as text that is the same in every process; raises ``InputError``."""
    try:
        return json.dumps(parameters, sort_keys=True, default=_plain)
    except (TypeError, ValueError) as error:
        raise InputError(
            [
                f'stage "{owner}" has a parameter that is no plain value ({error}): begin its name '
                "with an underscore, or say in parameters() what makes the stage what it is"
            ]
        ) from None


def _plain(value: object) -> object:
    if isinstance(value, frozenset | set):
        return sorted(value, key=repr)
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"{value!r}")


def code_digest(code: object) -> str:
    """Return a digest of the source text; empty where there is none to read."""
    try:
        text = inspect.getsource(code)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
