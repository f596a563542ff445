"""Reading a store file from end to end, in a child process that may die of it.

A damaged page can make LMDB follow a wild pointer: the process gets SIGBUS or SIGSEGV, or fails an
assertion.  So a file that nobody vouches for is read by a child first; a child that dies tells
which file killed it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tasks.checkpoint.data_file import DamagedFileError
from tasks.checkpoint.environment import open_to_read
from tasks.checkpoint.errors import CheckpointRefusedError
from tasks.checkpoint.header import Header, NewerFormatError
from tasks.checkpoint.record import DamagedRecordError, check, generation_of
from tasks.checkpoint.seal import Contents

_LIMIT_S = 60.0
_LIMIT_S_PER_BYTE = 1e-7


def read_through(path: Path) -> Contents:
    """Read every record; raises ``DamagedFileError`` or ``NewerFormatError``.

    Only for a process that may die: see ``read_through_in_child``.
    """
    environment = open_to_read(path)
    header = Header.of(environment)
    expected = environment.entries()
    if header is None:
        if expected:
            raise DamagedFileError("it is no checkpoint file")
        return Contents(0, 0, 0, 0)
    entries, lowest, highest = 0, 0, 0
    previous = b""
    for key, value in environment.items():
        if entries > expected or (entries and key <= previous):
            raise DamagedFileError("its keys are out of order")
        entries += 1
        previous = key
        if Header.is_header(key):
            continue
        if not check(key, value):
            raise DamagedFileError(f"the record under {key!r} does not carry its checksum")
        generation = generation_of(value)
        lowest = min(lowest or generation, generation)
        highest = max(highest, generation)
    _check_lookups(path, entries)
    if entries != expected:
        raise DamagedFileError(f"{entries:,} of its {expected:,} records can be read")
    return Contents(entries - 1, lowest, highest, header.sequence)


def _check_lookups(path: Path, entries: int) -> None:
    """Look every key up: a damaged branch page hides keys that reading in order still finds."""
    environment = open_to_read(path)
    block: list[bytes] = []
    found = 0
    for item in environment.items():
        block.append(item[0])
        if len(block) == 10_000:
            found += len(environment.get_many(block))
            block.clear()
    found += len(environment.get_many(block))
    if found < entries:
        raise DamagedFileError(f"{entries - found:,} of its records cannot be looked up")


def read_through_in_child(paths: Sequence[Path]) -> dict[Path, Contents | str]:
    """Read files in child processes.

    Returns what each holds, or in words why it is damaged.  Raises ``NewerFormatError`` for a file
    that a newer version wrote.
    """
    results: dict[Path, Contents | str] = {}
    left = list(paths)
    while left:
        left = left[_read_some(left, results) :]
    return results


def _read_some(files: Sequence[Path], results: dict[Path, Contents | str]) -> int:
    """Read until a file kills the child; return how many files are dealt with."""
    root = str(Path(__file__).parents[2])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); "
        "from tasks.checkpoint.read_through import main; main()"
    )
    limit_s = _LIMIT_S + _LIMIT_S_PER_BYTE * sum(path.stat().st_size for path in files)
    question = json.dumps([str(path) for path in files])
    died = ""
    try:
        child = subprocess.run(
            [sys.executable, "-c", code],
            input=question.encode(),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
        output = child.stdout
        if child.returncode != 0:
            last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
            how = f"signal {-child.returncode}" if child.returncode < 0 else "".join(last)
            died = f"the process that read it died ({how})"
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        died = f"it could not be read within {limit_s:.0f} s"
    lines = output.decode().splitlines()
    for path, line in zip(files, lines, strict=False):
        results[path] = _answer(path, json.loads(line))
    if len(lines) < len(files):
        results[files[len(lines)]] = died or "the process that read it said nothing"
    return len(lines) + 1


def _answer(path: Path, answer: dict[str, object]) -> Contents | str:
    if "newer" in answer:
        raise NewerFormatError(path, answer["newer"])
    if "damaged" in answer:
        return str(answer["damaged"])
    return Contents(**answer)  # type: ignore[arg-type]


def main() -> None:
    """Answer the question on standard input, one line for each file as soon as it is read."""
    for name in json.load(sys.stdin):
        answer: dict[str, object]
        try:
            answer = asdict(read_through(Path(name)))
        except NewerFormatError as error:
            answer = {"newer": error.format}
        except (DamagedFileError, DamagedRecordError, CheckpointRefusedError) as error:
            answer = {"damaged": str(error)}
        except Exception as error:  # noqa: BLE001 - LMDB's many ways to say "corrupted"
            answer = {"damaged": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
