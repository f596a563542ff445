"""Worker processes of a pipeline: what they share, how they end, and that killing them is safe."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.checkpoint_process import ROOT, environment, run
from support.waiting import wait_for

from tasks.checkpoint.errors import CheckpointFullError
from tasks.checkpoint.record import Outcome
from tasks.checkpoint.store import CheckpointStore
from tasks.errors import InputError
from tasks.pipeline_jobs import worker_jobs
from tasks.pipeline_loading import absolute_target, load_pipeline
from tasks.resume import resume_base
from tasks.shares import Share
from tasks.sinks import JsonLinesSink
from tasks.status import RunStatus
from tasks.worker_config import COUNTS_NAME, WorkerConfig, WorkerCounts

TARGET = f"{ROOT}/tests/support/kill_pipeline.py:pipeline"
FILES = 60


def make_texts(folder: Path, count: int = FILES) -> None:
    rng = random.Random(4)
    for number in range(count):
        path = folder / "texts" / f"{number % 7}" / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [rng.choice(["one;two", "three", "drop", "a;b;c"]) for _ in range(12)]
        path.write_text("\n".join(f"{number} {line}" for line in lines))


@pytest.fixture
def folder(tmp_path) -> Path:
    make_texts(tmp_path)
    return tmp_path


class Run:
    """One start of a pipeline with its worker processes, as its flow makes it."""

    def __init__(
        self, folder: Path, workers: int = 2, *, mode="always", shard: Share | None = None
    ):
        self.folder = folder
        share = shard or Share()
        self.store = CheckpointStore(folder / "checkpoint")
        base = resume_base(self.store, mode, share.label)
        self.generation = self.store.begin("run", base=base, shard=share.label)
        config = WorkerConfig(
            TARGET, share, str(self.store.directory), self.generation.number, base
        )
        self.workers = []
        for job in worker_jobs(config, workers):
            directory = folder / "jobs" / job.id
            directory.mkdir(parents=True, exist_ok=True)
            (directory / COUNTS_NAME).unlink(missing_ok=True)
            variables = {
                **environment(),
                **job.env,
                "KILL_PIPELINE_FOLDER": str(folder),
                "HOLDFAST_JOB_DIR": str(directory),
            }
            self.workers.append(
                subprocess.Popen(
                    job.command,
                    env=variables,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def wait(self) -> list[int]:
        """Wait for the workers and end the generation; return their exit codes."""
        codes = []
        self.said = ""
        for worker in self.workers:
            self.said += worker.stderr.read()
            codes.append(worker.wait())
            worker.stderr.close()
        completed = all(code == 0 for code in codes)
        if completed:
            self.generation.end(RunStatus.COMPLETED)
        self.store.close()
        return codes

    def counts(self) -> WorkerCounts:
        """Return what the workers counted."""
        total = WorkerCounts(finished=True)
        for directory in sorted((self.folder / "jobs").iterdir()):
            total.add(WorkerCounts.read(directory / COUNTS_NAME))
        return total


def started(folder: Path) -> list[str]:
    path = folder / "started"
    return path.read_text().split() if path.exists() else []


def output(folder: Path) -> dict[str, bytes]:
    out = folder / "out"
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.jsonl")}


def test_workers_share_the_sources_and_each_runs_once(folder):
    first = Run(folder, workers=3)
    assert first.wait() == [0, 0, 0]
    assert sorted(started(folder)) == sorted(set(started(folder)))
    assert len(started(folder)) == FILES
    counts = first.counts()
    assert (counts.sources["done"], counts.finished) == (FILES, True)
    second = Run(folder, workers=2)
    assert second.wait() == [0, 0]
    assert len(started(folder)) == FILES
    assert not (folder / "jobs" / "worker-3" / COUNTS_NAME).exists() or second.counts()


def test_shards_of_an_array_share_one_checkpoint_at_the_same_time(folder):
    runs = [Run(folder, workers=1, shard=Share(shard, 3)) for shard in range(3)]
    assert [each.wait() for each in runs] == [[0], [0], [0]]
    assert sorted(started(folder)) == sorted(set(started(folder)))
    with CheckpointStore(folder / "checkpoint") as store:
        assert store.missing_shards() == []
        assert dict(store.show().counts) == {"done": FILES}


def test_a_worker_that_is_asked_to_end_records_what_was_complete(folder):
    """Sabotage: let SIGTERM end the process without closing the writer."""
    running = Run(folder, workers=1)
    wait_for(lambda: len(started(folder)) >= 10, "the worker never got to its tenth source")
    running.workers[0].send_signal(signal.SIGTERM)
    assert running.wait() == [128 + signal.SIGTERM]
    began = started(folder)
    with CheckpointStore(folder / "checkpoint") as store:
        missing = list(store.missing(began))
        assert missing in ([], began[-1:])
        assert store.interrupted()
        assert list((folder / "checkpoint").glob("*.owner")) == []


def test_without_a_checkpoint_lmdb_is_not_imported(folder):
    code = f"""
os.environ["KILL_PIPELINE_FOLDER"] = sys.argv[1]
for name in [name for name in sys.modules if name.startswith("tasks.checkpoint")]:
    del sys.modules[name]
from tasks.pipeline_worker import main
from tasks.worker_config import WorkerConfig
say(main([WorkerConfig({TARGET!r}).to_text()]))
say([name for name in sys.modules if "lmdb" in name or name == "tasks.checkpoint.store"])
"""
    assert run(code, folder).splitlines()[1:] == ["0", "[]"]
    assert len(output(folder)) > 0


def test_the_checkpoint_changes_nothing_in_the_output(folder, tmp_path):
    Run(folder).wait()
    other = tmp_path / "other"
    make_texts(other)
    config = WorkerConfig(TARGET)
    (job,) = worker_jobs(config, 1)
    variables = {**environment(), **job.env, "KILL_PIPELINE_FOLDER": str(other)}
    subprocess.run(job.command, env=variables, check=True, stdout=subprocess.DEVNULL)
    assert output(folder) == output(other)


def test_a_failing_source_gives_exit_code_1_and_is_named(folder):
    (folder / "texts" / "bad.txt").write_bytes(b"\xff\xfe no UTF-8")
    running = Run(folder, workers=1)
    assert running.wait() == [1]
    assert 'source "bad.txt": reading it raised UnicodeDecodeError' in running.said
    assert running.counts().sources["failed"] == 1


def test_a_disk_that_is_full_ends_the_worker_with_exit_code_70(folder, monkeypatch):
    from tasks import pipeline_worker

    def full(self):
        raise CheckpointFullError("the disk is full")

    monkeypatch.setattr(pipeline_worker.Worker, "run", full)
    monkeypatch.setenv("KILL_PIPELINE_FOLDER", str(folder))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert pipeline_worker.main([WorkerConfig(TARGET).to_text()]) == 70
    finally:
        signal.signal(signal.SIGTERM, handlers[0])
        signal.signal(signal.SIGINT, handlers[1])


def test_a_configuration_survives_the_command_line():
    config = WorkerConfig("a.py:b", Share(1, 2, 3, 4), "/c", 7, None, "rerun", "/m", ("/x",))
    assert WorkerConfig.from_text(config.to_text()) == config
    assert WorkerConfig.from_text(WorkerConfig("m:p").to_text()) == WorkerConfig("m:p")


# -- finding the pipeline ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("pipeline", "names no pipeline"),
        ("nothing.py:pipeline", 'there is no file "nothing.py"'),
        ("no_such_module:pipeline", '"no_such_module" cannot be imported: ModuleNotFoundError'),
        ("broken.py:pipeline", '"broken.py" cannot be imported: ZeroDivisionError'),
        ("good.py:other", '"good.py" has no "other"; it has mine'),
        ("good.py:number", '"good.py:number" is a int and no Pipeline'),
    ],
)
def test_what_names_no_pipeline_is_bad_input(tmp_path, monkeypatch, target, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "good.py").write_text(
        "from tasks.pipeline import Pipeline\n"
        "from tasks.sinks import CollectingSink\n"
        "from tasks.sources import Items\n"
        "import neighbour\n"
        "mine = Pipeline(Items([], ids=str), [], CollectingSink())\n"
        "def make():\n    return mine\n"
        "number = 7\n"
    )
    (tmp_path / "neighbour.py").write_text("")
    with pytest.raises(InputError) as caught:
        load_pipeline(target)
    assert said in str(caught.value)
    assert load_pipeline("good.py:mine") is load_pipeline("good.py:make")
    assert absolute_target("good.py:mine") == f"{tmp_path}/good.py:mine"
    assert absolute_target("package.module:mine") == "package.module:mine"


# -- killing ----------------------------------------------------------------------------------


def done_sources(folder: Path) -> set[str]:
    with CheckpointStore(folder / "checkpoint") as store:
        return {r.source for r in store.records() if r.outcome is Outcome.DONE}


def converge(folder: Path, seed: int, kills: int) -> int:
    """Kill workers at random moments and start again at once; return how many starts it took."""
    rng = random.Random(seed)
    for start in range(kills):
        before = done_sources(folder)
        (folder / "started").unlink(missing_ok=True)
        running = Run(folder, workers=2)
        time.sleep(rng.uniform(0.0, 0.9))  # the moment itself is what is random here
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        for worker in running.workers if rng.random() < 0.7 else running.workers[:1]:
            worker.send_signal(number)
        if all(code == 0 for code in running.wait()):
            return start + 1
        again = before & set(started(folder))
        assert not again, f"seed {seed}, start {start}: {again} ran again though they were done"
    final = Run(folder, workers=2)
    assert final.wait() == [0, 0]
    return kills + 1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    make_texts(folder, 400)
    Run(folder).wait()
    return output(folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_the_output_converges_to_that_of_an_undisturbed_run(
    tmp_path, undisturbed, seed
):
    """Sabotage: record a source before its output is published, or withdraw nothing."""
    make_texts(tmp_path, 400)
    converge(tmp_path, seed, 10)
    assert output(tmp_path) == undisturbed
    assert [path for path in (tmp_path / "out").rglob("*.tmp") if path.is_file()] == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 120))
def test_convergence_at_full_size(tmp_path, undisturbed, seed):
    make_texts(tmp_path, 400)
    converge(tmp_path, seed, 10)
    assert output(tmp_path) == undisturbed


def test_what_a_killed_worker_left_half_written_is_no_output_and_goes(folder):
    path = JsonLinesSink(folder / "out").path_of("1/001.txt")
    half = path.with_name(f".{path.name}.tmp")
    half.parent.mkdir(parents=True)
    half.write_text('{"text": "half')
    Run(folder).wait()
    for content in output(folder).values():
        for line in content.splitlines():
            json.loads(line)
    assert not half.exists()
