"""Where cgroups are mounted, which ones this process is in, and how many pids they admit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cgroup2_mounts(mounts: Path = Path("/proc/self/mounts")) -> list[Path]:
    """Return where cgroup v2 is mounted, in the order of the mount table."""
    return [Path(point) for point, kind, _ in _mounts(mounts) if kind == "cgroup2"]


def pids_limits() -> Iterator[tuple[Path, int, int]]:
    """Yield each cgroup around this process that limits pids: its folder, limit, and use."""
    for folder in _own_folders():
        for each in (folder, *folder.parents):
            try:
                limit = (each / "pids.max").read_text(encoding="ascii").strip()
                used = int((each / "pids.current").read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue
            if limit != "max":
                yield each, int(limit), used


def _own_folders() -> Iterator[Path]:
    """Yield this process's folders in the hierarchies that may limit pids: v2's and v1's."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    places = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for point, kind, options in _mounts(Path("/proc/self/mounts")):
        if kind == "cgroup2" and "" in places:
            yield Path(point + places[""])
        elif kind == "cgroup" and "pids" in options and "pids" in places:
            yield Path(point + places["pids"])


def _mounts(source: Path) -> Iterator[tuple[str, str, list[str]]]:
    try:
        text = source.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 3:
            yield fields[1], fields[2], fields[3].split(",")
