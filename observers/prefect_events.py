"""What a Prefect server is told of a job: one event that becomes the state of a task run.

Prefect 3 keeps task runs by events that clients send (``prefect.task-run.<State>``); the server's
recorder turns each into a row.  Every id here is a function of the flow run and the job, so an
event may be sent any number of times: the server keeps one task run and one state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from json.encoder import encode_basestring_ascii as quoted
from uuid import UUID, uuid5

from tasks.events import iso_utc
from tasks.prefect_ids import task_run_id
from tasks.prefect_states import PrefectState
from tasks.sanitise import plain_text

MESSAGE_CHARACTERS = 10_000
"""Longer messages are cut: the journal has the whole of it."""

_RELATED_TAGS = 50  # The server takes an event with at most 100 related resources.
_JOB_TASK_KEY = "holdfast-job"
_GROUP_TASK_KEY = "holdfast-group"


class Stage(IntEnum):
    """How far a task run has come; what the server is told about next is never an earlier one.

    Except for a retry, which goes from RUNNING back to QUEUED.
    """

    PENDING = 0
    QUEUED = 1
    RUNNING = 2
    ENDED = 3


END_TYPES = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
"""The types of states that a task run does not leave by itself."""

QUEUED_OR_LATER = (
    *("Queued", "Running", "Completed", "Cached", "Failed"),
    *("TimedOut", "UpstreamFailed", "Cancelled", "Crashed"),
)
"""The names of every state that a task run may be in once it was told QUEUED."""


def group_run_id(flow_run_id: UUID, group: str) -> UUID:
    """Return the id of a group's task run; no job's id has the slash."""
    return uuid5(flow_run_id, f"group/{group}")


@dataclass(frozen=True, slots=True)
class TaskRunReport:
    """What is to be said of one job, or of one group, now.  Times are seconds since the epoch."""

    key: str
    """The job's id, or the group's name."""
    stage: Stage
    state: PrefectState
    at: float
    """When it came into this state; later for each state of the same task run."""
    is_group: bool = False
    name: str = ""
    """What people read; empty: the key."""
    message: str = ""
    attempt: int = 0
    expected_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    ran_s: float | None = None
    parents: Sequence[str] = ()
    """Keys of what it needs: jobs for a job, groups for a group."""
    tags: Sequence[str] = ()
    retries: int = 0


class EventBuilder:
    """Builds the events of one flow run."""

    def __init__(self, flow_run_id: str) -> None:
        self._flow_run = UUID(flow_run_id)
        # Each id is needed for its own events, for its children's and to ask what has arrived.
        self._ids: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._flow_run_resource = (
            f'{{"prefect.resource.id":"prefect.flow-run.{self._flow_run}",'
            '"prefect.resource.role":"flow-run"}'
        )

    def id_of(self, report: TaskRunReport) -> str:
        """Return the id of the task run that the report is about."""
        return self._id(report.key, report.is_group)

    def event(self, report: TaskRunReport, sending: int = 0) -> str:
        """Return the event as JSON for ``POST /api/events``.

        ``sending`` counts how often it was sent before: a server forgets an event whose id it has
        just seen, also one that it then dropped, so each repetition gets an id of its own while
        the state's id stays.

        Written piece by piece, at half the cost of ``json.dumps``: this is most of what a report
        costs the driver.
        """
        run_id = self.id_of(report)
        at = iso_utc(report.at)
        state_type, state_name = report.state
        state_id = uuid5(self._flow_run, f"{run_id} {state_name} {report.attempt} {at}")
        event_id = uuid5(state_id, str(sending)) if sending else state_id
        name = quoted(report.name or report.key)
        message = quoted(_clean(report.message)) if report.message else '""'
        tags = [quoted(_clean(tag)) for tag in report.tags if tag]
        return (
            f'{{"id":"{event_id}","occurred":"{at}","event":"prefect.task-run.{state_name}",'
            f'"resource":{{"prefect.resource.id":"prefect.task-run.{run_id}",'
            f'"prefect.resource.name":{name},"prefect.run-count":"{report.attempt}",'
            f'"prefect.state-message":{message},"prefect.state-name":"{state_name}",'
            f'"prefect.state-timestamp":"{at}","prefect.state-type":"{state_type}",'
            f'"prefect.orchestration":"client"}},'
            f'"related":[{self._flow_run_resource}{_tag_resources(tags)}],'
            f'"payload":{{"intended":{{"from":null,"to":"{state_type}"}},"initial_state":null,'
            f'"validated_state":{{"id":"{state_id}","type":"{state_type}","name":"{state_name}",'
            f'"message":{message},"state_details":{{}},"data":null}},'
            f'"task_run":{{"name":{name},"tags":[{",".join(tags)}],'
            f"{self._columns(report, at)}}}}}}}"
        )

    def _columns(self, report: TaskRunReport, at: str) -> str:
        """Return further columns of the task run; what is left out stays as the server has it."""
        # The run graph leaves out what has neither a start nor an expected one.
        expected_at = at if report.expected_at is None else iso_utc(report.expected_at)
        columns = (
            f'"task_key":"{_GROUP_TASK_KEY if report.is_group else _JOB_TASK_KEY}",'
            f'"dynamic_key":{quoted(report.key)},"run_count":{report.attempt},'
            f'"task_inputs":{self._inputs(report) if report.parents else "{}"},'
            f'"expected_start_time":"{expected_at}"'
        )
        if report.started_at is not None:
            columns += f',"start_time":"{iso_utc(report.started_at)}"'
        if report.ended_at is not None:
            ended_at = at if report.ended_at == report.at else iso_utc(report.ended_at)
            columns += f',"end_time":"{ended_at}"'
        if report.ran_s is not None:
            columns += f',"total_run_time":{report.ran_s}'
        if report.retries:
            columns += f',"empirical_policy":{{"retries":{report.retries}}}'
        return columns

    def _inputs(self, report: TaskRunReport) -> str:
        parents = [
            f'{{"input_type":"task_run","id":"{self._id(parent, report.is_group)}"}}'
            for parent in report.parents
        ]
        return f'{{"wait_for":[{",".join(parents)}]}}'

    def _id(self, key: str, is_group: bool) -> str:
        known = self._ids[is_group]
        found = known.get(key)
        if found is None:
            make = group_run_id if is_group else task_run_id
            found = known[key] = str(make(self._flow_run, key))
        return found


def _tag_resources(tags: list[str]) -> str:
    return "".join(
        f',{{"prefect.resource.id":"prefect.tag.{tag[1:-1]}","prefect.resource.role":"tag"}}'
        for tag in tags[:_RELATED_TAGS]
    )


def _clean(text: str) -> str:
    """Return the text as every server can store it: bounded, no NUL, no half of a character.

    A log's bytes get into messages, and one string that the server refuses would have it refuse
    the whole list of events.
    """
    return plain_text(text[:MESSAGE_CHARACTERS])
