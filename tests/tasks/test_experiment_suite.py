from __future__ import annotations

from pathlib import Path

import pytest
from support.experiments import write_suite

from tasks.errors import InputError
from tasks.experiment_suite import (
    LABORATORY,
    choose,
    load_named_suite,
    load_suite,
    suite_argument,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "sorting_suite.py"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_suite(path)
    return str(error.value)


def test_the_laboratory_is_the_suite_of_nobody_else() -> None:
    suite = load_suite()
    assert list(suite) == ["frame_rotation_bpn", "gmst_era"]
    assert {suite_argument(experiment) for experiment in suite.values()} == {LABORATORY}
    assert load_named_suite(LABORATORY) == suite


def test_a_suite_of_ones_own_is_found_again_by_what_its_jobs_are_told(tmp_path: Path) -> None:
    path = write_suite(tmp_path, {})
    suite = load_suite(path)
    argument = suite_argument(suite["echo"])
    assert argument == str(path)
    assert load_named_suite(argument)["echo"].reference == "reference"


def test_the_example_suite_loads() -> None:
    assert list(load_suite(EXAMPLE)) == ["sorting"]


def test_a_module_beside_the_suite_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "beside_the_suite.py").write_text("WORD = 'found'\n")
    path = write_suite(tmp_path, {})
    path.write_text("from beside_the_suite import WORD\n" + path.read_text())
    assert list(load_suite(path)) == ["echo"]


def test_what_is_no_file_or_no_python_is_refused(tmp_path: Path) -> None:
    assert "is no file" in refused(tmp_path / "absent.py")
    assert "is no file" in refused(tmp_path)
    (tmp_path / "suite.txt").write_text("")
    assert "must end in .py" in refused(tmp_path / "suite.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nx = = 2\n", "line 2: SyntaxError"),
        ("\n\n1 / 0\n", "line 3: ZeroDivisionError"),
        ("import sys\nsys.exit(0)\n", "line 2: SystemExit"),
        ("import no_such_module_anywhere\n", "line 1: ModuleNotFoundError"),
        ("x = 1\n", "defines no experiment"),
        ("from tasks.laboratory import GmstEra\n", "defines no experiment"),
        ("", "defines no experiment"),
    ],
)
def test_a_suite_that_cannot_be_loaded_says_where_and_why(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "suite.py"
    path.write_text(text)
    found = refused(path)
    assert message in found
    assert str(path) in found


def test_all_problems_of_a_suite_are_told_at_once(tmp_path: Path) -> None:
    path = write_suite(tmp_path, {}, name="Not Allowed")
    path.write_text(path.read_text().replace('reference = "reference"', 'reference = "nobody"'))
    found = refused(path)
    assert 'name "Not Allowed" is not allowed' in found
    assert 'the reference "nobody" has no adapter' in found


def test_two_experiments_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_suite(tmp_path, {})
    path.write_text(path.read_text() + "\nclass Again(Echo):\n    pass\n")
    assert 'two experiments are called "echo"' in refused(path)


def test_experiments_are_chosen_by_name_in_the_order_of_the_suite() -> None:
    suite = load_suite()
    assert list(choose(suite, [])) == list(suite)
    assert list(choose(suite, ["gmst_era", "frame_rotation_bpn"])) == list(suite)
    assert list(choose(suite, ["gmst_era"])) == ["gmst_era"]


def test_an_unknown_experiment_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(InputError) as error:
        choose(load_suite(), ["gmst_eta", "zzz"])
    assert error.value.problems == (
        'there is no experiment "gmst_eta"; did you mean "gmst_era"?',
        'there is no experiment "zzz"; there are frame_rotation_bpn, gmst_era',
    )
