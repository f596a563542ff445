"""One record of the store and its bytes.

Key: ``s`` and the source's name in UTF-8.  A name that does not fit LMDB's 511 bytes is cut to
its beginning and a digest, under ``h``, and stands in full in the value.  Names keep their order,
so that looking sources up in the order of their names walks the file from front to back.

Value, little-endian: CRC-32 over key and rest (u32), outcome (u8), length of the fingerprint
(u8), generation (u64), fingerprint, then JSON with what few records have (may be empty).  LMDB
has no checksums; without this one a flipped bit would change what is found without an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from struct import Struct
from struct import error as StructError  # noqa: N812 - an exception reads as one
from typing import Any, NamedTuple
from zlib import crc32

FORMAT = 1
"""The version of everything the store writes; a reader refuses a newer one."""

_LONGEST_NAME = 480
_NAME_KEPT = 400
_HEAD = Struct("<IBBQ")
_BODY = Struct("<BBQ")
_CRC = Struct("<I")


class Outcome(Enum):
    """What is known of a source."""

    WITHDRAWN = 0
    """It was about to run again: whatever is known from before does not count."""
    DONE = 1
    """All that came from it is durable."""
    FAILED = 2
    """It ended without passing; it runs again."""


_OUTCOMES = tuple(sorted(Outcome, key=lambda outcome: outcome.value))
_WITHDRAWN, _DONE, _FAILED = _OUTCOMES


class Output(NamedTuple):
    """A file that a source left behind, as it was when the source was recorded."""

    path: str
    size_bytes: int
    mtime_ns: int
    digest: str = ""
    """Of the content, in hexadecimal; empty where the file was too large to read again."""


class DamagedRecordError(ValueError):
    """The bytes of a record do not carry their checksum."""


class Record:
    """What the store knows about one source."""

    __slots__ = ("_detail", "fingerprint", "generation", "outcome", "source")

    def __init__(
        self, source: str, outcome: Outcome, generation: int, fingerprint: bytes, detail: bytes
    ) -> None:
        self.source = source
        self.outcome = outcome
        self.generation = generation
        self.fingerprint = fingerprint
        self._detail = detail

    @property
    def detail(self) -> dict[str, Any]:
        """Everything that few records have, as it was written."""
        return json.loads(self._detail) if self._detail else {}

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The files that the source left behind."""
        return tuple(Output(*entry) for entry in self.detail.get("outputs", ()))

    @property
    def fields(self) -> Mapping[str, Any]:
        """Digests of what the fingerprint was made of, for naming what changed."""
        fields: Mapping[str, Any] = self.detail.get("fields", {})
        return fields

    @property
    def reason(self) -> str:
        """Why the source failed; empty where it did not."""
        return str(self.detail.get("reason", ""))

    def __repr__(self) -> str:
        return f"Record({self.source!r}, {self.outcome.name}, generation {self.generation})"


def key_of(source: str) -> bytes:
    """Return the key of a source; any name has one, also one that is no valid Unicode."""
    name = source.encode("utf-8", "surrogatepass")
    if len(name) <= _LONGEST_NAME:
        return b"s" + name
    return b"h" + name[:_NAME_KEPT] + blake2b(name, digest_size=16).digest()


_as_text = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii


def detail_of(
    source: str,
    outputs: Sequence[Output] = (),
    fields: Mapping[str, Any] | None = None,
    reason: str = "",
) -> bytes:
    """Return the JSON part of a value; empty where there is nothing to say."""
    parts: list[str] = []
    if len(source) > _LONGEST_NAME // 4 and key_of(source)[:1] == b"h":
        parts.append(f'"source":{_quoted(source)}')
    if outputs:
        # Put together by hand: this is done for every source, and is five times as fast.
        listed = ",".join(
            f'[{_quoted(path)},{size},{mtime},"{digest}"]' for path, size, mtime, digest in outputs
        )
        parts.append(f'"outputs":[{listed}]')
    if fields:
        parts.append(f'"fields":{_as_text(fields)}')
    if reason:
        parts.append(f'"reason":{_quoted(reason)}')
    return f"{{{','.join(parts)}}}".encode("ascii") if parts else b""


def encode(
    key: bytes, outcome: Outcome, generation: int, fingerprint: bytes = b"", detail: bytes = b""
) -> bytes:
    """Return the value that is stored under ``key``."""
    body = _BODY.pack(outcome.value, len(fingerprint), generation) + fingerprint + detail
    return _CRC.pack(crc32(body, crc32(key))) + body


def generation_of(value: bytes) -> int:
    """Return the generation of a value that was checked before."""
    generation: int = _HEAD.unpack_from(value)[3]
    return generation


def generations_of(items: Iterable[tuple[bytes, bytes]]) -> set[int]:
    """Return the generations that occur in keys and values that were checked before."""
    return {int.from_bytes(found, "little") for found in {value[6:14] for _, value in items}}


def is_withdrawn(value: bytes) -> bool:
    """Whether a value that was checked before only takes back what older files say."""
    return value[4] == 0


def is_done(value: bytes, fingerprint: bytes, base: int) -> bool:
    """Whether a value that was checked before spares a source with this fingerprint."""
    # Slices instead of unpacking: this is asked for every source of a run.
    return (
        value[4] == 1
        and value[14 : 14 + value[5]] == fingerprint
        and (base == 0 or generation_of(value) >= base)
    )


def check(key: bytes, value: bytes) -> bool:
    """Whether a value carries the checksum of itself under this key."""
    return (
        len(value) >= _HEAD.size
        and _CRC.unpack_from(value)[0] == crc32(value[4:], crc32(key))
        and value[4] < len(_OUTCOMES)
        and len(value) >= _HEAD.size + value[5]
    )


def decode(key: bytes, value: bytes, source: str | None = None) -> Record:
    """Return the record that the bytes hold; raises ``DamagedRecordError``.

    ``source`` spares finding the name out again where the caller knows it.
    """
    try:
        crc, outcome, length, generation = _HEAD.unpack_from(value)
    except StructError as error:
        raise DamagedRecordError(str(error)) from None
    if crc != crc32(value[4:], crc32(key)) or outcome >= len(_OUTCOMES):
        raise DamagedRecordError(f"the record under {key!r} does not carry its checksum")
    end = 14 + length
    detail = value[end:]
    if source is None:
        source = _source_of(key, detail)
    return Record(source, _OUTCOMES[outcome], generation, value[14:end], detail)


def _source_of(key: bytes, detail: bytes) -> str:
    if key[:1] == b"s":
        return key[1:].decode("utf-8", "surrogatepass")
    return str(json.loads(detail)["source"]) if detail else repr(key)


def newest(values: Iterable[bytes]) -> bytes:
    """Return the value that counts among those of one key in several files.

    The highest generation wins.  Within one generation a withdrawal loses to a record: it was
    committed before its source ran.
    """
    return max(values, key=_rank)


def _rank(value: bytes) -> tuple[int, bool]:
    return generation_of(value), not is_withdrawn(value)
