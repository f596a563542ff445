"""The events that tell a Prefect server of a task run, held against Prefect's own schema."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from observers.prefect_events import MESSAGE_CHARACTERS, EventBuilder, Stage, TaskRunReport
from tasks.prefect_ids import task_run_id
from tasks.prefect_states import PrefectState

FLOW_RUN = "6c7b2a3e-6e4c-4a36-9d1e-0f8a6f1f2b11"
AT = 1_800_000_000.5


def report(**fields: Any) -> TaskRunReport:
    values = {
        "key": "test-1",
        "stage": Stage.ENDED,
        "state": PrefectState("FAILED", "TimedOut"),
        "at": AT,
        "message": "it took longer than 5 s",
        "attempt": 2,
        "expected_at": AT - 9,
        "started_at": AT - 8,
        "ended_at": AT,
        "ran_s": 7.5,
        "parents": ("build", "prepare"),
        "tags": ("nightly", 'quo"te\\d'),
        "retries": 3,
    }
    return TaskRunReport(**{**values, **fields})


def event(builder: EventBuilder | None = None, sending: int = 0, **fields: Any) -> dict[str, Any]:
    builder = EventBuilder(FLOW_RUN) if builder is None else builder
    built = json.loads(builder.event(report(**fields), sending))
    assert isinstance(built, dict)
    return built


@pytest.mark.prefect
def test_prefect_s_own_recorder_reads_every_field_from_the_event() -> None:
    from prefect.server.events.schemas.events import Event
    from prefect.server.services.task_run_recorder import task_run_from_event

    received = Event.model_validate(event()).receive()
    task_run = task_run_from_event(received)
    assert task_run.id == task_run_id(FLOW_RUN, "test-1")
    assert task_run.flow_run_id == UUID(FLOW_RUN)
    assert (task_run.name, task_run.dynamic_key, task_run.run_count) == ("test-1", "test-1", 2)
    assert task_run.tags == ["nightly", 'quo"te\\d']
    assert task_run.empirical_policy.retries == 3
    assert task_run.start_time is not None
    assert task_run.end_time is not None
    assert task_run.expected_start_time is not None
    assert task_run.start_time.timestamp() == AT - 8
    assert task_run.end_time.timestamp() == AT
    assert task_run.expected_start_time.timestamp() == AT - 9
    assert task_run.total_run_time.total_seconds() == 7.5
    [*parents] = task_run.task_inputs["wait_for"]
    assert [parent.model_dump() for parent in parents] == [
        {"input_type": "task_run", "id": task_run_id(FLOW_RUN, need)}
        for need in ("build", "prepare")
    ]
    assert task_run.state is not None
    assert (task_run.state.type.value, task_run.state.name) == ("FAILED", "TimedOut")
    assert task_run.state.message == "it took longer than 5 s"
    assert task_run.state.timestamp.timestamp() == AT


def test_what_is_not_known_is_left_out_so_that_the_server_keeps_what_it_has() -> None:
    columns = event(
        started_at=None, ended_at=None, ran_s=None, retries=0, parents=(), expected_at=None
    )["payload"]["task_run"]
    assert {"start_time", "end_time", "total_run_time", "empirical_policy"}.isdisjoint(columns)
    assert columns["task_inputs"] == {}
    assert columns["expected_start_time"] == "2027-01-15T08:00:00.500000Z"


def test_the_same_state_has_the_same_ids_wherever_it_is_built() -> None:
    assert event() == event()


def test_each_state_of_a_job_has_an_id_of_its_own() -> None:
    ids = {
        event()["id"],
        event(at=AT + 1)["id"],
        event(attempt=3)["id"],
        event(state=PrefectState("FAILED", "Failed"))["id"],
        event(key="test-2")["id"],
    }
    assert len(ids) == 5


def test_a_repetition_has_a_new_event_id_and_the_old_state_id() -> None:
    first, again = event(), event(sending=1)
    assert first["id"] == first["payload"]["validated_state"]["id"]
    assert again["id"] != first["id"]
    assert again["payload"] == first["payload"]


def test_a_group_and_a_job_of_the_same_name_are_two_task_runs() -> None:
    builder = EventBuilder(FLOW_RUN)
    single, group = event(builder), event(builder, is_group=True, name="test-1 (5 jobs)")
    assert single["resource"]["prefect.resource.id"] != group["resource"]["prefect.resource.id"]
    assert single["payload"]["task_run"]["task_key"] != group["payload"]["task_run"]["task_key"]
    assert group["payload"]["task_run"]["name"] == "test-1 (5 jobs)"


def test_bytes_of_a_log_in_a_message_are_made_harmless() -> None:
    hostile = '\x00\x1b[2J\udcff"}],\n' + "x" * 2 * MESSAGE_CHARACTERS
    message = event(message=hostile)["payload"]["validated_state"]["message"]
    assert len(message) <= MESSAGE_CHARACTERS
    assert message.startswith('��"}],\nxxx')
    message.encode("utf-8")


def test_many_tags_stay_within_what_an_event_may_relate_to() -> None:
    built = event(tags=(*(f"tag-{number}" for number in range(300)), ""))
    assert len(built["related"]) <= 100
    assert len(built["payload"]["task_run"]["tags"]) == 300
