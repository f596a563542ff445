"""Which process takes which source."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import InputError
from tasks.sources import stable_hash


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the sources that one process takes: by a hash, the same everywhere."""

    shard: int = 0
    shards: int = 1
    worker: int = 0
    workers: int = 1

    def has(self, name: str) -> bool:
        """Whether the source of this name belongs to the part."""
        number = stable_hash(name)
        return (
            number % self.shards == self.shard
            and number // self.shards % self.workers == self.worker
        )

    @property
    def label(self) -> str:
        """The shard as a person counts it, ``3/8``; empty where there is one."""
        return f"{self.shard + 1}/{self.shards}" if self.shards > 1 else ""

    @classmethod
    def of_shard(cls, text: str) -> Share:
        """Read ``3/8``, as a person counts; raises ``InputError``."""
        match = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", text)
        if match is None or int(match[1]) > int(match[2]):
            raise InputError([f'"{text}" is no shard: give I/N with I from 1 to N, such as 3/8'])
        return cls(int(match[1]) - 1, int(match[2]))
