from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from support.checkpoint_process import end, heard, run, start
from support.waiting import wait_for

from tasks.checkpoint.errors import (
    CheckpointBusyError,
    CheckpointError,
    CheckpointFullError,
    CheckpointRefusedError,
)
from tasks.checkpoint.file_systems import MountTable, answer_within
from tasks.checkpoint.record import Outcome
from tasks.checkpoint.settings import StoreSettings
from tasks.checkpoint.store import CheckpointStore
from tasks.checkpoint.writer import CheckpointWriter
from tasks.status import RunStatus

OLD, NEW = b"old fingerprint.", b"new fingerprint."


def mount_table(file: Path, mounts: dict[Path, str]) -> MountTable:
    """Write a mount table in which these folders are mounts of these types."""
    lines = ["22 1 254:0 / / rw,relatime - ext4 /dev/root rw"]
    for number, (folder, kind) in enumerate(mounts.items(), 30):
        escaped = str(folder).replace(" ", "\\040")
        lines.append(f"{number} 22 0:{number} / {escaped} rw shared:1 - {kind} server:/export rw")
    file.write_text("\n".join(lines) + "\n")
    return MountTable(file)


@pytest.fixture
def network(tmp_path) -> StoreSettings:
    """A store on a network file system, on a host that has a local disk."""
    shared, local = tmp_path / "shared disk", tmp_path / "local"
    shared.mkdir()
    local.mkdir()
    mounts = mount_table(tmp_path / "mountinfo", {shared: "nfs4"})
    return StoreSettings(shared / "checkpoint", local_candidates=(local,), mounts=mounts)


@pytest.mark.parametrize(
    ("kind", "safe"),
    [
        ("ext4", True),
        ("xfs", True),
        ("btrfs", True),
        ("tmpfs", True),
        ("overlay", True),
        ("fuseblk", True),
        ("nfs", False),
        ("nfs4", False),
        ("cifs", False),
        ("smb3", False),
        ("lustre", False),
        ("gpfs", False),
        ("beegfs", False),
        ("ceph", False),
        ("9p", False),
        ("fuse.sshfs", False),
        ("fuse.glusterfs", False),
        ("fuse", False),
    ],
)
def test_file_systems_are_told_apart_by_their_type(tmp_path, kind, safe):
    table = mount_table(tmp_path / "mountinfo", {Path("/data/in here"): kind})
    system = table.file_system("/data/in here/runs/x")
    assert (system.type, system.is_safe) == (kind, safe)
    assert table.file_system("/data/in herewith").type == "ext4"


def test_a_mount_hides_the_ones_below_and_before_it(tmp_path):
    table = mount_table(tmp_path / "mountinfo", {Path("/a"): "nfs", Path("/a/b"): "ext4"})
    with Path(table.source).open("a") as stream:
        stream.write("40 22 0:40 / /a/b rw - lustre mds:/scratch rw\n")
    assert table.file_system("/a/b/c").type == "lustre"
    assert table.file_system("/a/c").type == "nfs"


def test_the_real_mount_table_knows_this_folder(tmp_path):
    system = MountTable().file_system(tmp_path)
    assert system.type != "unknown"
    assert system.is_safe


def test_a_call_that_does_not_come_back_is_called_dead_by_name():
    stuck = threading.Event()
    try:
        with pytest.raises(CheckpointError, match=r'"/dead" on nfs4 did not answer within 0\.05 s'):
            answer_within(stuck.wait, '"/dead" on nfs4', 0.05)
    finally:
        stuck.set()


def test_on_a_network_file_system_no_file_that_changes_lies_in_the_shared_folder(network):
    """Sabotage: open the writer's file in the shared folder."""
    local = network.local_candidates[0]
    with CheckpointStore(network) as store:
        with store.begin("shared").writer() as writer:
            writer.record("a", OLD)
            writer.flush()
            assert len(list(local.rglob("*.mdb"))) == 1
            assert not list(network.directory.glob("*.mdb"))
            writer.publish()
            (published,) = network.directory.glob("*.mdb")
            inode = published.stat().st_ino
            writer.record("b", OLD)
            writer.publish()
            assert published.stat().st_ino != inode  # by rename, never in place
        assert not list(local.rglob("*.mdb"))
    with CheckpointStore(network) as store:
        assert list(store.missing(["a", "b", "c"])) == ["c"]
    assert not list(network.directory.glob("*-lock"))


def test_another_host_reads_what_was_published_while_the_writer_lives(network, tmp_path):
    elsewhere = StoreSettings(
        network.directory, local_candidates=(tmp_path / "other host",), mounts=network.mounts
    )
    (tmp_path / "other host").mkdir()
    with CheckpointStore(network) as store, store.begin("here").writer() as writer:
        writer.record("a", OLD)
        writer.publish()
        writer.record("b", OLD)
        writer.flush()
        code = """
settings = StoreSettings(Path(sys.argv[1]), local_candidates=(Path(sys.argv[2]),))
with CheckpointStore(settings) as store:
    say(list(store.missing(["a", "b"])), store.show().files[0].state)
"""
        assert run(code, elsewhere.directory, tmp_path / "other host") == "['b'] published\n"


def test_copies_are_published_from_time_to_time(network):
    settings = StoreSettings(
        network.directory, network.local_candidates, network.mounts, publish_every_s=0.05
    )
    with CheckpointStore(settings) as store, store.begin("timer").writer() as writer:
        for number in range(3):
            before = {path.stat().st_ino for path in settings.directory.glob("*.mdb")}
            writer.record(str(number), OLD)
            wait_for(
                lambda before=before: (
                    {path.stat().st_ino for path in settings.directory.glob("*.mdb")} - before
                ),
                "no copy was published",
            )


def test_a_withdrawal_is_published_before_it_counts(network):
    """Sabotage: return from ``withdraw`` when this host's own disk has it."""
    with CheckpointStore(network) as store, store.begin("first").writer() as writer:
        writer.record("a", OLD)
    code = """
settings = StoreSettings(Path(sys.argv[1]), (Path(sys.argv[2]),), MountTable(sys.argv[3]))
writer = CheckpointStore(settings).begin("second", base=0).writer()
writer.withdraw(["a"])
say("withdrawn")
os.kill(os.getpid(), 9)
"""
    local = network.local_candidates[0]
    process = start(
        "from tasks.checkpoint.file_systems import MountTable" + code,
        network.directory,
        local,
        network.mounts.source,
    )
    assert heard(process) == "withdrawn"
    process.wait()
    end(process)
    shutil.rmtree(local)  # the host is gone with its disk
    local.mkdir()
    with CheckpointStore(network) as store:
        record = store.lookup("a")
        assert record is not None
        assert record.outcome is Outcome.WITHDRAWN


def test_what_a_killed_writer_had_not_published_is_published_by_the_next_start(network):
    code = """
settings = StoreSettings(Path(sys.argv[1]), (Path(sys.argv[2]),), MountTable(sys.argv[3]))
writer = CheckpointStore(settings).begin("killed").writer()
writer.record("a", b"f")
writer.flush()
os.kill(os.getpid(), 9)
"""
    local = network.local_candidates[0]
    process = start(
        "from tasks.checkpoint.file_systems import MountTable" + code,
        network.directory,
        local,
        network.mounts.source,
    )
    process.wait()
    end(process)
    assert not list(network.directory.glob("*.mdb"))
    with CheckpointStore(network) as store:
        store.begin("next", base=0)
        assert list(store.missing(["a"])) == []
    assert not list(local.rglob("*.mdb*"))
    assert not list(local.rglob("*.owner"))


def test_without_a_local_disk_the_place_is_refused_by_name(tmp_path):
    shared = tmp_path / "shared"
    (shared / "tmp").mkdir(parents=True)
    settings = StoreSettings(
        shared / "checkpoint",
        local_candidates=(shared / "tmp",),
        mounts=mount_table(tmp_path / "mountinfo", {shared: "fuse.sshfs"}),
    )
    with CheckpointStore(settings) as store, pytest.raises(CheckpointRefusedError) as caught:
        store.begin("refused")
    assert caught.value.exit_code == 2
    for part in (
        f'checkpoint directory "{shared / "checkpoint"}" lies on fuse.sshfs (server:/export on',
        f'"{shared / "tmp"}" is fuse.sshfs',
        "--checkpoint DIR",
    ):
        assert part in str(caught.value)
    assert not (shared / "checkpoint").exists()


def test_a_link_into_a_network_file_system_is_seen_through(network, tmp_path):
    network.directory.mkdir()
    (tmp_path / "link").symlink_to(network.directory)
    settings = StoreSettings(tmp_path / "link", network.local_candidates, network.mounts)
    with CheckpointStore(settings) as store, store.begin("link").writer() as writer:
        writer.record("a", OLD)
        writer.flush()
        assert not list(network.directory.glob("*.mdb"))


# -- a full disk, a directory that cannot be written ------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def record_until_it_fails(writer: CheckpointWriter) -> None:
    for number in range(100_000):
        writer.record(f"{number:06}", OLD)
        if number % 500 == 499:
            writer.flush()


def test_a_full_disk_ends_the_writer_with_a_clear_error_and_nothing_committed_is_lost(small_disk):
    """Sabotage: log the error of a commit and go on."""
    heard_of: list[BaseException] = []
    with CheckpointStore(small_disk / "checkpoint") as store:
        writer = store.begin("fills the disk").writer(failed=heard_of.append)
        with pytest.raises(CheckpointFullError) as caught:
            record_until_it_fails(writer)
        durable = writer.durable
        assert durable > 500
        with pytest.raises(CheckpointFullError):
            writer.record("one more", OLD)
        with pytest.raises(CheckpointFullError):
            writer.close()
    assert caught.value.exit_code == 70
    assert f'the disk of checkpoint "{small_disk / "checkpoint"}" is full' in str(caught.value)
    assert heard_of == [caught.value]
    with CheckpointStore(small_disk / "checkpoint") as store:
        assert list(store.missing(f"{number:06}" for number in range(durable))) == []


@pytest.mark.parametrize("left_bytes", [0, 8_192, 20_000, 40_000, 70_000])
def test_a_disk_that_is_full_at_the_start_is_an_error_and_no_signal(small_disk, left_bytes):
    """LMDB maps its lock file into memory: without space behind it the first touch is SIGBUS.

    Sabotage: do not ``reserve`` the lock file.
    """
    directory = small_disk / "checkpoint"
    with CheckpointStore(directory) as store:
        generation = store.begin("before")
        with generation.writer() as writer:
            writer.record("a", OLD)
        generation.end(RunStatus.CANCELLED)
    descriptor = os.open(small_disk / "ballast", os.O_CREAT | os.O_WRONLY)
    free = os.statvfs(small_disk).f_bavail * 4096
    os.posix_fallocate(descriptor, 0, max(1, free - left_bytes))
    os.close(descriptor)
    code = """
with CheckpointStore(Path(sys.argv[1])) as store:
    try:
        with store.begin("full", base=0).writer() as writer:
            for number in range(2_000):
                writer.record(f"{number:06}", b"f")
    except CheckpointFullError as error:
        say("full")
"""
    assert run(code, directory) == "full\n"
    (small_disk / "ballast").unlink()
    with CheckpointStore(directory) as store:
        store.begin("after", base=0)
        assert list(store.missing(["a"])) == []


@pytest.fixture
def read_only(tmp_path):
    """A checkpoint with one source, on a file system that is mounted read-only."""
    directory = tmp_path / "read only"
    with CheckpointStore(directory) as store:
        generation = store.begin("before")
        with generation.writer() as writer:
            writer.record("a", OLD)
        generation.end(RunStatus.CANCELLED)
    commands = [
        ["mount", "--bind", str(directory), str(directory)],
        ["mount", "-o", "remount,bind,ro", str(directory)],
    ]
    if os.getuid() != 0 or any(
        subprocess.run(command, capture_output=True, check=False).returncode for command in commands
    ):
        pytest.skip("mounting needs root")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_read_only_directory_can_be_looked_at_and_not_begun_on(read_only):
    with CheckpointStore(read_only) as store:
        assert list(store.missing(["a", "b"])) == ["b"]
        assert store.interrupted()
        assert dict(store.show().counts) == {"done": 1}
        with pytest.raises(CheckpointError, match="cannot be written") as caught:
            store.begin("refused")
    assert caught.value.exit_code == 70
    assert "Read-only file system" in str(caught.value)
    assert "--checkpoint DIR" in str(caught.value)


def test_a_directory_of_somebody_else_can_be_looked_at_and_not_begun_on(tmp_path):
    if os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    directory = tmp_path / "checkpoint"
    with CheckpointStore(directory) as store, store.begin("before").writer() as writer:
        writer.record("a", OLD)
    for folder in (directory, *directory.parents):
        if folder != Path("/tmp") and Path("/tmp") in folder.parents:
            folder.chmod(0o755)
    code = """
from tasks.checkpoint import store as _loaded, environment, writer, view
import lmdb, filelock
os.setgid(65534)
os.setuid(65534)
with CheckpointStore(Path(sys.argv[1])) as store:
    say(list(store.missing(["a", "b"])))
    try:
        store.begin("refused")
    except CheckpointError as error:
        say("Permission denied" in str(error))
"""
    assert run(code, directory) == "['b']\nTrue\n"


def test_a_lock_that_somebody_keeps_is_waited_for_and_then_named(tmp_path):
    from filelock import FileLock

    settings = StoreSettings(tmp_path, lock_within_s=0.1)
    named = pytest.raises(CheckpointBusyError, match=r"locked by another start for 0\.1 s")
    with FileLock(tmp_path / ".lock"), CheckpointStore(settings) as store, named:
        store.begin("waits")
