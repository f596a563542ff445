from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import graph_driver
from support.checkpoint_process import environment
from support.small_graph import SmallGraph, job

from tasks.checkpoint.record import Outcome
from tasks.checkpoint.store import CheckpointStore
from tasks.content_hashes import ContentHashes
from tasks.resume import Planner
from tasks.spec import JobSpec


@pytest.fixture
def graph(tmp_path) -> SmallGraph:
    """a.txt -> copy-a -> join -> count, b.txt -> copy-b -> join; note stands alone."""
    folder = tmp_path / "graph"
    folder.mkdir()
    made = SmallGraph(folder, tmp_path / "checkpoint")
    made.write(a__txt="a\n", b__txt="b\n", tool__sh="cat a.txt b.txt\n")
    made.jobs = [
        job("count", "wc -l < joined > counted", needs=("join",), outputs=("counted",)),
        job("copy-a", "cat a.txt > a.copy", inputs=("a.txt",), outputs=("a.copy",)),
        job("copy-b", "cat b.txt > b.copy", inputs=("b.*",), outputs=("b.copy",)),
        job("join", "cat a.copy b.copy > joined", needs=("copy-a", "copy-b"), outputs=("joined",)),
        job("note", "sh tool.sh", env={"LEVEL": "1"}),
    ]
    return made


ALL = ["copy-a", "copy-b", "join", "count", "note"]


def replaced(graph: SmallGraph, name: str, **changes: object) -> list:
    """Return the graph's jobs with one of them changed."""
    return [
        JobSpec(**{**each.to_json(), **changes}).record() if each.id == name else each
        for each in graph.jobs
    ]


def test_the_first_run_runs_everything_and_the_second_nothing(graph):
    assert sorted(graph.run()) == sorted(ALL)
    assert graph.run() == []
    assert dict(graph.plan().counts) == {"run": 0, "skip": 5}
    assert str(graph.plan().decisions["join"]) == "skip: passed in generation 1"


def test_a_touched_input_reruns_nothing(graph):
    """Sabotage: compare times instead of content."""
    graph.run()
    os.utime(graph.folder / "a.txt", (1, 1))
    (graph.folder / "b.txt").write_text("b\n")
    assert graph.run() == []


def test_one_changed_byte_reruns_exactly_its_dependents_and_names_the_file(graph):
    """Sabotage: leave the fingerprints of needs, or the rule that a need runs, out."""
    graph.run()
    graph.write(a__txt="A\n")
    plan = graph.plan()
    assert {name for name, decision in plan.decisions.items() if decision.runs} == {
        "copy-a",
        "join",
        "count",
    }
    assert plan.decisions["copy-a"].reason == 'input "a.txt" changed'
    assert plan.decisions["copy-a"].changed == "inputs"
    assert plan.decisions["join"].reason == 'needs "copy-a", which runs'
    assert graph.run() == ["copy-a", "join", "count"]
    assert (graph.folder / "joined").read_text() == "A\nb\n"
    assert graph.run() == []


def test_a_file_that_a_glob_newly_matches_is_named(graph):
    graph.run()
    graph.write(b__more="new\n")
    assert graph.plan().decisions["copy-b"].reason == 'input "b.more" is new'
    (graph.folder / "b.more").unlink()
    assert not graph.plan().decisions["copy-b"].runs
    (graph.folder / "b.txt").unlink()
    assert graph.plan().decisions["copy-b"].reason == 'input "b.txt" is gone'


@pytest.mark.parametrize(
    ("name", "changes", "reason", "reruns"),
    [
        ("note", {"command": "sh tool.sh -v"}, "command changed", ["note"]),
        ("note", {"env": {"LEVEL": "2"}}, "env changed", ["note"]),
        ("note", {"env": {}}, "env changed", ["note"]),
        ("note", {"pass_patterns": ["done"]}, "checks changed", ["note"]),
        ("copy-a", {"inputs": ["a.txt", "tool.sh"]}, 'input "tool.sh" is new', ["copy-a", "join"]),
        ("count", {"needs": ["join", "note"]}, "needs changed", ["count"]),
    ],
)
def test_what_identifies_a_job_reruns_it_when_it_changes(graph, name, changes, reason, reruns):
    graph.run()
    jobs = replaced(graph, name, **changes)
    plan = graph.plan(jobs=jobs)
    assert plan.decisions[name].reason == reason
    assert [each for each in reruns if plan.decisions[each].runs] == reruns


@pytest.mark.parametrize(
    "changes",
    [
        {"timeout_s": 5.0},
        {"retries": 3},
        {"weight": 2.0},
        {"tags": ["nightly"]},
        {"group": "other"},
        {"grace_s": 9.0},
        {"resources": {"cpu": 1}},
    ],
)
def test_how_a_job_is_run_is_no_part_of_what_it_is(graph, changes):
    graph.run()
    assert dict(graph.plan(jobs=replaced(graph, "note", **changes)).counts)["run"] == 0


def test_the_inherited_environment_is_no_part_of_a_job(graph, monkeypatch):
    graph.run()
    monkeypatch.setenv("SOMETHING", "else")
    assert dict(graph.plan().counts)["run"] == 0


def test_a_script_in_the_graphs_folder_is_part_of_the_job_that_runs_it(graph):
    """Sabotage: leave programs out."""
    graph.run()
    graph.write(tool__sh="cat b.txt\n")
    plan = graph.plan()
    assert [name for name, decision in plan.decisions.items() if decision.runs] == ["note"]
    assert plan.decisions["note"].reason == 'program "tool.sh" changed'


@pytest.mark.parametrize("damage", ["remove", "truncate", "edit", "edit and set the time back"])
def test_an_output_that_is_not_what_it_was_reruns_its_job(graph, damage):
    """Sabotage: look only whether outputs exist."""
    graph.run()
    output = graph.folder / "a.copy"
    stamp = output.stat()
    if damage == "remove":
        output.unlink()
    elif damage == "truncate":
        output.write_text("")
    else:
        output.write_text("X\n")
        if damage != "edit":
            os.utime(output, ns=(stamp.st_atime_ns, stamp.st_mtime_ns - 1))
    plan = graph.plan()
    assert plan.decisions["copy-a"].runs
    assert plan.decisions["copy-a"].changed == "outputs"
    assert 'output "a.copy"' in plan.decisions["copy-a"].reason
    assert graph.run() == ["copy-a", "join", "count"]
    assert output.read_text() == "a\n"


def test_a_touched_output_with_the_same_content_spares_its_job(graph):
    graph.run()
    os.utime(graph.folder / "a.copy", (1, 1))
    assert graph.run() == []


def test_a_second_clone_in_another_directory_is_spared_too(graph, tmp_path):
    """Sabotage: take absolute paths into the fingerprint."""
    graph.run()
    clone = tmp_path / "elsewhere" / "clone"
    shutil.copytree(graph.folder, clone)
    graph.folder = clone
    assert graph.run() == []


def test_inputs_a_then_b_killed_half_way_then_a_again_runs_again(graph):
    """Sabotage: skip ``withdraw``; generation 1 then still says that inputs A were done."""
    note = job("note", "cat a.txt > state", inputs=("a.txt",))
    assert graph.run(jobs=[note]) == ["note"]
    graph.write(a__txt="B\n")
    assert graph.run(jobs=[note], stop_after=0) == []
    (graph.folder / "state").write_text("half of B")
    graph.write(a__txt="a\n")
    assert graph.run(jobs=[note]) == ["note"]
    assert (graph.folder / "state").read_text() == "a\n"


def test_auto_resumes_an_interrupted_run_and_starts_afresh_after_one_that_ended(graph):
    first = graph.run("auto", stop_after=3)
    assert len(first) == 3
    assert sorted(first + graph.run("auto")) == sorted(ALL)
    assert sorted(graph.run("auto")) == sorted(ALL)
    reason = graph.plan("auto").decisions["note"].reason
    assert "the last run ended" in reason
    assert "--resume always" in reason


def test_auto_resumes_only_what_belongs_to_the_interrupted_attempt(graph):
    """Sabotage: let records of any generation count."""
    graph.run("auto")
    alone = [each for each in graph.jobs if each.id == "note"]
    graph.run("auto", jobs=alone, stop_after=0)
    plan = graph.plan("auto")
    assert all(decision.runs for decision in plan.decisions.values())
    assert plan.decisions["copy-a"].reason == "did not pass since the work was started afresh"
    assert plan.decisions["note"].reason == "started and did not end"
    assert dict(graph.plan("always").counts) == {"run": 1, "skip": 4}


def test_an_interrupted_run_that_was_resumed_and_interrupted_again_keeps_what_both_did(graph):
    first = graph.run("auto", stop_after=2)
    second = graph.run("auto", stop_after=1)
    third = graph.run("auto")
    assert sorted(first + second + third) == sorted(ALL)


def test_never_runs_everything(graph):
    graph.run()
    assert sorted(graph.run("never")) == sorted(ALL)


def test_a_failed_job_runs_again_with_what_needs_it(graph):
    failing = replaced(graph, "copy-a", command="echo copy-a >> ran; false")
    assert sorted(graph.run(jobs=failing)) == ["copy-a", "copy-b", "note"]
    plan = graph.plan(jobs=failing)
    assert plan.decisions["copy-a"].reason == "did not pass: exit code 1"
    assert graph.run(jobs=failing) == ["copy-a"]
    assert graph.run() == ["copy-a", "join", "count"]


def test_a_job_that_ran_after_any_of_its_needs_runs_again_when_the_failed_one_does(tmp_path):
    folder = tmp_path / "graph"
    folder.mkdir()
    graph = SmallGraph(folder, tmp_path / "checkpoint")
    merge = job("merge", "true", needs=("good", "bad"), needs_policy="any")
    graph.jobs = [job("good", "true"), job("bad", "test -e cured"), merge]
    assert graph.run() == ["good", "bad", "merge"]
    graph.write(cured="")
    assert graph.run() == ["bad", "merge"]
    assert graph.run() == []


def test_an_input_that_changes_while_its_job_runs_is_not_recorded(graph):
    """Sabotage: take the content when the job has ended, without a look before it."""

    def edit(running):
        if running.id == "copy-a":
            graph.write(a__txt="edited while it ran\n")

    graph.run(in_between=edit)
    assert graph.not_recorded["copy-a"] == 'input "a.txt" changed while it ran'
    assert graph.not_recorded["join"] == 'what its need "copy-a" made is not known'
    assert graph.run() == ["copy-a", "join", "count"]
    assert graph.run() == []


def test_what_an_earlier_attempt_left_does_not_pass_for_an_output(graph):
    """Sabotage: do not move outputs aside."""
    graph.run()
    graph.write(a__txt="A\n")
    jobs = replaced(graph, "copy-a", command="echo copy-a >> ran; true")
    graph.run(jobs=jobs)
    assert not (graph.folder / "a.copy").exists()
    moved = list((graph.store / "aside" / "copy-a").iterdir())
    assert [path.read_text() for path in moved] == ["a\n"]


def test_files_behind_a_glob_are_never_moved_aside_for_they_may_be_another_jobs(tmp_path):
    folder = tmp_path / "graph"
    folder.mkdir()
    graph = SmallGraph(folder, tmp_path / "checkpoint")
    graph.jobs = [
        job("one", "echo 1 > one.out", outputs=("*.out",), inputs=("one.in",)),
        job("two", "echo 2 > two.out", outputs=("two.*",)),
    ]
    graph.write(one__in="1", foreign__out="somebody else's")
    graph.run()
    graph.write(one__in="2")
    assert graph.run() == ["one"]
    assert (folder / "foreign.out").exists()
    assert (folder / "two.out").exists()
    with CheckpointStore(graph.store) as store:
        assert [output.path for output in store.lookup("one").outputs] == ["one.out"]
    (folder / "foreign.out").unlink()
    assert graph.run() == []


def test_an_output_that_is_an_input_too_stays_where_it_is(tmp_path):
    folder = tmp_path / "graph"
    folder.mkdir()
    graph = SmallGraph(folder, tmp_path / "checkpoint")
    graph.jobs = [job("append", "echo more >> log", inputs=("log",), outputs=("log",))]
    graph.write(log="first\n")
    assert graph.run() == ["append"]
    assert (folder / "log").read_text() == "first\nmore\n"
    assert graph.not_recorded["append"] == 'input "log" changed while it ran'


def test_a_folder_as_output_stands_for_all_files_in_it(tmp_path):
    folder = tmp_path / "graph"
    folder.mkdir()
    graph = SmallGraph(folder, tmp_path / "checkpoint")
    command = "mkdir -p out/deep && echo 1 > out/deep/file && echo 2 > out/.hidden"
    graph.jobs = [job("make", command, outputs=("out",))]
    assert graph.run() == ["make"]
    assert graph.run() == []
    (folder / "out" / "deep" / "file").write_text("3\n")
    assert graph.plan().decisions["make"].reason == 'output "out/deep/file" changed'
    assert graph.run() == ["make"]


def test_an_input_that_cannot_be_read_makes_its_job_run_and_not_be_recorded(graph):
    (graph.folder / "b.loop").symlink_to("b.loop")
    graph.run()
    assert graph.run() == []
    (graph.folder / "a.txt").unlink()
    os.mkfifo(graph.folder / "a.txt")
    assert graph.plan().decisions["copy-a"].runs


def test_a_plan_can_be_printed_and_read_by_programs(graph):
    graph.run()
    graph.write(a__txt="A\n")
    plan = graph.plan()
    assert list(plan.lines())[:2] == [
        'run  count: needs "join", which runs',
        'run  copy-a: input "a.txt" changed',
    ]
    entry = plan.to_json()["jobs"][1]
    assert entry == {
        "id": "copy-a",
        "action": "run",
        "reason": 'input "a.txt" changed',
        "changed": "inputs",
    }
    assert plan.reasons()["skip: passed in generation 1"] == 2  # copy-b and note


def test_planning_changes_nothing(graph):
    graph.run()
    graph.write(a__txt="A\n")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in graph.store.iterdir())
    graph.plan()
    assert sorted((p.name, p.stat().st_mtime_ns) for p in graph.store.iterdir()) == before


def test_jobs_that_share_their_inputs_read_them_once(tmp_path):
    folder = tmp_path / "graph"
    (folder / "rtl").mkdir(parents=True)
    for number in range(60):
        (folder / "rtl" / f"{number}.sv").write_text(str(number))
    graph = SmallGraph(folder, tmp_path / "checkpoint")
    graph.jobs = [
        JobSpec(id=f"test-{n}", command=("true", str(n)), inputs=("rtl/**/*.sv",)).record()
        for n in range(40)
    ]
    graph.run()
    with CheckpointStore(graph.store) as store:
        planner = Planner(store, "always", folder)
        assert dict(planner.plan(graph.jobs).counts) == {"run": 0, "skip": 40}
        assert planner.hashes.files_read <= 60


def test_a_record_of_a_job_names_each_of_its_few_inputs(graph):
    graph.run()
    with CheckpointStore(graph.store) as store:
        record = store.lookup("copy-a")
    assert set(record.fields["inputs"]) == {"a.txt"}
    assert [output.path for output in record.outputs] == ["a.copy"]
    assert record.outputs[0].size_bytes == 2


# -- digests of contents --------------------------------------------------------------------------


def settled(path: Path, text: str) -> Path:
    """Write a file that looks as if nobody had touched it for long; its change time is now."""
    path.write_text(text)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_a_change_that_keeps_size_and_time_is_seen_all_the_same(tmp_path, monkeypatch):
    """Sabotage: leave the time of change out of the stamp."""
    monkeypatch.setattr("tasks.content_hashes._SETTLED_AFTER_NS", -1)
    hashes = ContentHashes(tmp_path)
    path = settled(tmp_path / "file", "one")
    before = hashes.digest(path)
    assert hashes.digest(path) == before
    assert hashes.files_read == 1
    settled(path, "two")
    assert hashes.digest(path) != before


def test_digests_are_kept_for_the_next_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.content_hashes._SETTLED_AFTER_NS", -1)
    path = settled(tmp_path / "file", "one")
    first = ContentHashes(tmp_path)
    digest = first.digest(path)
    first.save()
    second = ContentHashes(tmp_path)
    assert second.digest(path) == digest
    assert second.files_read == 0


def test_a_file_that_has_just_changed_is_read_again_next_time(tmp_path):
    """Sabotage: trust a stamp that another change within the same tick would share."""
    path = tmp_path / "file"
    path.write_text("one")
    hashes = ContentHashes(tmp_path)
    hashes.digest(path)
    hashes.digest(path)
    assert hashes.files_read == 2


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"garbage\n", b'00000000 ["x"]\n'])
def test_a_damaged_line_of_the_cache_costs_one_reading(tmp_path, monkeypatch, damage):
    monkeypatch.setattr("tasks.content_hashes._SETTLED_AFTER_NS", -1)
    path = settled(tmp_path / "file", "one")
    first = ContentHashes(tmp_path)
    digest = first.digest(path)
    first.save()
    cache = tmp_path / "content.jsonl"
    content = bytearray(cache.read_bytes())
    content[30] ^= 1
    cache.write_bytes(damage + bytes(content))
    second = ContentHashes(tmp_path)
    assert second.digest(path) == digest
    assert second.files_read == 1


# -- killed again and again -----------------------------------------------------------------------


def write_inputs(folder: Path) -> None:
    folder.mkdir(parents=True)
    for leaf in range(16):
        (folder / f"{leaf}.txt").write_text(f"text of leaf {leaf}\n" * (leaf + 1))


def results(folder: Path) -> dict[str, bytes]:
    kinds = ("*.out", "*.joined", "sum")
    return {path.name: path.read_bytes() for kind in kinds for path in folder.glob(kind)}


def done_jobs(store: Path) -> set[str]:
    with CheckpointStore(store) as opened:
        return {r.source for r in opened.records() if r.outcome is Outcome.DONE}


def converge(folder: Path, store: Path, rng: random.Random, kills: int) -> None:
    """Kill the driver with all that it started at random moments, and start it again at once."""
    command = [sys.executable, graph_driver.__file__, folder, store]
    for _ in range(kills):
        with CheckpointStore(store) as opened:
            fresh = not opened.interrupted()
        before = set() if fresh else done_jobs(store)
        ran = folder / "ran"
        ran.unlink(missing_ok=True)
        driver = subprocess.Popen(command, env=environment(), start_new_session=True)
        try:
            driver.wait(timeout=rng.uniform(0.05, 1.2))  # the moment itself is what is random
        except subprocess.TimeoutExpired:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        again = before & set(ran.read_text().split() if ran.exists() else ())
        assert not again, f"{again} ran again though they were done"
    subprocess.run(command, env=environment(), check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed") / "graph"
    write_inputs(folder)
    graph_driver.graph(folder, folder.parent / "checkpoint").run("auto")
    return results(folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2))
def test_a_graph_killed_at_random_moments_converges_to_an_undisturbed_run(
    tmp_path, undisturbed, seed
):
    """Sabotage: record a job before it has ended."""
    folder = tmp_path / "graph"
    write_inputs(folder)
    converge(folder, tmp_path / "checkpoint", random.Random(seed), 10)
    assert results(folder) == undisturbed


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_convergence_of_graphs_at_full_size(tmp_path, undisturbed, seed):
    folder = tmp_path / "graph"
    write_inputs(folder)
    converge(folder, tmp_path / "checkpoint", random.Random(seed), 20)
    assert results(folder) == undisturbed
