"""What a task runner is told, and what becomes of it: settings, retries, limits, observers."""

from __future__ import annotations

import inspect
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.futures import PrefectFuture
from prefect.states import State
from support.flow_runs import FlowBench, bench

from backends.fake_outcome import fails, passes
from backends.fake_policy import DeclaredPolicy
from flows import FakeTaskRunner, JobSpec, LocalTaskRunner, run_job
from flows.run_names import checked_run_name, run_name_of
from flows.task_runners import JobTaskRunner
from flows.unseen_failures import UnseenFailureError
from observers.base import Observer
from tasks.errors import InputError
from tasks.events import JobChanged, RunStarted
from tasks.job_result import JobFailedError, JobResult
from tasks.run_job import NO_RUNNER, NoJobRunnerError

__all__ = ["bench"]


def job(name: str, command: str = "true", **fields: object) -> JobSpec:
    return JobSpec.model_validate({"id": name, "command": command, **fields})


class Listener(Observer):
    """Collects what it is told."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory
        self.runs: list[str] = []
        self.ends: list[str] = []

    def run_started(self, event: RunStarted) -> None:
        self.runs.append(str(event.contents["run"]))

    def jobs_changed(self, events: Sequence[JobChanged]) -> None:
        self.ends += [event.job.id for event in events if event.after.is_end]


OBSERVER = Listener()
POLICY = DeclaredPolicy({})

SETTINGS: dict[str, Any] = {
    "max_parallel": 3,
    "resources": {"licence": 2, "gpu": [0, 1]},
    "runs": "somewhere",
    "run_name": "nightly",
    "cwd": "elsewhere",
    "observers": [OBSERVER],
    "replace_observers": True,
    "fail_fast": True,
    "grace_s": 0.0,
    "on_crash": "keep",
    "adopt_within_s": 60.0,
    "wait": True,
    "report_wait_s": 0.0,
    "report_limit": 5,
    "max_threads": 2,
}
"""Another value than the default for every setting."""


# -- duplicates and equality -----------------------------------------------------------------


def test_every_setting_is_tested() -> None:
    parameters = set(inspect.signature(JobTaskRunner.__init__).parameters) - {"self"}
    assert parameters == SETTINGS.keys()


@pytest.mark.parametrize("kind", [LocalTaskRunner, FakeTaskRunner])
@pytest.mark.parametrize("setting", SETTINGS)
def test_duplicate_and_equality_keep_each_setting(kind: type[JobTaskRunner], setting: str) -> None:
    runner = kind(**{setting: SETTINGS[setting]})

    assert runner.settings[setting] != kind().settings[setting], "no default, or this shows nothing"
    assert runner.duplicate().settings == runner.settings
    assert runner.duplicate() == runner
    assert runner != kind()
    assert runner.duplicate() is not runner


def test_a_runner_of_another_kind_is_another_one() -> None:
    assert LocalTaskRunner() != FakeTaskRunner()
    assert LocalTaskRunner() == LocalTaskRunner()


def test_a_fake_runners_policy_is_a_setting() -> None:
    assert FakeTaskRunner(policy=POLICY).duplicate() == FakeTaskRunner(policy=POLICY)
    assert FakeTaskRunner(policy=POLICY) != FakeTaskRunner()


def test_a_runner_goes_to_another_process_with_its_settings() -> None:
    runner = LocalTaskRunner(max_parallel=3, resources={"gpu": [0, 1]}, runs="somewhere")
    assert pickle.loads(pickle.dumps(runner)) == runner


def test_a_class_serves_as_a_runner_with_its_defaults() -> None:
    @flow(task_runner=LocalTaskRunner)
    def defaults() -> None:
        """Never called."""

    assert defaults.task_runner == LocalTaskRunner()


def test_a_run_name_that_is_not_allowed_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r'run_name "\.\./x"'):
        LocalTaskRunner(run_name="../x")


@pytest.mark.parametrize(
    ("flow_name", "name"),
    [
        ("nightly", "nightly"),
        ("My Flow (v2)", "my-flow-v2"),
        ("../../etc", "etc"),
        ("Ünïcode", "n-code"),
        ("!!!", "flow"),
        ("x" * 300, "x" * 90),
    ],
)
def test_the_run_is_called_as_the_flow_in_allowed_characters(flow_name: str, name: str) -> None:
    assert run_name_of(flow_name) == name
    assert checked_run_name(name) == name


def test_importing_flows_costs_nothing() -> None:
    import subprocess
    import sys

    code = (
        "import sys, flows; assert not any(m.startswith('prefect') for m in sys.modules);"
        "from flows import LocalTaskRunner, FakeTaskRunner, run_job, JobSpec;"
        "assert 'prefect' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import flows

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        flows.Nothing  # noqa: B018


# -- what the settings do --------------------------------------------------------------------


@pytest.mark.prefect
def test_runs_run_name_and_cwd_say_where_a_run_is(bench: FlowBench, tmp_path: Path) -> None:
    place = tmp_path / "work"
    place.mkdir()

    @flow(task_runner=LocalTaskRunner(runs=tmp_path / "other", run_name="chosen", cwd=place))
    def placed() -> str:
        return run_job(job("where", "pwd")).log.read_text().strip()

    assert placed() == str(place)
    (run,) = (tmp_path / "other").iterdir()
    assert run.name.endswith("_chosen")
    assert bench.run_directories() == []


@pytest.mark.prefect
def test_max_parallel_holds(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(max_parallel=1))
    def serial() -> None:
        command = "mkdir only && sleep 0.1 && rmdir only"
        run_job.map([job(f"j{n}", command) for n in range(4)]).result()

    serial()
    assert set(bench.statuses().values()) == {"passed"}


@pytest.mark.prefect
def test_resources_are_handed_out_by_id(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(max_parallel=4, resources={"gpu": [0, "b"]}))
    def with_gpus() -> set[str]:
        command = "gpu=$HOLDFAST_RESOURCE_GPU; echo $gpu; mkdir $gpu && sleep 0.1 && rmdir $gpu"
        jobs = [job(f"j{n}", command, resources={"gpu": 1}) for n in range(4)]
        return {result.log.read_text().strip() for result in run_job.map(jobs).result()}

    assert with_gpus() == {"0", "b"}


@pytest.mark.prefect
def test_a_job_that_asks_for_more_than_there_is_is_refused_before_it_starts(
    bench: FlowBench,
) -> None:
    @flow(task_runner=LocalTaskRunner(resources={"gpu": 1}))
    def greedy() -> None:
        with pytest.raises(InputError, match="gpu"):
            run_job.submit(job("greedy", resources={"gpu": 2}))
        with pytest.raises(InputError, match="nowhere"):
            run_job.submit(job("lost", backend="nowhere"))

    greedy()


@pytest.mark.prefect
def test_observers_are_added_and_makers_make_one_for_each_run(bench: FlowBench) -> None:
    made: list[Listener] = []
    given = Listener()

    def maker(directory: Path) -> Listener:
        made.append(Listener(directory))
        return made[-1]

    @flow(task_runner=LocalTaskRunner(observers=[given, maker]))
    def watched(name: str) -> None:
        run_job(job(name))

    watched("a")
    watched("b")

    assert given.ends == ["a", "b"]
    assert [(listener.directory, listener.ends) for listener in made] == [
        (run, [name]) for run, name in zip(bench.run_directories(), "ab", strict=True)
    ]
    assert (bench.run_directories()[0] / "passing" / "a").is_symlink()


@pytest.mark.prefect
def test_observers_can_replace_the_built_in_ones(bench: FlowBench) -> None:
    given = Listener()

    @flow(task_runner=LocalTaskRunner(observers=[given], replace_observers=True))
    def watched() -> None:
        run_job(job("a"))

    watched()
    assert given.ends == ["a"]
    assert not (bench.only_run() / "passing").exists()
    assert (bench.only_run() / "events.jsonl").exists(), "what the run is told from stays"
    assert bench.server.count(bench.flow_run_id()) == 0


@pytest.mark.prefect
def test_an_observer_that_raises_does_not_harm_the_flow(bench: FlowBench) -> None:
    class Broken(Observer):
        def jobs_changed(self, events: Sequence[JobChanged]) -> None:
            raise RuntimeError("observer broke down")

    @flow(task_runner=LocalTaskRunner(observers=[Broken()]))
    def watched() -> bool:
        return run_job(job("a")).passed

    assert watched()
    assert "observer_failed" in (bench.only_run() / "events.jsonl").read_text()


@pytest.mark.prefect
def test_fail_fast_kills_what_runs_and_the_flow_reads_failed(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(max_parallel=4, fail_fast=True))
    def impatient() -> list[PrefectFuture[JobResult]]:
        bad = run_job.submit(job("bad", "exit 1"))
        return [bad, *run_job.map([job("slow", "sleep 60"), job("never", "sleep 60")])]

    state = impatient(return_state=True)
    assert not state.is_completed()
    assert bench.statuses() == {"bad": "failed", "slow": "killed", "never": "killed"}


@pytest.mark.prefect
def test_the_fake_runner_takes_its_outcomes_from_a_policy(bench: FlowBench) -> None:
    policy = DeclaredPolicy({"bad": fails(3), "flaky": [fails(1), passes()]})

    @flow(task_runner=FakeTaskRunner(policy=policy))
    def pretended() -> tuple[int | None, int, str | None]:
        bad = run_job.submit(job("bad", "rm -rf /nowhere"))
        flaky = run_job.with_options(retries=1).submit(job("flaky"))
        failed = bad.result(raise_on_failure=False)
        assert isinstance(failed, JobFailedError)
        return failed.result.exit_code, flaky.result().attempts, bad.state.name

    assert pretended() == (3, 2, "Failed")
    assert bench.task_runs("bad", "flaky")["bad"]["state_name"] == "Failed"


@pytest.mark.prefect
def test_a_thousand_mapped_jobs_need_no_thread_and_no_call_to_prefect_each(
    bench: FlowBench,
) -> None:
    import threading

    threads: list[int] = []

    @flow(task_runner=FakeTaskRunner(max_parallel=100, report_wait_s=0))
    def wide() -> int:
        futures = run_job.map([job(f"w{n}") for n in range(1000)])
        threads.append(threading.active_count())
        return len(futures.result())

    before = threading.active_count()
    started = time.monotonic()
    assert wide() == 1000
    assert threads[0] - before < 15
    assert time.monotonic() - started < 30


def test_a_runner_outside_a_flow_runs_plain_tasks_and_says_what_jobs_need() -> None:
    @task(persist_result=False)
    def plain() -> int:
        return 1

    runner = LocalTaskRunner()
    with pytest.raises(RuntimeError, match="must be started"):
        runner.submit(plain, {})
    with runner, pytest.raises(NoJobRunnerError) as caught:
        runner.submit(run_job, {"spec": job("a")})
    assert str(caught.value) == NO_RUNNER


@pytest.mark.prefect
def test_no_thread_and_no_descriptor_is_left_after_flows(bench: FlowBench) -> None:
    import threading

    @flow(task_runner=LocalTaskRunner())
    def small(name: str) -> JobResult:
        future = run_job.submit(job(name))
        future.add_done_callback(lambda _: None)
        return future.result()

    def left() -> tuple[int, int]:
        threads = [t for t in threading.enumerate() if t.name.startswith("holdfast")]
        return len(threads), len(list(Path("/proc/self/fd").iterdir()))

    small("first")
    wait_until(lambda: left()[0] == 0)
    before = left()
    for number in range(5):
        small(f"j{number}")
    wait_until(lambda: left()[0] == 0)
    assert left()[1] <= before[1] + 1


# Prefect's own pause gave up now and then on a busy machine before it saw the resume.
@pytest.mark.soak
@pytest.mark.prefect
def test_jobs_of_a_paused_flow_run_on(bench: FlowBench, tmp_path: Path) -> None:
    import threading

    from prefect.flow_runs import pause_flow_run

    @flow(task_runner=LocalTaskRunner())
    def paused() -> bool:
        future = run_job.submit(job("on", "until test -e paused; do sleep 0.02; done"))
        future.add_done_callback(lambda _: resume())
        threading.Thread(target=touch_when_paused).start()
        pause_flow_run(timeout=60, poll_interval=0.2)
        return future.result().passed

    def touch_when_paused() -> None:
        wait_until(lambda: bench.state()[0] == "PAUSED")
        (tmp_path / "paused").touch()

    def resume() -> None:
        path = f"/flow_runs/{bench.flow_run_id()}/resume"
        wait_until(lambda: bench.server.client.post(path).json()["status"] == "ACCEPT")

    assert paused()
    assert bench.state() == ("COMPLETED", "Completed")


@pytest.mark.prefect
def test_a_deployed_flow_in_a_folder_that_will_be_deleted_ends_with_a_message(
    bench: FlowBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    from prefect.client.schemas.objects import FlowRun

    from flows.flow_run_session import runs_folder

    deployed = FlowRun(flow_id=uuid4(), deployment_id=uuid4())
    monkeypatch.delenv("HOLDFAST_RUNS")
    with tempfile.TemporaryDirectory(suffix="prefect") as workers:
        monkeypatch.chdir(workers)
        with pytest.raises(InputError, match="a deployed run needs an absolute folder"):
            runs_folder(None, deployed)
        assert runs_folder(Path("/somewhere"), deployed) == Path("/somewhere")
        assert runs_folder(None, FlowRun(flow_id=uuid4())) == Path(workers) / "runs"
        monkeypatch.setenv("HOLDFAST_RUNS", "/elsewhere")
        assert runs_folder(None, deployed) == Path("/elsewhere")
        monkeypatch.chdir("/")


# -- retries of the flow ---------------------------------------------------------------------


@pytest.mark.prefect
def test_a_retry_of_the_flow_skips_jobs_that_passed_in_it(bench: FlowBench, tmp_path: Path) -> None:
    """Sabotage: flows/flow_jobs.py: spared.add(node.id) -> pass"""
    command = "echo ran >> {0}; test -e ok || test {0} != flaky"
    attempts: list[int] = []

    @flow(task_runner=LocalTaskRunner(), retries=1)
    def retried() -> list[bool]:
        attempts.append(1)
        before = [
            run_job.submit(job("stable", command.format("stable"))),
            run_job.submit(job("changes", command.format(f"changes-{len(attempts)}"))),
        ]
        flaky = run_job.submit(job("flaky", command.format("flaky")), wait_for=before)
        after = run_job.submit(job("after", command.format("after")), wait_for=[flaky])
        if len(attempts) == 2:
            (tmp_path / "ok").touch()
        return [future.result().skipped for future in (*before, flaky, after)]

    assert retried() == [True, False, False, False]
    assert len(attempts) == 2
    assert (tmp_path / "stable").read_text() == "ran\n"
    assert (tmp_path / "flaky").read_text() == "ran\nran\n"
    first, second = bench.run_directories()
    assert bench.flow_run_id(first) == bench.flow_run_id(second)
    assert bench.run_file(first)["status"] == "failed"
    assert bench.run_file(second)["status"] == "completed"
    assert bench.run_file(second)["counts"]["skipped"] == 1


@pytest.mark.prefect
def test_a_flow_run_of_its_own_does_not_skip_what_passed_in_another(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(), retries=1)
    def repeated() -> bool:
        return run_job(job("a")).skipped

    assert [repeated(), repeated()] == [False, False]


@pytest.mark.prefect
def test_a_retry_follows_an_unseen_failure_too(bench: FlowBench, tmp_path: Path) -> None:
    @flow(task_runner=LocalTaskRunner(), retries=1)
    def careless() -> None:
        run_job.submit(job("flaky", "test -e ok || { touch ok; exit 1; }"))

    careless()
    assert len(bench.run_directories()) == 2
    assert bench.state(bench.run_directories()[1]) == ("COMPLETED", "Completed")


# -- flows that end before their jobs --------------------------------------------------------

SECONDS = f"71.{uuid4().int % 10**12:012d}"
"""How long they sleep, which tells them from the sleepers of anybody else."""

TREE = f"(setsid sleep {SECONDS} & ); sleep {SECONDS}"
"""A job with a descendant in a session of its own."""


def alive() -> list[str]:
    """Return the processes that a job of these tests has left alive."""
    left = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", SECONDS.encode()]:
            left.append(path.parent.name)
    return left


@pytest.mark.prefect
def test_jobs_are_killed_when_the_flow_raises_before_it_reads_failed(bench: FlowBench) -> None:
    """Sabotage: flows/stops.py: if error is not None: -> if False:"""

    @flow(task_runner=LocalTaskRunner())
    def raises() -> None:
        future = run_job.submit(job("tree", TREE))
        wait_until_running(future)
        raise ValueError("enough")

    started = time.monotonic()
    with pytest.raises(ValueError, match="enough"):
        raises()
    assert time.monotonic() - started < 30
    assert alive() == []
    assert bench.statuses() == {"tree": "killed"}
    assert bench.jobs()["tree"]["cause"]["kind"] == "cancelled"
    assert bench.jobs()["tree"]["cause"]["message"] == "the flow raised ValueError"
    assert bench.state() == ("FAILED", "Failed")
    assert bench.run_file()["status"] == "failed"


@pytest.mark.prefect
def test_jobs_are_killed_when_the_flows_time_is_over(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(), timeout_seconds=1.5)
    def slow() -> JobResult:
        return run_job(job("tree", TREE))

    state = slow(return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "TimedOut")
    assert alive() == []
    assert bench.jobs()["tree"]["cause"]["message"].startswith("Flow run exceeded timeout of 1.5")
    assert bench.state() == ("FAILED", "TimedOut")
    assert bench.run_file()["status"] == "failed"


@pytest.mark.prefect
def test_the_flows_time_counts_while_it_waits_for_jobs_that_nobody_awaited(
    bench: FlowBench,
) -> None:
    @flow(task_runner=LocalTaskRunner(), timeout_seconds=1.5)
    def slow() -> None:
        run_job.submit(job("tree", TREE))

    assert slow(return_state=True).name == "TimedOut"
    assert alive() == []


@pytest.mark.prefect
def test_a_subflow_is_timed_out_while_its_callers_time_still_runs(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner(), timeout_seconds=1.5)
    def inner() -> JobResult:
        return run_job(job("tree", TREE))

    @flow(timeout_seconds=60)
    def outer() -> str | None:
        return inner(return_state=True).name

    assert outer() == "TimedOut"
    assert alive() == []
    assert bench.run_file()["status"] == "failed"


@pytest.mark.prefect
def test_a_flow_in_another_thread_is_timed_out_too(bench: FlowBench) -> None:
    from concurrent.futures import ThreadPoolExecutor

    @flow(task_runner=LocalTaskRunner(), timeout_seconds=1.5)
    def slow() -> JobResult:
        return run_job(job("tree", TREE))

    import contextvars

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        state: State[Any] = pool.submit(context.run, slow, return_state=True).result()
    assert state.name == "TimedOut"
    assert alive() == []


@pytest.mark.prefect
def test_leaving_by_system_exit_kills_the_jobs_and_reads_crashed(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def leaves() -> None:
        wait_until_running(run_job.submit(job("tree", TREE)))
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        leaves()
    assert alive() == []
    assert bench.state() == ("CRASHED", "Crashed")
    assert bench.run_file()["status"] == "crashed"


@pytest.mark.prefect
def test_a_retry_of_a_flow_that_raised_starts_when_the_first_attempts_jobs_are_gone(
    bench: FlowBench,
) -> None:
    left: list[list[str]] = []

    @flow(task_runner=LocalTaskRunner(), retries=1)
    def retried() -> None:
        left.append(alive())
        future = run_job.submit(job("tree", TREE if len(left) == 1 else "true"))
        if len(left) == 1:
            wait_until_running(future)
            raise ValueError("once")
        future.result()

    retried()
    assert left == [[], []]
    assert alive() == []


@pytest.mark.prefect
def test_a_job_submitted_after_the_flow_has_returned_is_refused(bench: FlowBench) -> None:
    caught: list[Exception] = []
    runners: list[JobTaskRunner] = []

    @flow(task_runner=LocalTaskRunner())
    def finished() -> None:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        assert context is not None
        assert isinstance(context.task_runner, JobTaskRunner)
        runners.append(context.task_runner)
        run_job(job("a"))

    finished()
    try:
        runners[0].submit_job(job("late"))
    except Exception as error:
        caught.append(error)
    assert "left its task runner" in str(caught)


@pytest.mark.prefect
def test_a_signal_after_the_end_leaves_the_flow_run_as_it_is(bench: FlowBench) -> None:
    runners: list[JobTaskRunner] = []

    @flow(task_runner=LocalTaskRunner())
    def finished() -> None:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        assert context is not None
        assert isinstance(context.task_runner, JobTaskRunner)
        runners.append(context.task_runner)
        run_job(job("a"))

    finished()
    jobs = runners[0]._jobs
    assert jobs is not None
    jobs.leave(KeyboardInterrupt())
    assert bench.state() == ("COMPLETED", "Completed")
    assert bench.run_file()["status"] == "completed"


@pytest.mark.prefect
def test_a_flow_that_fails_when_its_jobs_have_ended_asks_for_no_kill(bench: FlowBench) -> None:
    @flow(task_runner=LocalTaskRunner())
    def careless() -> None:
        run_job.submit(job("bad", "exit 1"))

    assert careless(return_state=True).is_failed()
    assert "kill_requested" not in (bench.only_run() / "events.jsonl").read_text()
    assert bench.run_file()["status"] == "failed"


@pytest.mark.prefect
def test_unseen_failures_are_named_ten_at_most(bench: FlowBench) -> None:
    policy = DeclaredPolicy({}, default=fails(1))

    @flow(task_runner=FakeTaskRunner(policy=policy))
    def careless() -> None:
        run_job.map([job(f"j{n}") for n in range(12)])

    with pytest.raises(UnseenFailureError, match=r"12 jobs or tasks .* and 2 more$") as caught:
        careless()
    assert len(caught.value.failures) == 12


def wait_until(condition: Callable[[], object]) -> None:
    from support.waiting import wait_for

    wait_for(condition, "a state that comes")


def wait_until_running(future: PrefectFuture[JobResult]) -> None:
    from support.waiting import wait_for

    wait_for(lambda: future.state.name == "Running" and alive(), "the job to run")
