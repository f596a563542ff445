"""The first key of every store file: who wrote it, in which format, up to which commit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

from tasks.checkpoint.environment import Environment
from tasks.checkpoint.errors import CheckpointRefusedError
from tasks.checkpoint.record import FORMAT

_KEY = b"\0holdfast checkpoint"


class NewerFormatError(CheckpointRefusedError):
    """A newer version wrote the file."""

    def __init__(self, path: Path, found: object) -> None:
        self.format = found
        super().__init__(
            f'checkpoint file "{path}" has format {found}; this version reads up to {FORMAT}: '
            "install a newer Holdfast, or choose another folder with --checkpoint DIR"
        )


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says about itself."""

    writer: str
    sequence: int = 0
    """The number of the commit that wrote this header: every commit does."""
    format: int = FORMAT

    def item(self) -> tuple[bytes, bytes]:
        """Return the key and the value that hold it."""
        text = json.dumps(asdict(self)).encode("ascii")
        return _KEY, b"%08x" % crc32(text) + text

    @staticmethod
    def is_header(key: bytes) -> bool:
        """Whether this key is the header's and no source's."""
        return key == _KEY

    @classmethod
    def of(cls, environment: Environment) -> Header | None:
        """Read it from an open file; ``None`` if there is none that can be read.

        Raises ``NewerFormatError``.
        """
        value = environment.get_many([_KEY]).get(_KEY)
        if value is None or value[:8] != b"%08x" % crc32(value[8:]):
            return None
        values = json.loads(value[8:])
        if values["format"] > FORMAT:
            raise NewerFormatError(environment.path, values["format"])
        return cls(values["writer"], values["sequence"], values["format"])
