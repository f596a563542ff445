"""Jobs on this host: what they find, what they leave, and what is said of their end."""

from __future__ import annotations

import itertools
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hard_programs import Marked, marked_program
from support.local_run import LocalRun
from support.small_disk import fill, mounted_disk
from support.waiting import wait_for

from backends.base import Launch
from backends.local import LocalBackend
from tasks.environment_file import MASK
from tasks.run_context import RunContext, inherited_environment
from tasks.spec import JobRecord
from tasks.status import CauseKind, JobStatus


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LocalRun]:
    with LocalRun(tmp_path) as made:
        yield made


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[Marked]:
    with marked_program(tmp_path) as marked:
        yield marked


def environment_of(run: LocalRun, number: int) -> dict[str, str]:
    lines = run.log(number).decode().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


# -- what a job finds ------------------------------------------------------------------------


def test_a_list_is_executed_as_it_is_and_a_string_by_the_shell(run: LocalRun) -> None:
    run.run(("/bin/echo", "$HOME", "a  b", "*"))
    assert run.log(1) == b"$HOME a  b *\n"
    run.run("echo $HOLDFAST_JOB | tr a-z A-Z")
    assert run.log(2) == b"JOB-2\n"


def test_a_job_finds_its_run_its_directory_and_the_inherited_environment(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "INHERITED": "yes", "OWN": "outer"}
    with LocalRun(tmp_path, environment=environment) as run:
        done = run.run(("/usr/bin/env",), env={"OWN": "inner", "HOLDFAST_JOB": "forged"})
        found = environment_of(run, 1)
    assert done.status is JobStatus.PASSED
    assert {name: text for name, text in found.items() if name not in ("PATH", "_")} == {
        "INHERITED": "yes",
        "OWN": "inner",
        "HOLDFAST_RUN": "run",
        "HOLDFAST_JOB": "job-1",
        "HOLDFAST_JOB_DIR": str(run.job_directory(1)),
        "HOLDFAST_ATTEMPT": "1",
    }


def test_a_job_finds_the_ids_of_the_resources_it_was_given(run: LocalRun) -> None:
    run.launch(("/usr/bin/env",))
    run.completions.of(1)
    run.again(1, 2, {"gpu": ("0", "3"), "licence-x": ("b",)})
    run.completions.of(1, attempt=2)
    found = environment_of(run, 1)
    assert found["HOLDFAST_RESOURCE_GPU"] == found["CUDA_VISIBLE_DEVICES"] == "0,3"
    assert found["HOLDFAST_RESOURCE_LICENCE_X"] == "b"
    assert found["HOLDFAST_ATTEMPT"] == "2"


def test_secrets_and_prefects_own_variables_are_not_handed_on() -> None:
    outer = {"PREFECT__X": "1", "PREFECT_API_KEY": "k", "HOLDFAST_JOB": "outer", "PATH": "/bin"}
    assert inherited_environment(outer) == {"PATH": "/bin"}


def test_a_job_starts_with_default_signals_an_empty_mask_and_no_open_files(run: LocalRun) -> None:
    code = (
        "import os, signal; print(signal.pthread_sigmask(0, []), "
        "sorted(os.listdir('/proc/self/fd')), os.getsid(0) == os.getpid() == os.getpgid(0))"
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        run.run((sys.executable, "-S", "-c", code))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert run.log(1).decode() == "set() ['0', '1', '2', '3'] True\n"  # 3 is the listing


def test_a_job_ignores_no_signal_that_keeper_or_python_ignore(run: LocalRun) -> None:
    """Sabotage: backends/keeper/spawn.py: setsigdef=DEFAULT_SIGNALS -> setsigdef=()"""
    run.run("grep SigIgn /proc/self/status")
    # The C library keeps 32 and 33 for itself.
    assert int(run.log(1).split()[1], 16) & ~(3 << 31) == 0


def test_cwd_is_relative_to_the_runs_and_need_not_be_the_last_jobs(
    run: LocalRun, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    for fields in ({"cwd": "sub"}, {}, {"cwd": "/"}):
        run.run(("/bin/pwd",), **fields)
    logs = [run.log(number).decode().strip() for number in (1, 2, 3)]
    assert logs == [str(tmp_path / "sub"), str(tmp_path), "/"]


def test_a_folder_that_was_made_anew_is_entered_anew(run: LocalRun, tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    assert run.run("touch made", cwd="sub").status is JobStatus.PASSED
    subprocess.run(["rm", "-r", folder], check=True)
    folder.mkdir()
    assert run.run("touch made", cwd="sub").status is JobStatus.PASSED
    assert (folder / "made").exists()


def test_text_that_is_no_utf8_reaches_the_job_unchanged(run: LocalRun, tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    job = JobRecord(
        "a",
        ("/bin/sh", "-c", 'printf "%s %s %s" "$1" "$V" "$(basename "$PWD")"', "-", "\udcfe"),
        (),
        {"env": {"V": "\udcff"}, "cwd": str(folder)},
    )
    run.jobs[1] = job
    run.backend.launch([Launch(1, job, 1)])
    assert run.completions.of(1).status is JobStatus.PASSED
    assert run.log(1) == b"\xfe \xff caf\xe9"


def test_the_interpreter_of_a_job_is_found_in_the_jobs_own_path(
    run: LocalRun, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mytool").write_text("#!/bin/sh\necho mine\n")
    (tools / "mytool").chmod(0o755)
    done = run.run(("mytool",), env={"PATH": f"/nowhere:{tools}"})
    assert (done.status, run.log(1)) == (JobStatus.PASSED, b"mine\n")


# -- env.txt ---------------------------------------------------------------------------------


def test_only_a_job_with_variables_of_its_own_has_an_environment_file(run: LocalRun) -> None:
    run.run("true")
    run.run("true", env={"MODE": "fast", "API_TOKEN": "hunter2"})
    assert not (run.job_directory(1) / "env.txt").exists()
    path = run.job_directory(2) / "env.txt"
    text = path.read_text()
    assert "MODE=fast\n" in text
    assert f"API_TOKEN={MASK}\n" in text
    assert "hunter2" not in text
    assert "PATH" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# -- ends ------------------------------------------------------------------------------------


def test_runtime_processor_time_and_memory_are_the_jobs_own(run: LocalRun) -> None:
    code = "import time; x = bytearray(80 << 20); t = time.process_time()\n"
    code += "while time.process_time() - t < 0.3: pass\ntime.sleep(0.2)"
    end = run.run((sys.executable, "-S", "-c", code)).end
    assert end.runtime_s is not None
    assert end.cpu_s is not None
    assert end.max_rss_bytes is not None
    assert end.runtime_s >= 0.5
    assert 0.3 <= end.cpu_s <= end.runtime_s
    assert 80 << 20 <= end.max_rss_bytes < 200 << 20


def test_a_small_programs_memory_is_not_the_drivers(run: LocalRun) -> None:
    ballast = b"x" * (100 << 20)
    end = run.run(("/bin/true",)).end
    assert end.max_rss_bytes is not None
    assert end.max_rss_bytes < 40 << 20 < len(ballast)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_from_elsewhere_fails_the_job(run: LocalRun, number: signal.Signals) -> None:
    done = run.run(f"kill -{number.value} $$")
    assert (done.status, done.end.signal, done.end.exit_code) == (JobStatus.FAILED, number, None)
    assert done.cause is not None
    assert done.cause.kind is CauseKind.SIGNAL
    assert number.name in done.cause.message
    assert done.cause.context["log"] == "jobs/job-1/log.txt"


def test_a_job_that_ends_by_itself_before_it_is_killed_keeps_its_end(run: LocalRun) -> None:
    number = run.launch("exit 4")
    wait_for(lambda: number in run.completions or not run.backend._running, "the job has ended")
    run.backend.kill([number])
    assert run.completions.of(number).end.exit_code == 4


def test_checks_decide_after_exit_code_0(run: LocalRun, tmp_path: Path) -> None:
    passed = run.run(
        "echo TEST PASSED; touch out.txt",
        outputs=["out.*"],
        pass_patterns=["TEST (PASSED|OK)"],
        fail_patterns=["UVM_ERROR"],
    )
    failed = run.run("echo TEST PASSED; echo UVM_ERROR here", fail_patterns=["UVM_ERROR"])
    missing = run.run("true", outputs=["never.txt"])
    other = run.run("echo nothing; exit 3", pass_patterns=["TEST PASSED"])
    kinds = [done.cause.kind if done.cause else None for done in (passed, failed, missing, other)]
    assert kinds == [None, CauseKind.FAIL_PATTERN, CauseKind.MISSING_OUTPUT, CauseKind.EXIT_CODE]
    assert failed.status is missing.status is other.status is JobStatus.FAILED
    assert failed.end.exit_code == 0


def test_many_jobs_with_checks_are_each_judged_once(run: LocalRun) -> None:
    launches = [run.job("echo TEST PASSED", pass_patterns=["PASSED"]) for _ in range(60)]
    run.backend.launch(launches)
    assert {done.status for done in run.completions.count(60)} == {JobStatus.PASSED}


# -- launch errors ---------------------------------------------------------------------------


def launch_error(run: LocalRun, command: object, **fields: object) -> str:
    done = run.run(command, **fields)  # type: ignore[arg-type]
    assert done.status is JobStatus.FAILED
    assert done.cause is not None
    assert done.cause.kind is CauseKind.LAUNCH_ERROR
    assert run.run("true").status is JobStatus.PASSED, "the run goes on"
    return done.cause.message


def program(folder: Path, text: str, mode: int = 0o755) -> str:
    path = folder / "program"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_missing_program_is_named(run: LocalRun, tmp_path: Path) -> None:
    assert f'"{tmp_path}/none"' in launch_error(run, [f"{tmp_path}/none"])
    assert '"no-such-program" in PATH' in launch_error(run, ["no-such-program"])


def test_a_program_that_cannot_be_executed_says_why(run: LocalRun, tmp_path: Path) -> None:
    assert "chmod +x" in launch_error(run, [program(tmp_path, "#!/bin/sh\n", 0o644)])
    assert "it is a directory" in launch_error(run, [str(tmp_path)])
    assert 'begins with "#!"' in launch_error(run, [program(tmp_path, "echo hi\n")])
    assert "interpreter" in launch_error(run, [program(tmp_path, "#!/no/such/interpreter\n")])


def test_a_missing_working_directory_is_named(run: LocalRun, tmp_path: Path) -> None:
    message = launch_error(run, ["/bin/true"], cwd="not-there")
    assert f'cannot work in "{tmp_path}/not-there"' in message


def test_a_command_that_is_too_long_for_the_kernel_says_so(run: LocalRun) -> None:
    message = launch_error(run, ["/bin/true", *["x" * 100_000] * 40])
    assert "too long for the kernel" in message


def test_a_command_that_is_too_long_for_the_keeper_says_so(run: LocalRun) -> None:
    ready = run.job("true")
    run.backend.launch([run.job(["/bin/true", *["x" * 1_000_000] * 17]), ready])
    cause = run.completions.of(2).cause
    assert cause is not None
    assert "too long" in cause.message
    assert run.completions.of(ready.number).status is JobStatus.PASSED


def test_text_that_no_kernel_takes_is_its_jobs_own_error(run: LocalRun) -> None:
    job = JobRecord("odd", ("/bin/echo", "\ud800"))
    run.backend.launch([Launch(1, job, 1)])
    cause = run.completions.of(1).cause
    assert cause is not None
    assert "malformed" in cause.message


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_job_directory_that_cannot_be_made_is_named(run: LocalRun) -> None:
    (run.directory / "jobs").chmod(0o500)
    try:
        done = run.run("true")
    finally:
        (run.directory / "jobs").chmod(0o700)
    assert done.cause is not None
    assert "Permission denied" in done.cause.message


def test_a_job_id_that_leads_out_of_the_run_is_refused(run: LocalRun, tmp_path: Path) -> None:
    job = JobRecord("../../x", "true")
    run.backend.launch([Launch(1, job, 1)])
    cause = run.completions.of(1).cause
    assert cause is not None
    assert cause.kind is CauseKind.LAUNCH_ERROR
    assert not (tmp_path / "x").exists()


def test_a_link_in_the_place_of_a_job_directory_is_not_followed(
    run: LocalRun, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (run.directory / "jobs" / "job-1").symlink_to(outside)
    cause = run.run("true").cause
    assert cause is not None
    assert "is not a directory" in cause.message
    assert list(outside.iterdir()) == []


@pytest.fixture
def busy_program(tmp_path: Path) -> str:
    """A program that cannot be started while it is open for writing."""
    path = tmp_path / "busy"
    shutil.copy2("/bin/true", path)
    return str(path)


def test_what_may_pass_is_waited_for(run: LocalRun, busy_program: str) -> None:
    """Sabotage: backends/keeper/spawn.py: if error.errno in _TEMPORARY: -> if False:"""
    with open(busy_program, "ab"):
        number = run.launch([busy_program])
        wait_for((run.job_directory(number)).exists, "the keeper has tried")
        assert run.run("true").status is JobStatus.PASSED, "others are not held up"
        assert number not in run.completions
    assert run.completions.of(number).status is JobStatus.PASSED


@pytest.mark.slow
def test_what_does_not_pass_in_time_is_a_launch_error(run: LocalRun, busy_program: str) -> None:
    with open(busy_program, "ab"):
        done = run.run([busy_program])
    assert done.cause is not None
    assert done.cause.kind is CauseKind.LAUNCH_ERROR
    assert "Text file busy" in done.cause.message


def test_a_job_that_waits_for_room_can_be_killed(run: LocalRun, busy_program: str) -> None:
    with open(busy_program, "ab"):
        number = run.launch([busy_program])
        wait_for((run.job_directory(number)).exists, "the keeper has tried")
        run.backend.kill([number])
        assert run.completions.of(number).status is JobStatus.KILLED


@pytest.fixture
def few_processes(run: LocalRun) -> Iterator[Path]:
    """A pids cgroup with the keeper in it and room for nobody else."""
    group = Path("/sys/fs/cgroup/pids") / f"holdfast-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "pids.max").write_text("1")
        (group / "cgroup.procs").write_text(str(run.keeper.identity.pid))
    except OSError:
        pytest.skip("no pids cgroup can be made here")
    yield group
    (group / "pids.max").write_text("max")
    run.backend.close()
    group.rmdir()


def test_a_machine_without_room_for_a_process_is_waited_for(
    run: LocalRun, few_processes: Path
) -> None:
    number = run.launch("true")
    wait_for((run.job_directory(number)).exists, "the keeper has tried")
    assert number not in run.completions
    (few_processes / "pids.max").write_text("max")
    assert run.completions.of(number).status is JobStatus.PASSED


# -- logs ------------------------------------------------------------------------------------


def test_a_line_of_200_kb_is_in_the_log_byte_by_byte(run: LocalRun) -> None:
    code = "import sys; sys.stdout.write('x' * 200_000); sys.stderr.write('END')"
    done = run.run((sys.executable, "-S", "-c", code), pass_patterns=["xEND"])
    assert done.status is JobStatus.PASSED
    assert run.log(1) == b"x" * 200_000 + b"END"


def test_what_was_written_before_a_kill_is_in_the_log(run: LocalRun) -> None:
    number = run.launch("printf 'begun'; kill -9 $$")
    run.completions.of(number)
    assert run.log(number) == b"begun"


def test_a_job_that_prints_without_end_is_ended_by_its_limit_and_others_go_on(
    run: LocalRun,
) -> None:
    """Sabotage: backends/keeper/jobs.py: if request.timeout_s is not None: -> if False:"""
    endless = run.launch(("/usr/bin/yes", "0123456789" * 20), timeout_s=0.5)
    quick = [run.run("echo fine").status for _ in range(5)]
    done = run.completions.of(endless)
    assert set(quick) == {JobStatus.PASSED}
    assert done.cause is not None
    assert done.cause.kind is CauseKind.TIMEOUT
    assert len(run.log(endless)) > 1 << 20


@pytest.mark.slow
def test_a_log_of_a_gigabyte_is_complete_and_is_read_beside_other_work(run: LocalRun) -> None:
    lines = 1 << 24  # of 64 bytes each
    code = f"""
import sys
line = b"0123456789" * 6 + b"abc\\n"
block = line * 4096
for _ in range({lines} // 4096):
    sys.stdout.buffer.write(block)
sys.stdout.buffer.write(b"TEST PASSED")
"""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks.append(time.monotonic())
            done.wait(0.01)

    ticker = threading.Thread(target=tick)
    ticker.start()
    number = run.launch(
        (sys.executable, "-S", "-c", code), pass_patterns=["^TEST PASSED$"], fail_patterns=["ERROR"]
    )
    end = run.completions.of(number, timeout_s=150)
    done.set()
    ticker.join()
    assert end.status is JobStatus.PASSED
    assert (run.job_directory(number) / "log.txt").stat().st_size == lines * 64 + 11
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 50_000
    assert max(b - a for a, b in itertools.pairwise(ticks)) < 1.0
    (run.job_directory(number) / "log.txt").unlink()


# -- attempts --------------------------------------------------------------------------------


def test_each_attempt_has_its_own_log_and_a_clean_directory(run: LocalRun) -> None:
    number = run.launch(
        'echo "$HOLDFAST_ATTEMPT"; ls "$HOLDFAST_JOB_DIR"; touch "$HOLDFAST_JOB_DIR/x"'
    )
    run.completions.of(number)
    for attempt in (2, 3):
        run.again(number, attempt)
        assert run.completions.of(number, attempt).status is JobStatus.PASSED
    assert run.log(number, "log.1.txt") == b"1\nlog.txt\n"
    assert run.log(number, "log.2.txt") == b"2\nlog.1.txt\nlog.txt\n"
    assert run.log(number) == b"3\nlog.1.txt\nlog.2.txt\nlog.txt\n"


def test_an_attempt_that_is_killed_while_its_directory_is_renewed_never_starts(
    run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = run.launch("true")
    run.completions.of(number)
    go_on = threading.Event()
    prepare = run.backend.prepare_directory

    def slow(launch: Launch, *, renew: bool) -> None:
        go_on.wait(30)
        prepare(launch, renew=renew)

    monkeypatch.setattr(run.backend, "prepare_directory", slow)
    run.again(number, 2)
    run.backend.kill([number])
    assert run.completions.of(number, 2).status is JobStatus.KILLED
    go_on.set()
    run.backend.close()
    assert not (run.job_directory(number) / "log.txt").exists()


def test_a_directory_that_cannot_be_renewed_is_its_jobs_own_error(run: LocalRun) -> None:
    number = run.launch("true")
    run.completions.of(number)
    subprocess.run(["rm", "-r", run.job_directory(number)], check=True)
    run.job_directory(number).write_text("in the way")
    run.again(number, 2)
    cause = run.completions.of(number, 2).cause
    assert cause is not None
    assert cause.kind is CauseKind.LAUNCH_ERROR
    assert "is not a directory" in cause.message


def test_a_run_directory_that_was_used_before_is_renewed_job_by_job(tmp_path: Path) -> None:
    with LocalRun(tmp_path) as run:
        run.run("echo first")
    with LocalRun(tmp_path) as run:
        assert run.run("echo second").status is JobStatus.PASSED
        assert (run.log(1, "log.1.txt"), run.log(1)) == (b"first\n", b"second\n")


# -- leftovers -------------------------------------------------------------------------------


def test_what_a_leader_leaves_behind_is_ended_counted_and_then_told(
    run: LocalRun, hard: Marked
) -> None:
    """Sabotage: backends/keeper/jobs.py: has_orphans and not job -> False and not job"""
    done = run.run((str(hard.path), "holds-stdout"))
    assert hard.gone()
    assert (done.status, done.end.leftovers_killed) == (JobStatus.PASSED, 1)
    assert run.log(1) == b"held\n"


def test_a_leftover_that_ignores_sigterm_gets_the_grace_time(run: LocalRun, hard: Marked) -> None:
    done = run.run((str(hard.path), "stubborn-leftover"), grace_s=0.2)
    assert hard.gone()
    assert (done.status, done.end.exit_code, done.end.leftovers_killed) == (JobStatus.FAILED, 7, 1)


def test_allowed_leftovers_live_until_the_run_ends(run: LocalRun, hard: Marked) -> None:
    done = run.run((str(hard.path), "holds-stdout"), leftovers="allow")
    assert (done.status, done.end.leftovers_killed) == (JobStatus.PASSED, 0)
    assert len(hard.pids()) == 1
    assert run.run("true").end.leftovers_killed == 0
    assert len(hard.pids()) == 1
    run.backend.close()
    assert hard.gone()


def test_an_orphan_of_one_job_is_no_leftover_of_another(run: LocalRun, hard: Marked) -> None:
    daemon = run.launch((str(hard.path), "double-fork"))
    hard.wait_for(2)
    for _ in range(5):
        assert run.run("true").end.leftovers_killed == 0
    assert len(hard.pids()) == 2
    run.backend.kill([daemon])
    run.completions.of(daemon)
    assert hard.gone()


def test_a_job_without_children_is_told_at_once_without_a_look_at_all_processes(
    run: LocalRun,
) -> None:
    assert [run.run("true & wait").end.leftovers_killed for _ in range(5)] == [0] * 5


# -- out of memory ---------------------------------------------------------------------------


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A memory cgroup of 30 MB; whoever is written into it dies of more."""
    group = Path("/sys/fs/cgroup/memory") / f"holdfast-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(30 << 20))
    except OSError:
        pytest.skip("no memory cgroup can be made here")
    yield group
    group.rmdir()


def test_a_job_that_the_kernel_kills_for_memory_says_so(run: LocalRun, small_memory: Path) -> None:
    """Sabotage: backends/keeper/jobs.py: self._out_of_memory.count() > -> 0 >"""
    eat = f"{sys.executable} -S -c 'x = bytearray(200 << 20)'"
    enter = f"echo $$ > {small_memory}/cgroup.procs"
    for command in (f"{enter}; exec {eat}", f"{enter}; {eat}; exit $?"):
        done = run.run(command)
        assert done.cause is not None
        assert (done.status, done.cause.kind) == (JobStatus.FAILED, CauseKind.OUT_OF_MEMORY)
    assert run.run("kill -9 $$").cause is not None


# -- stuck in the kernel ---------------------------------------------------------------------


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A cgroup whose members cannot even die while it is frozen."""
    group = Path("/sys/fs/cgroup/freezer") / f"holdfast-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no freezer cgroup can be made here")
    yield group
    (group / "freezer.state").write_text("THAWED")
    wait_for(lambda: not (group / "cgroup.procs").read_text(), "the thawed processes die")
    group.rmdir()


@pytest.mark.slow
def test_a_process_stuck_in_the_kernel_is_named_and_holds_nothing_up(
    run: LocalRun, hard: Marked, freezer: Path
) -> None:
    """Sabotage: backends/tree_killer.py: ending.stuck = [ -> _ = ["""
    number = run.launch((str(hard.path), "sleepers"), timeout_s=1.0, grace_s=0.1)
    pids = hard.wait_for(2)
    for pid in pids:
        (freezer / "cgroup.procs").write_text(str(pid))
    (freezer / "freezer.state").write_text("FROZEN")
    done = run.completions.of(number)
    assert done.cause is not None
    assert done.cause.kind is CauseKind.TIMEOUT
    assert {str(pid) for pid in pids} == set(re.findall(r"(\d+) \(hard", done.cause.message))
    assert run.run("true").status is JobStatus.PASSED
    began = time.monotonic()
    run.backend.close()
    assert time.monotonic() - began < 10.0


# -- the backend itself ----------------------------------------------------------------------


def test_a_run_without_a_directory_is_refused() -> None:
    with pytest.raises(RuntimeError, match="has no directory"):
        LocalBackend(RunContext("r", None)).start(lambda _: None)


def test_closing_what_was_never_started_does_nothing(tmp_path: Path) -> None:
    LocalRun(tmp_path).backend.close()


def test_what_is_launched_after_close_is_killed_at_once(run: LocalRun) -> None:
    run.backend.close()
    assert run.run("true").status is JobStatus.KILLED


def test_a_close_that_was_interrupted_is_made_good(
    run: LocalRun, hard: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = run.launch((str(hard.path), "sleepers"))
    hard.wait_for(2)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run.backend, "_begin_to_close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.backend.close()
    run.backend.close()
    assert run.completions.of(number, timeout_s=0).status is JobStatus.KILLED
    assert hard.gone()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_of_the_driver_cannot_end_the_run(run: LocalRun) -> None:
    """Sabotage: backends/local.py: if os.getpid() != self._owner: -> if False:"""
    number = run.launch("sleep 60")
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # a close that waits here would wait for ever
        try:
            run.backend.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert run.run("true").status is JobStatus.PASSED
    assert number not in run.completions


def test_a_full_disk_delays_a_completion_and_loses_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sabotage: backends/keeper/loop.py: if self._spool.in_trouble: -> if False:"""
    with mounted_disk(tmp_path / "disk", kilobytes=200) as disk, LocalRun(disk) as run:
        release = tmp_path / "release"
        number = run.launch(f"while ! test -e {release}; do sleep 0.01; done; exit 5")
        wait_for((run.job_directory(number) / "log.txt").exists, "the job runs")
        fill(disk / "ballast")
        release.touch()
        wait_for(lambda: "No space left" in caplog.text, "the trouble is told")
        assert number not in run.completions
        (disk / "ballast").unlink()
        assert run.completions.of(number).end.exit_code == 5


def test_a_run_that_ends_on_a_full_disk_loses_no_completion(tmp_path: Path) -> None:
    """Sabotage: backends/keeper_reader.py: self._unspooled.append(message["text"]) -> pass"""
    with mounted_disk(tmp_path / "disk", kilobytes=200) as disk:
        with LocalRun(disk) as run:
            numbers = [run.launch("sleep 60") for _ in range(3)]
            last = run.job_directory(numbers[-1]) / "log.txt"
            wait_for(last.exists, "the jobs run")
            fill(disk / "ballast")
        assert {done.status for done in run.completions.all} == {JobStatus.KILLED}
        assert {done.end.signal for done in run.completions.all} == {signal.SIGTERM}
        assert len(run.completions.all) == 3


def test_a_thousand_jobs_pass_with_flat_descriptors_and_threads(run: LocalRun) -> None:
    def open_files(pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    keeper = run.keeper.identity.pid
    run.run("true")
    before = open_files(os.getpid()), open_files(keeper), threading.active_count()
    launches = [run.job(("/bin/true",)) for _ in range(1000)]
    for start in range(0, 1000, 50):
        run.backend.launch(launches[start : start + 50])
        run.completions.count(start + 51)
    assert (open_files(os.getpid()), open_files(keeper), threading.active_count()) == before
    assert {done.status for done in run.completions.all} == {JobStatus.PASSED}


def test_what_does_not_fit_the_socket_waits_there_and_nowhere_else(run: LocalRun) -> None:
    os.kill(run.keeper.identity.pid, signal.SIGSTOP)
    began = time.monotonic()
    launches = [run.job(("/bin/true", "x" * 20_000)) for _ in range(200)]
    run.backend.launch(launches)
    assert time.monotonic() - began < 5.0
    os.kill(run.keeper.identity.pid, signal.SIGCONT)
    assert len(run.completions.count(200)) == 200
