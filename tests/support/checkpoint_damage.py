"""Trials of damage on copies of one checkpoint, in a process that a crash may end.

    python checkpoint_damage.py PRISTINE WORK KIND SEED TRIALS

Prints what each trial is before it is made, so that the last line names the one that crashed.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from support.checkpoint_history import AGAIN, ALL, WITHDRAWN, spared, wrongly_spared

from tasks.checkpoint.store import CheckpointStore

Damage = tuple[str, Callable[[Path], None]]
_PAGE = 4096
_ALL_SPARED = ALL - WITHDRAWN + AGAIN


def files_of(directory: Path) -> list[Path]:
    """Return the files that hold something."""
    kinds = ("*.mdb", "*.withdrawn", "*.jsonl")
    return sorted(path for kind in kinds for path in directory.glob(kind))


def cut_at_pages(path: Path, _rng: random.Random, _trials: int) -> Iterator[Damage]:
    """Yield a truncation at every page bound."""
    for size in range(0, path.stat().st_size, _PAGE):
        yield f"cut at {size}", lambda file, size=size: os.truncate(file, size)


def cut_anywhere(path: Path, rng: random.Random, trials: int) -> Iterator[Damage]:
    """Yield truncations at random bytes."""
    for _ in range(trials):
        size = rng.randrange(path.stat().st_size)
        yield f"cut at {size}", lambda file, size=size: os.truncate(file, size)


def flip(path: Path, rng: random.Random, trials: int) -> Iterator[Damage]:
    """Yield flips of one bit, of a few, of many."""
    for _ in range(trials):
        bits = [rng.randrange(path.stat().st_size * 8) for _ in range(rng.choice((1, 1, 4, 40)))]

        def change(file: Path, bits: list[int] = bits) -> None:
            content = bytearray(file.read_bytes())
            for bit in bits:
                content[bit // 8] ^= 1 << bit % 8
            file.write_bytes(content)

        yield f"flip {bits}", change


def overwrite(path: Path, rng: random.Random, trials: int) -> Iterator[Damage]:
    """Yield pages of random bytes, of zeros, and of another page of the same file."""
    for _ in range(trials):
        pages = max(1, path.stat().st_size // _PAGE)
        at, other = rng.randrange(pages), rng.randrange(pages)
        kind = rng.choice(("random", "zeros", "another"))
        noise = rng.randbytes(_PAGE)

        def change(
            file: Path, at: int = at, other: int = other, kind: str = kind, noise: bytes = noise
        ) -> None:
            content = bytearray(file.read_bytes())
            another = bytes(content[other * _PAGE : (other + 1) * _PAGE])
            page = {"random": noise, "zeros": bytes(_PAGE), "another": another}[kind]
            size = len(content)
            content[at * _PAGE : (at + 1) * _PAGE] = page
            file.write_bytes(content[:size])

        yield f"{kind} page at {at}", change


KINDS = {
    "cut_at_pages": cut_at_pages,
    "cut_anywhere": cut_anywhere,
    "flip": flip,
    "overwrite": overwrite,
}


def judge(directory: Path, what: str) -> None:
    """Look at the damaged store, start on it twice, and look again."""
    with CheckpointStore(directory) as store:
        assert not wrongly_spared(store), f"{what}: {wrongly_spared(store)} {store.messages}"
        looked = sorted(spared(store))
        said = store.messages
    # An older state of a page, in a file whose writer was killed, is as whole as the newer one.
    if len(looked) < _ALL_SPARED and "another page" not in what:
        assert said, f"{what}: {_ALL_SPARED - len(looked)} sources were lost without a word"
    with CheckpointStore(directory) as store:
        store.begin("third", base=0)
        assert not wrongly_spared(store), f"{what}, begun: {wrongly_spared(store)}"
        assert sorted(spared(store)) == looked, f"{what}: a start found something else"
    with CheckpointStore(directory) as store:
        store.begin("fourth", base=0)
        assert sorted(spared(store)) == looked, f"{what}: the second start found something else"
        assert not store.messages, f"{what}: the second start complains again: {store.messages}"


def main() -> None:
    """Make the trials."""
    pristine, work, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    rng, trials = random.Random(int(sys.argv[4])), int(sys.argv[5])
    for path in files_of(pristine):
        for what, change in KINDS[kind](path, rng, trials):
            print(f"{path.name}: {what}", flush=True)
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(pristine, work)
            change(work / path.name)
            judge(work, f"{path.name}: {what}")
    print("all done", flush=True)


if __name__ == "__main__":
    main()
