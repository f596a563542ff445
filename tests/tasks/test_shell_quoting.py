"""Values of a matrix in commands for the shell, tried with real shells.

Sabotage: a ``takes_quoted_word`` that always says yes turns most of this red; each pattern taken
out of ``_HARD``, and each branch out of ``_State``, turns its own template red.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.dag_file import parse_dag
from tasks.errors import InputError

SHELLS = [
    shell for shell in ("/bin/sh", shutil.which("dash"), shutil.which("bash")) if shell is not None
]

HOSTILE = [
    "a b",
    "'",
    '"',
    "$(touch hurt)",
    "`touch hurt`",
    "` ; touch hurt ; `",
    "; touch hurt",
    "\n touch hurt \n",
    "' ; touch hurt ; '",
    '" ; touch hurt ; "',
    "\\' ; touch hurt",
    "\\",
    "*",
    "~",
    "$HOME",
    "x #",
    "!!",
    "",
    "é\u2028",
]

TEMPLATES = [
    "printf '<%s>' {v}",
    "printf '<%s>' x{v}y",
    "printf '<%s>' '{v}'",
    'printf "<%s>" "{v}"',
    "printf '<%s>' \\{v}",
    "printf '<%s>' $'{v}'",
    "printf '<%s>' $'\\'' '{v}'",
    "printf '<%s>' a#{v}",
    "echo a # {v}",
    "echo a # it's\nprintf '<%s>' '{v}'",
    "echo a\\\n#'x\n{v}'",
    "echo a \\\n# it's\necho '{v}'",
    "echo a;# it's\necho '{v}'",
    "echo `echo {v}`",
    "echo $(echo {v})",
    "cat <<END\n{v}\nEND",
    "cat <<'END'\n{v}\nEND",
    'echo "$(echo "{v}")"',
    "echo \"$(echo '{v}')\"",
    "echo $(( {v} ))",
    "echo $[ {v} ]",
    "echo ${{x:-{v}}}",
    'echo "${{x:-"{v}"}}"',
    "echo ${{x:- # '}}\n{v}'}}",
    'echo "it\'s" {v}',
    "echo 'say \"' {v}",
    'echo "\\"" {v}',
    "echo '\\' {v}",
    "echo a\\'{v}",
    "echo a\\\\'{v}'",
]


def command(template: str, value: str) -> str | None:
    """Return the command with the value put in; ``None`` where the reader refuses."""
    job = {"id": "a", "command": template, "matrix": {"v": [value]}}
    try:
        text = parse_dag({"jobs": [job]}).jobs[0].command
    except InputError as error:
        message = str(error)
        assert "cannot be quoted" in message or "shell variable" in message
        return None
    assert isinstance(text, str)
    return text


def run(shell: str, text: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [shell, "-c", text],
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=10,
        check=False,
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_hostile_value_is_quoted_or_refused_but_never_obeyed(
    template: str, tmp_path: Path
) -> None:
    for value in HOSTILE:
        text = command(template, value)
        if text is None:
            continue
        for shell in SHELLS:
            run(shell, text, tmp_path)
            assert list(tmp_path.iterdir()) == [], (shell, text)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_plain_place_takes_every_value_as_one_word(value: str, tmp_path: Path) -> None:
    for template, expected in [
        ("printf '<%s>' {v}", f"<{value}>"),
        ("printf '<%s>' x{v}y", f"<x{value}y>"),
        ("printf '<%s>' \"it's\" {v}", f"<it's><{value}>"),
        ('x={v}; printf \'<%s>\' "$x" "${{x}}"', f"<{value}><{value}>"),
        ("# it's a comment\nprintf '<%s>' $(true) {v}", f"<{value}>"),
    ]:
        text = command(template, value)
        assert text is not None, template
        for shell in SHELLS:
            assert run(shell, text, tmp_path).stdout == expected.encode()


PIECES = ["'", '"', "\\", "#", "\n", " ", ";", "a", "$(", ")", "$", "(", "{v}", "{v}", "${{a}}"]
ALL_AT_ONCE = "'\"; touch hurt; '\"$(touch hurt)`touch hurt`\n touch hurt \n#' \\\" touch hurt\n"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("echo a\\\n#'x\n{v}'")
@example('"$("{v}")"')
def test_whatever_stands_around_it_a_hostile_value_is_never_obeyed(
    tmp_path: Path, template: str
) -> None:
    text = command(f"echo {template}", ALL_AT_ONCE)
    if text is not None:
        for shell in SHELLS:
            run(shell, text, tmp_path)
            assert list(tmp_path.iterdir()) == [], (shell, text)
