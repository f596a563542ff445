"""Each attempt has a clean directory, and nothing outside the run is ever touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.job_files import make_job_directory, renew_job_directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_logs_of_earlier_attempts_are_numbered_and_the_rest_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "job"
    for attempt in (1, 2):
        renew_job_directory(directory)
        (directory / "log.txt").write_text(f"attempt {attempt}")
        (directory / "waves").mkdir()
        (directory / "waves" / "a.vcd").write_text("x")
    renew_job_directory(directory)
    assert names(directory) == ["log.1.txt", "log.2.txt"]
    assert (directory / "log.2.txt").read_text() == "attempt 2"


def test_an_attempt_without_a_log_leaves_no_gap_in_the_logs_of_others(tmp_path: Path) -> None:
    directory = tmp_path / "job"
    renew_job_directory(directory)
    renew_job_directory(directory)
    (directory / "log.txt").touch()
    renew_job_directory(directory)
    assert names(directory) == ["log.1.txt"]


def test_keep_previous_keeps_the_newest_contents_and_no_more(tmp_path: Path) -> None:
    directory = tmp_path / "job"
    for attempt in range(1, 6):
        renew_job_directory(directory, keep_previous=2)
        (directory / "log.txt").touch()
        (directory / "result").write_text(str(attempt))
    renew_job_directory(directory, keep_previous=2)
    previous = [name for name in names(directory) if name.startswith("previous.")]
    assert previous == ["previous.4", "previous.5"]
    assert (directory / "previous.5" / "result").read_text() == "5"
    assert names(directory / "previous.5") == ["result"]


def test_links_are_removed_as_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "precious").write_text("precious")
    directory = tmp_path / "job"
    directory.mkdir()
    (directory / "to-folder").symlink_to(outside)
    (directory / "to-file").symlink_to(outside / "precious")
    (directory / "inside").mkdir()
    (directory / "inside" / "to-folder").symlink_to(outside)
    renew_job_directory(directory)
    assert names(directory) == []
    assert (outside / "precious").read_text() == "precious"
    assert (outside / "deep").is_dir()


@pytest.mark.parametrize("work", [make_job_directory, renew_job_directory])
def test_a_link_in_the_place_of_the_directory_is_refused(work: object, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tmp_path / "job").symlink_to(outside)
    with pytest.raises(NotADirectoryError, match="is not a directory"):
        work(tmp_path / "job")  # type: ignore[operator]
    assert names(outside) == ["precious"]


def test_a_log_that_is_a_link_is_put_away_as_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    directory = tmp_path / "job"
    directory.mkdir()
    (directory / "log.txt").symlink_to(outside)
    renew_job_directory(directory)
    assert (directory / "log.1.txt").is_symlink()
    assert outside.read_text() == "precious"
