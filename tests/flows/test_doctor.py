"""``python -m flows.run doctor``: what a person and a program get from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.examined import Examined, a_dead_process, examined, is_alive
from support.terminal import run_on_terminal

from flows.diagnosis.checks import CHECKS, diagnose
from flows.diagnosis.finding import Finding, Level, ok
from flows.run import main
from flows.run_directory import RunFile
from tasks.run_context import new_run_number
from tasks.status import RunStatus

__all__ = ["examined"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cli(examined: Examined) -> CommandLine:
    return CommandLine(examined.place, {"TMPDIR": str(examined.place / "tmp")})


@pytest.fixture
def here(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> Examined:
    """The command in this very process, which shows it this test's processes alone."""
    monkeypatch.delenv("HOLDFAST_RUNS", raising=False)
    monkeypatch.chdir(examined.place)
    return examined


def doctor(*options: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["doctor", "--offline", *options])
    return code, capsys.readouterr().out


# -- the whole -------------------------------------------------------------------------------


def test_every_check_has_something_to_say_and_the_counts_agree(
    here: Examined, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = doctor("--json", capsys=capsys)
    answer = json.loads(out)
    findings = answer["findings"]
    assert {each["check"] for each in findings} == {group.lower() for group in CHECKS}
    levels = [each["level"] for each in findings]
    assert answer["problems"] == levels.count("problem")
    assert answer["warnings"] == levels.count("warning")
    assert code == (1 if answer["problems"] else 0)
    assert all(each["advice"] for each in findings if each["level"] == "problem")


def test_nothing_is_left_in_the_folder_that_was_looked_at(
    here: Examined, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(here.processes())
    doctor(capsys=capsys)
    assert list(here.runs.iterdir()) == []
    assert set(here.processes()) == before


def test_a_problem_is_exit_code_1_and_without_one_it_is_0(
    here: Examined, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {"Strays": CHECKS["Strays"], "Locks": CHECKS["Locks"]}
    monkeypatch.setattr("flows.commands.doctor.diagnose", lambda place: diagnose(place, only))
    code, out = doctor(capsys=capsys)
    assert (code, out.splitlines()[-1]) == (0, "no problem, 0 warnings")
    pid = here.carrier(new_run_number())
    code, out = doctor(capsys=capsys)
    assert (code, out.splitlines()[-1]) == (1, "1 problem, 0 warnings")
    assert f"process {pid}" in out
    assert is_alive(pid)
    code, out = doctor("--fix", capsys=capsys)
    assert (code, out.splitlines()[-1]) == (0, "no problem, 1 warning")
    assert not is_alive(pid)


def test_a_dead_run_is_settled_by_the_command_itself(cli: CommandLine, examined: Examined) -> None:
    examined.run("dead", driver=a_dead_process().to_json(), number=new_run_number())
    done = cli.run("doctor", "--offline", "--json")
    (told,) = [each for each in done.json()["findings"] if each["subject"] == "dead"]
    assert told["level"] == "warning"
    file = RunFile.read(examined.runs / "dead")
    assert file is not None
    assert file.status is RunStatus.CRASHED
    listed = cli.run("list")
    assert "crashed" in listed.out


def test_offline_prefect_is_not_imported(cli: CommandLine, examined: Examined) -> None:
    poison = examined.place / "poison" / "prefect"
    poison.mkdir(parents=True)
    (poison / "__init__.py").write_text("raise ImportError('imported after all')\n")
    cli.settings["PYTHONPATH"] = os.pathsep.join([str(poison.parent), str(ROOT)])
    offline = cli.run("doctor", "--offline", "--json")
    assert "imported after all" not in offline.out + offline.err
    online = cli.run("doctor", "--json")
    assert online.code == 1
    (told,) = [each for each in online.json()["findings"] if each["check"] == "prefect"]
    assert "imported after all" in told["message"]


def test_a_broken_package_is_a_finding_and_the_other_checks_are_done(
    cli: CommandLine, examined: Examined
) -> None:
    poison = examined.place / "poison"
    poison.mkdir()
    (poison / "filelock.py").write_text("raise ImportError('filelock is broken')\n")
    cli.settings["PYTHONPATH"] = os.pathsep.join([str(poison), str(ROOT)])
    done = cli.run("doctor", "--offline", "--json")
    assert done.code == 1
    assert "Traceback" not in done.err
    findings = done.json()["findings"]
    broken = {each["check"] for each in findings if "filelock is broken" in each["message"]}
    assert {"runs", "strays", "locks"} <= broken
    sound = {each["check"] for each in findings if each["level"] == "ok"}
    assert {"versions", "places", "limits", "kernel", "keeper", "slurm"} <= sound


# -- isolation -------------------------------------------------------------------------------


def half_way(_examination: object) -> Iterator[Finding]:
    yield ok("first", "found before it broke")
    raise ZeroDivisionError("half way")


def test_a_check_that_raises_becomes_a_finding_and_keeps_what_it_found(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = type(sys)("broken_check")
    module.half_way = half_way  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken_check", module)
    checks = {"Broken": "broken_check:half_way", "Gone": "no_such_module:check"}
    found = list(diagnose(examined.examination(), {**checks, "Slurm": CHECKS["Slurm"]}))
    assert [(group, finding.level) for group, finding in found][:3] == [
        ("Broken", Level.OK),
        ("Broken", Level.PROBLEM),
        ("Gone", Level.PROBLEM),
    ]
    assert "ZeroDivisionError: half way" in found[1][1].message
    assert "no_such_module" in found[2][1].message
    assert found[-1][0] == "Slurm"


# -- what it looks like ----------------------------------------------------------------------

SHOW = """
import sys
from flows.commands import doctor
from flows.diagnosis.finding import ok, problem, warning
doctor.diagnose = lambda _: iter([
    ("Versions", ok("python", "3.11")),
    ("Strays", problem("process 7", "`evil \\x1b[2J\\nname` of a run", "end it")),
    ("Strays", warning("process 8", "so so", "look")),
])
from flows.run import main
sys.exit(main(["doctor"]))
"""
PLAIN = """Versions
  ok       python: 3.11
Strays
  problem  process 7: `evil name` of a run
             end it
  warning  process 8: so so
             look
1 problem, 1 warning
"""


def test_on_a_terminal_levels_are_coloured_and_no_color_switches_that_off() -> None:
    told = run_on_terminal([sys.executable, "-c", SHOW], columns=200)
    assert told.exit_code == 1
    assert "\x1b[31mproblem" in told.text
    assert "\x1b[32mok" in told.text
    plain = run_on_terminal([sys.executable, "-c", SHOW], environment={"NO_COLOR": "1"})
    assert plain.text.replace("\r\n", "\n") == PLAIN


def test_in_a_pipe_it_is_plain_and_a_hostile_name_stays_on_its_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (done.stdout, done.stderr) == (PLAIN, "")
