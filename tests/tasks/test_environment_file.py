"""What an environment looks like on disk."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tasks.environment_file import MASK, mask_secrets, write_environment_file


@pytest.mark.parametrize(
    "name",
    ["PREFECT_API_KEY", "GITHUB_TOKEN", "my_secret", "DbPassword", "SSH_KEYS", "AWS_CREDENTIALS"],
)
def test_a_value_whose_name_looks_like_a_secret_is_masked(name: str) -> None:
    assert mask_secrets({name: "hunter2"}) == {name: MASK}


def test_other_values_and_empty_secrets_are_left_alone() -> None:
    environment = {"PATH": "/bin", "TOKEN": "", "MODE": "a=b"}
    assert mask_secrets(environment) == environment


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://user:pa:ss@host/db", f"postgresql://user:{MASK}@host/db"),
        ("redis://:hunter2@host:6379/0", f"redis://:{MASK}@host:6379/0"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
        ("https://user@host/", "https://user@host/"),
    ],
)
def test_the_password_of_a_url_is_masked_whatever_the_variable_is_called(
    url: str, masked: str
) -> None:
    assert mask_secrets({"DATABASE": url}) == {"DATABASE": masked}


def test_the_file_holds_one_sorted_line_a_variable_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "env.txt"
    write_environment_file(path, {"B": "two\nlines\\n", "A": "1", "KEY": "k", "C": "\udcff"})
    assert path.read_bytes() == b"A=1\nB=two\\nlines\\\\n\nC=\xff\nKEY=" + MASK.encode() + b"\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    path = tmp_path / "env.txt"
    path.symlink_to(outside)
    write_environment_file(path, {"A": "1"})
    assert outside.read_text() == "precious"
    assert not path.is_symlink()
