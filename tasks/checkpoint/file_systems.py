"""Which file systems a memory-mapped file may live on, and where a local disk is.

A network file system gives no coherent memory maps between hosts, and some no locks that are
worth the name; a store there can be damaged without an error.  The type is read from the mount
table before the directory is touched, since touching a dead server blocks for ever.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from tasks.checkpoint.errors import CheckpointError, CheckpointRefusedError

ANSWER_WITHIN_S = 10.0
"""How long a directory may take to answer before it is called dead."""

_NETWORK_NAMES = """
9p acfs afs beegfs ceph cifs coda davfs drvfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2
orangefs panfs prl_fs pvfs2 smb3 smbfs vboxsf virtiofs vmhgfs wekafs
"""
_NETWORK = frozenset(_NETWORK_NAMES.split())
# Behind FUSE anything may sit, sshfs for one; only what is known to be a local disk is not refused.
_LOCAL_FUSE = frozenset({"fuseblk", "fuse.ext4", "fuse.fuse-overlayfs"})
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})

Result = TypeVar("Result")


class FileSystem(NamedTuple):
    """What a path lies on."""

    type: str
    mount_point: str
    device: str

    @property
    def is_safe(self) -> bool:
        """Whether a memory-mapped file may be written there."""
        if self.type in _LOCAL_FUSE:
            return True
        return self.type not in _NETWORK and not self.type.startswith("fuse")

    def __str__(self) -> str:
        return f"{self.type} ({self.device} on {self.mount_point})"


class MountTable:
    """The mounts of this host; ``source`` may be a file that a test wrote."""

    def __init__(self, source: str | os.PathLike[str] = "/proc/self/mountinfo") -> None:
        self.source = str(source)

    def file_system(self, path: str | os.PathLike[str]) -> FileSystem:
        """Return what an absolute path lies on, without touching the path."""
        wanted = os.path.abspath(path)  # noqa: PTH100 - resolve() would touch the path
        best = FileSystem("unknown", "/", "unknown")
        for mount in self._mounts():
            prefix = mount.mount_point.rstrip("/")
            inside = wanted == prefix or wanted.startswith(prefix + "/")
            # A later mount hides an earlier one on the same folder, hence "at least as long".
            if inside and len(mount.mount_point) >= len(best.mount_point):
                best = mount
        return best

    def _mounts(self) -> Iterable[FileSystem]:
        try:
            text = Path(self.source).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            yield from _mounts_without_proc()
            return
        for line in text.splitlines():
            before, _, after = line.partition(" - ")
            left, right = before.split(" "), after.split(" ")
            if len(left) > 4 and len(right) > 1:
                yield FileSystem(right[0], _unescaped(left[4]), _unescaped(right[1]))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _mounts_without_proc() -> Iterable[FileSystem]:
    import psutil

    for partition in psutil.disk_partitions(all=True):
        yield FileSystem(partition.fstype, partition.mountpoint, partition.device)


def answer_within(
    call: Callable[[], Result], what: str, limit_s: float = ANSWER_WITHIN_S
) -> Result:
    """Return what ``call`` returns, or raise ``CheckpointError`` when it takes too long.

    The call runs in a daemon thread: one that is stuck in the kernel cannot be ended, only left.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="holdfast-checkpoint-probe", daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not results:
        raise CheckpointError(
            f"{what} did not answer within {limit_s:g} s; is its server up? "
            "Choose another folder with --checkpoint DIR"
        )
    return results[0]


def local_directory_for(
    directory: Path, mounts: MountTable, candidates: Iterable[str | os.PathLike[str]] | None = None
) -> Path:
    """Return a folder on this host's own disk for the live files of a store on ``directory``.

    It is made, for this user alone.  Raises ``CheckpointRefusedError`` that names every place
    that was tried.
    """
    places = [Path(place) for place in candidates or _usual_places()]
    rated = [(place, mounts.file_system(place)) for place in places]
    # A file in memory is gone after a reboot, and with it what was not published: better a disk.
    rated.sort(key=lambda entry: entry[1].type in _IN_MEMORY)
    name = sha256(os.fsencode(directory.absolute())).hexdigest()[:16]
    tried = []
    for place, system in rated:
        if not system.is_safe:
            tried.append(f'"{place}" is {system.type}')
            continue
        try:
            return _own_folder(place / f"holdfast-{os.getuid()}" / name)
        except OSError as error:
            tried.append(f'"{place}": {error.strerror}')
    raise CheckpointRefusedError(
        f'checkpoint directory "{directory}" lies on {mounts.file_system(directory)}, where a '
        "memory-mapped file is not safe, and this host has no local disk to keep the live file on "
        f"({'; '.join(tried)}); choose a local folder with --checkpoint DIR or set TMPDIR to one"
    )


def _usual_places() -> tuple[str, ...]:
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return tempfile.gettempdir(), "/var/tmp", home  # noqa: S108 - a folder of its own is made there


def _own_folder(folder: Path) -> Path:
    parent = folder.parent
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parent.is_symlink() or parent.stat().st_uid != os.getuid():
        raise PermissionError(0, f'"{parent}" belongs to somebody else')
    folder.mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(0, "cannot be written")
    return folder
