"""An environment on disk, for whoever wants to know later what a run or a job saw.

Readable by its owner alone, with what looks like a secret masked all the same: run directories
are copied, published and mailed around.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

MASK = "********"

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
# The password in scheme://user:password@host, which names of variables do not give away.
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")


def mask_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the values that look like secrets.

    A value is masked where its name contains ``KEY``, ``TOKEN``, ``SECRET``, ``PASSWORD`` or a
    kindred word in any case; in other values the passwords of URLs are.
    """
    return {
        name: (MASK if value else "")
        if _SECRET_NAME.search(name)
        else _PASSWORD_IN_URL.sub(rf"\1:{MASK}", value)
        for name, value in environment.items()
    }


def write_environment_file(path: Path, environment: Mapping[str, str]) -> None:
    """Write ``NAME=value`` lines, masked, sorted by name, for the owner's eyes only.

    A line break in a value is written as ``\\n``, a backslash as ``\\\\``, so that each line is
    one variable.  Replaces an earlier file; never follows a link.  Raises ``OSError``.
    """
    lines = [f"{name}={_on_one_line(value)}\n" for name, value in mask_secrets(environment).items()]
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
        # Names and values are what the system had, which need not be UTF-8.
        stream.write("".join(sorted(lines)).encode("utf-8", "surrogateescape"))


def _on_one_line(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
