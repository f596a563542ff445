from __future__ import annotations

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import graph_builder
from tasks.dag_file import parse_dag
from tasks.errors import InputError
from tasks.need_globs import NeedGlobs, is_glob


@given(
    ids=st.lists(st.text("ab-1", min_size=1, max_size=5), unique=True),
    glob=st.text("ab-1*?[]!", max_size=6),
)
def test_a_glob_means_what_the_shell_means_in_the_order_of_the_graph(
    ids: list[str], glob: str
) -> None:
    asker = ids[0] if ids else ""
    expected = [job_id for job_id in ids if fnmatchcase(job_id, glob) and job_id != asker]
    assert list(NeedGlobs(ids).matches(glob, asker)) == expected


@pytest.mark.parametrize("text", ["*", "a?", "a[bc]", "["])
def test_what_no_id_can_hold_is_a_glob(text: str) -> None:
    assert is_glob(text)


def test_an_id_is_no_glob() -> None:
    assert not is_glob("A-z_0.9:=+,@")


def test_a_job_never_needs_itself_through_a_glob() -> None:
    jobs = [{"id": f"t{i}", "command": "x"} for i in range(3)]
    last = {"id": "t-last", "command": "x", "needs": ["t*"]}
    assert parse_dag({"jobs": [*jobs, last]}).jobs[-1].needs == ("t0", "t1", "t2")


def test_upper_and_lower_case_differ() -> None:
    assert list(NeedGlobs(["a", "A"]).matches("[A]", "")) == ["A"]


def test_many_jobs_with_globs_of_their_own_are_quick() -> None:
    # 4,000 globs over 8,000 ids: looked up among all ids this would be 32 million matches.
    builds = [{"id": f"build-{i:04d}-x", "command": "x"} for i in range(4_000)]
    tests = [{"id": f"t{i}", "command": "x", "needs": [f"build-{i:04d}-*"]} for i in range(4_000)]
    before = time.process_time()
    read = parse_dag({"jobs": [*tests, *builds]})
    assert time.process_time() - before < 5
    assert read.jobs[3_999].needs == ("build-3999-x",)


def test_globs_that_stand_for_too_many_needs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_builder, "MAX_GLOB_NEEDS", 99)
    jobs = [{"id": f"a{i}", "command": "x"} for i in range(10)]
    many = [{"id": f"b{i}", "command": "x", "needs": ["a*"]} for i in range(10)]
    assert len(parse_dag({"jobs": [*jobs, *many[:9]]}).jobs) == 19
    with pytest.raises(InputError, match="its globs stand for more than 99 needs; put a job betw"):
        parse_dag({"jobs": [*jobs, *many]})
