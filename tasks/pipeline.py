"""A pipeline: a source, stages, a sink; and what identifies the work it does.

``Pipeline(Files("data", "*.txt"), [decode, Deduplicate()], JsonLinesSink("out"))`` takes the items
of each file through the stages and publishes what is left of them as one part of the output.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal

from tasks.checkpoint.generations import Mark
from tasks.errors import InputError
from tasks.sinks import Sink
from tasks.sources import Source
from tasks.stages import (
    FILTERED,
    BatchResult,
    Failed,
    Stage,
    as_stage,
    code_digest,
    parameters_text,
)

__all__ = ["FILTERED", "BatchResult", "CodeChanges", "Failed", "Pipeline"]

CodeChanges = Literal["keep", "rerun"]
"""Whether a stage whose source text changed under the same version is the same, or another one."""

_FINGERPRINT_BYTES = 16


class Pipeline:
    """Work on many sources, each of which is done by itself.

    ``stages`` are ``Stage`` objects or functions of one item.  Raises ``InputError`` for what is
    neither.
    """

    def __init__(
        self, source: Source, stages: Sequence[Stage | Callable[[Any], Any]], sink: Sink
    ) -> None:
        self.source = source
        self.stages: tuple[Stage, ...] = tuple(as_stage(given) for given in stages)
        self.sink = sink

    def check_resumable(self) -> None:
        """Raise ``InputError`` that names a stage which mixes sources: none is done by itself."""
        for stage in self.stages:
            if not stage.resumable:
                raise InputError(
                    [
                        f'stage "{stage.name}" mixes sources (resumable = False), so none of them '
                        "is ever done by itself and a checkpoint would lie: run with --resume "
                        "never, or make the stage a pipeline of its own behind this one"
                    ]
                )

    def parts(self) -> Iterator[tuple[str, str, object]]:
        """Yield name, identity and code of the source, each stage and the sink."""
        source, sink = self.source, self.sink
        yield "source", _identity("source", source.version, source.parameters()), type(source)
        seen: Counter[str] = Counter()
        for stage in self.stages:
            seen[stage.name] += 1
            number = seen[stage.name]
            name = stage.name if number == 1 else f"{stage.name} ({number})"
            yield name, _identity(name, stage.version, stage.parameters()), stage.code()
        yield "sink", _identity("sink", sink.version, sink.parameters()), type(sink)

    def facts(self) -> dict[str, Any]:
        """Return what all records of a generation have in common, for its start mark."""
        parts = list(self.parts())
        return {
            "parts": {name: identity for name, identity, _ in parts},
            "code": {name: code_digest(code) for name, _, code in parts},
        }

    def fingerprint(self) -> bytes:
        """Return what identifies the work, whatever the source: versions and parameters."""
        text = json.dumps([identity for _, identity, _ in self.parts()])
        return blake2b(text.encode("ascii"), digest_size=_FINGERPRINT_BYTES).digest()


def _identity(name: str, version: str, parameters: Mapping[str, Any]) -> str:
    return f"{name} {version} {parameters_text(name, parameters)}"


def source_fingerprint(pipeline: bytes, content: bytes) -> bytes:
    """Return the fingerprint of one source under a pipeline with this fingerprint."""
    return blake2b(content, digest_size=_FINGERPRINT_BYTES, key=pipeline).digest()


def changed_parts(mark: Mark | None, facts: Mapping[str, Any], what: str) -> list[str]:
    """Return the names of the parts whose ``what`` (``parts``, ``code``) is not the mark's.

    A generation whose mark is lost has nothing in common with the present.
    """
    now: Mapping[str, str] = facts[what]
    before: Mapping[str, str] = mark.facts.get(what, {}) if mark is not None else {}
    return [name for name in now if before.get(name) != now[name]]
