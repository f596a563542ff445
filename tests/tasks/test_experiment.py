from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tasks.experiment import (
    Adapter,
    Alignment,
    Expectation,
    Experiment,
    Metric,
    problems_of,
)
from tasks.experiment_results import Results


class Sound(Experiment):
    name = "sound"
    title = "A sound experiment"
    reference = "one"
    alignment = Alignment(quantity="q", model="m")
    metrics = (Metric("error_m", "error", "m"),)
    adapters = (Adapter("one", ("true",)), Adapter("two", ("true",)))

    def cases(self, n: int, seed: int) -> Sequence[Any]:
        return [seed] * n

    def errors(
        self, cases: Sequence[Any], reference: Results, candidate: Results
    ) -> Mapping[str, Sequence[float] | None]:
        return {"error_m": [0.0 for _ in cases]}


def problems(**attributes: object) -> str:
    return "\n".join(problems_of(type("Changed", (Sound,), attributes)))


def test_a_sound_experiment_has_no_problems() -> None:
    assert problems_of(Sound) == []


def test_the_adapter_of_a_library_is_found_by_its_name() -> None:
    assert Sound.adapter("two").library == "two"
    with pytest.raises(KeyError):
        Sound.adapter("three")


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a b", "9lives", "a\n", "a" * 65, None])
def test_a_name_that_could_not_stand_in_a_job_id_or_a_path_is_refused(name: object) -> None:
    assert f'name "{name}" is not allowed' in problems(name=name)


@pytest.mark.parametrize("library", ["generate", "compare", "", "a/b", ".."])
def test_a_library_may_not_take_the_name_of_a_step_or_leave_its_folder(library: str) -> None:
    adapters = (*Sound.adapters, Adapter(library, ("true",)))
    assert f'library "{library}" is not allowed' in problems(adapters=adapters)


def test_two_adapters_of_one_library_are_refused() -> None:
    assert 'library "one" has more than one adapter' in problems(adapters=Sound.adapters * 2)


def test_a_reference_without_an_adapter_is_refused_and_the_adapters_are_named() -> None:
    assert 'the reference "three" has no adapter; there are one, two' in problems(reference="three")


def test_an_experiment_without_metrics_or_with_an_empty_command_is_refused() -> None:
    empty = (dataclasses.replace(Sound.adapters[0], command=()), Sound.adapters[1])
    found = problems(metrics=(), adapters=empty)
    assert "has no metrics" in found
    assert 'the adapter of "one" has an empty command' in found


def test_an_expectation_of_an_unknown_metric_is_refused() -> None:
    adapter = Adapter("one", ("true",), expected=(Expectation("error_km", 1.0, "s"),))
    assert '"error_km", which is no metric; there are error_m' in problems(adapters=(adapter,))


def test_every_missing_attribute_is_named() -> None:
    class Empty(Experiment):
        pass

    found = "\n".join(problems_of(Empty))
    for attribute in ("name", "title", "reference", "alignment", "metrics", "adapters"):
        assert f'has no attribute "{attribute}"' in found
