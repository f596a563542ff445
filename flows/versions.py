"""What a run was made with: versions of programs, the state of the source tree."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_GIT_TIMEOUT_S = 5.0


@cache
def versions() -> dict[str, str]:
    """Return the versions that decide how a run behaves."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("holdfast", "prefect"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit and whether tracked files differ from it; ``None`` outside of git.

    A repository that takes longer than a few seconds to tell is left out.
    """
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(
            [*command, "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    lines = done.stdout.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    return {
        "commit": heads.get("branch.oid"),
        "branch": heads.get("branch.head"),
        "dirty": any(not line.startswith("#") for line in lines),
    }
