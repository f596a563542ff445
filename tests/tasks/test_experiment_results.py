from __future__ import annotations

from pathlib import Path

import pytest

from tasks.experiment_results import Results, ResultsError, read_document, read_results


def results(**document: object) -> Results:
    return Results(document, 2)


def test_numbers_and_vectors_come_back_as_they_are() -> None:
    given = results(results={"angle": [1, 2.5], "direction": [[1, 0, 0], [0, 1.0, 0]]})
    assert given.numbers("angle") == [1.0, 2.5]
    assert given.vectors("direction", 3) == [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]


def test_a_quantity_that_a_library_has_not_is_none_and_no_error() -> None:
    given = results(results={"angle": [1, 2]}, not_available={"era": "no such function"})
    assert given.numbers("era") is None
    assert given.not_available == {"era": "no such function"}


def test_a_library_that_has_nothing_answers_none_to_everything() -> None:
    given = results(status="not available", reason="wrong planet")
    assert not given.is_available
    assert given.numbers("angle") is None
    assert given.reason == "wrong planet"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1], '"angle" has 1 values for 2 cases'),
        ([1, 2, 3], '"angle" has 3 values for 2 cases'),
        ("12", '"angle" is no list'),
        ([1, "2"], "\"angle\" of case 1 is '2', which is no number"),
        ([1, None], '"angle" of case 1 is None'),
        ([1, True], '"angle" of case 1 is True'),
        ([1, [2]], '"angle" of case 1 is [2]'),
        ([float("nan"), 1], '"angle" of case 0 is not finite'),
        ([1, float("inf")], '"angle" of case 1 is not finite'),
        ([1, 10**400], '"angle" of case 1 is not finite'),
    ],
)
def test_what_is_no_finite_number_for_each_case_is_refused(values: object, message: str) -> None:
    with pytest.raises(ResultsError) as error:
        results(results={"angle": values}).numbers("angle")
    assert message in str(error.value)


def test_a_quantity_that_is_absent_without_a_word_is_refused() -> None:
    with pytest.raises(ResultsError, match='there is no "era" in its results'):
        results(results={"angle": [1, 2]}).numbers("era")


def test_a_vector_of_another_size_is_refused() -> None:
    with pytest.raises(ResultsError, match="3 numbers are needed"):
        results(results={"direction": [[1, 0, 0], [0, 1]]}).vectors("direction", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON document"),
        (b"hello", "is no JSON document"),
        (b'{"results": {"angle": [1, 2', "is no JSON document"),
        (b"[1, 2]", "is no JSON object"),
        (b'{"a": NaN}', "it holds NaN"),
        (b'{"a": [-Infinity]}', "it holds -Infinity"),
        (b"\xff\xfe{}", "is no JSON document"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "is no JSON document"),
    ],
)
def test_a_file_that_is_no_json_object_is_refused_by_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError) as error:
        read_document(path)
    assert '"x.json"' in str(error.value)
    assert message in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r'there is no "x\.json"'):
        read_document(tmp_path / "x.json")
    with pytest.raises(ResultsError, match="cannot be read"):
        read_document(tmp_path)


def test_a_file_too_large_to_be_results_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as stream:
        stream.truncate((1 << 30) + 1)
    with pytest.raises(ResultsError, match="1073741825 bytes"):
        read_document(path)


def test_answers_to_other_cases_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"dataset_fingerprint": "sha256:old", "results": {}}')
    with pytest.raises(ResultsError, match="answers other cases"):
        read_results(path, 2, "sha256:new")


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"status": "fine", "results": {}}')
    with pytest.raises(ResultsError, match="has the status 'fine'"):
        read_results(path, 2, "sha256:new")
