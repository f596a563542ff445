"""Where things lie: run directories, locks, sockets."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tasks.errors import InputError
from tasks.process_identity import host_name

SOCKET_PATH_BYTES = 107
"""How long the path of a Unix socket may be."""


def runs_directory(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of run directories: ``given``, else ``$HOLDFAST_RUNS``, else ``runs``.

    The folder need not exist yet.
    """
    chosen = given if given is not None else os.environ.get("HOLDFAST_RUNS") or "runs"
    return Path(chosen).absolute()


def deployed_runs_directory() -> Path:
    """Return ``$HOLDFAST_RUNS`` for a flow that a worker started.

    Prefect's process worker runs a flow in a temporary folder that it deletes afterwards, so a
    relative folder would take every result with it: raises ``InputError`` instead.
    """
    chosen = os.environ.get("HOLDFAST_RUNS", "")
    if not Path(chosen).is_absolute():
        raise InputError(
            [
                f'HOLDFAST_RUNS is "{chosen}"; a deployed run needs an absolute folder there, '
                "since the worker's own folder is deleted after the run: set it under "
                "job_variables.env in prefect.yaml"
            ]
        )
    return Path(chosen)


def state_directory() -> Path:
    """Return the folder of this user's locks and sockets on this host, made if missing.

    One place for each user and host, so that a local and a deployed run of the same name see
    each other; on a home directory that hosts share, each has its own.
    """
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    place = Path(home).absolute() / "holdfast" / host_name()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def short_folder() -> Path:
    """Return where sockets lie whose path in the state folder would be too long; makes nothing."""
    return Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}"


def socket_path(run_number: int, kind: str) -> Path:
    """Return a short path for a Unix socket: the kernel takes 107 bytes at most."""
    name = f"{run_number:x}.{kind}"
    path = state_directory() / name
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    place = short_folder()
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid() or place.is_symlink():
        raise InputError(
            [f'"{place}" belongs to somebody else; set XDG_STATE_HOME to a short path']
        )
    return place / name
