"""Which options of a Prefect task mean something for a job, and what to do instead of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tasks.errors import InputError
from tasks.spec import JobRecord, JobSpec

_CHECKPOINT = "a job is spared by its checkpoint, when its run is resumed"
_FILES = 'a job\'s result is its record and the files it writes; name them in "outputs"'
_HOOKS = "use future.add_done_callback, or an observer: LocalTaskRunner(observers=[...])"
_TRANSACTION = "a job cannot be undone; give the undoing to a plain @task"

REFUSED: Mapping[str, str] = {
    "task_run_name": "a job's task run is called by its id; set the id, or give name=",
    "cache_policy": _CHECKPOINT,
    "cache_key_fn": _CHECKPOINT,
    "cache_expiration": _CHECKPOINT,
    "refresh_cache": _CHECKPOINT,
    "persist_result": _FILES,
    "result_storage": _FILES,
    "result_serializer": _FILES,
    "result_storage_key": _FILES,
    "cache_result_in_memory": _FILES,
    "retry_condition_fn": 'name the exit codes in "retry_exit_codes"',
    "retry_jitter_factor": "give one number of seconds as retry_delay_seconds",
    "log_prints": "everything a job prints is in its log file",
    "on_completion": _HOOKS,
    "on_failure": _HOOKS,
    "on_running": _HOOKS,
    "on_commit": _TRANSACTION,
    "on_rollback": _TRANSACTION,
    "viz_return_value": "a job returns nothing before it has run",
    "asset_deps": "assets are materialised by a plain @task that waits for the job",
    "delay": "a task worker runs no jobs; use run_job.submit(...) in a flow",
    "apply_async": "a task worker runs no jobs; use run_job.submit(...) in a flow",
    "serve": "a task worker runs no jobs; use run_job.submit(...) in a flow",
    "aserve": "a task worker runs no jobs; use run_job.submit(...) in a flow",
    "deferred": "a task worker runs no jobs; use run_job.map(...) in a flow",
}
"""Each option and method of a Prefect task that a job cannot honour, and the way out."""

_FIELD_OF = {
    "name": "id",
    "tags": "tags",
    "retries": "retries",
    "retry_delay_seconds": "retry_delay_s",
    "timeout_seconds": "timeout_s",
}
"""The job's field that each option overrides."""


def refusal(option: str) -> InputError:
    """Return the error for an option or a method that a job cannot honour."""
    return InputError([f'run_job does not support "{option}": {REFUSED[option]}'])


def overrides_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job that these options of a task override, validated.

    Raises ``InputError`` with a line for each option that has a wrong value.
    """
    chosen = {option: _plain(options[option]) for option in _FIELD_OF if option in options}
    fields = {_FIELD_OF[option]: value for option, value in chosen.items()}
    try:
        valid = JobSpec.model_validate({"id": "job", "command": "true", **fields})
    except ValidationError as error:
        option_of = {field: option for option, field in _FIELD_OF.items()}
        raise InputError(
            [
                f"with_options({option}={chosen[option]!r}): {problem['msg']}"
                for problem in error.errors()
                if (option := option_of[str(problem["loc"][0])])
            ]
        ) from None
    return {field: getattr(valid, field) for field in fields}


def _plain(value: Any) -> Any:
    """Return a set of tags, or any other collection, in an order that does not change."""
    if isinstance(value, set | frozenset):
        return tuple(sorted(value))
    return tuple(value) if isinstance(value, list) else value


def with_overrides(job: JobRecord, overrides: Mapping[str, Any]) -> JobRecord:
    """Return the job with these (valid) fields replaced."""
    if not overrides:
        return job
    spec = JobSpec.model_validate({**job.to_json(), **overrides})
    return spec.record()
