from __future__ import annotations

from pathlib import Path

import pytest

from tasks.job_program import program_files


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("sim", "run.py", "lib/tool.py", "pkg/mod.py", "pkg/__main__.py", "data.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("./sim", "--seed", "1"), ["sim"]),
        ("./sim --seed 1", ["sim"]),
        ("./not-built-yet", ["not-built-yet"]),
        (("python", "run.py", "data.csv"), ["run.py"]),
        ("python3.11 -W error run.py data.csv", ["run.py"]),
        ("python -m pkg.mod", ["pkg/mod.py"]),
        ("python -m pkg", ["pkg/__main__.py"]),
        ("python -c 'import x' run.py", []),
        ("LEVEL=1 nice -n 5 ./sim", []),
        ("LEVEL=1 nohup ./sim", ["sim"]),
        ("env A=1 B=2 ./sim", ["sim"]),
        ("./sim && python run.py | sort; bash lib/tool.py", ["sim", "run.py", "lib/tool.py"]),
        ("echo 'a; ./sim'", []),
        ("(./sim)", ["sim"]),
        ("echo x # ./sim", []),
        ("echo 'never closed", []),
        ("/bin/true", []),
        ("../outside", []),
        ("cat data.csv", []),
        ("make all", []),
    ],
)
def test_the_programs_of_a_command_are_found(folder, command, expected):
    found = program_files(command, str(folder), str(folder))
    assert [str(Path(path).relative_to(folder)) for path in found] == expected


def test_a_program_is_found_from_where_the_job_runs(folder):
    found = program_files(("python", "tool.py"), str(folder), str(folder / "lib"))
    assert found == (str(folder / "lib" / "tool.py"),)


def test_a_program_of_the_graph_is_found_on_the_jobs_own_path(folder):
    (folder / "bin").mkdir()
    tool = folder / "bin" / "own-tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    found = program_files("own-tool -v", str(folder), str(folder), f"{folder / 'bin'}:/bin")
    assert found == (str(tool),)
