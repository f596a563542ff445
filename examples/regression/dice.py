"""A small thing to test, with a seed for each test: do the dice of Python's ``random`` fall fairly?

dice.py roll SEED FILE     roll, check the histogram, write it
dice.py merge FILE...      add up histograms and check the sum
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

SIDES = 6
ROLLS = 60_000
SIGMAS = 5.0


def roll(seed: int) -> list[int]:
    """Return how often each side came up."""
    dice = random.Random(seed)
    counts = [0] * SIDES
    for _ in range(ROLLS):
        counts[dice.randrange(SIDES)] += 1
    return counts


def check(counts: list[int]) -> bool:
    """Print each side; whether none lies further from its mean than chance explains."""
    mean = sum(counts) / SIDES
    sigma = math.sqrt(mean * (1 - 1 / SIDES))
    fair = True
    for side, count in enumerate(counts, 1):
        off = (count - mean) / sigma
        verdict = "ok" if abs(off) < SIGMAS else "DICE_ERROR"
        fair = fair and verdict == "ok"
        print(f"side {side}: {count} times, {off:+.2f} sigma: {verdict}")
    return fair


def main(arguments: list[str]) -> int:
    """Do what the command line asks for."""
    command, *rest = arguments
    if command == "roll":
        seed, file = rest
        counts = roll(int(seed))
        Path(file).write_text(json.dumps(counts))
    else:
        histograms = [json.loads(Path(file).read_text()) for file in rest]
        counts = [sum(column) for column in zip(*histograms, strict=True)]
        print(f"{len(histograms)} histograms, {sum(counts)} rolls")
    fair = check(counts)
    print("TEST PASSED" if fair else "TEST FAILED")
    return 0 if fair else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
