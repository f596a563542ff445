"""Interactive jobs on a real terminal: it is theirs while they run, and as it was afterwards."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.examined import is_alive
from support.interactive_run import Screen, on_screen
from support.waiting import wait_for

WAITS = """
import os, signal, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
print(f"pid={os.getpid()}.", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def write_job(cli: CommandLine, script: str, **fields: object) -> None:
    """Write a graph of one interactive job, which runs this Python program."""
    cli.write("job.py", script)
    more = "".join(f", {name}: {value}" for name, value in fields.items())
    command = f"exec {sys.executable} job.py"
    cli.write("i.yaml", f"jobs: [{{id: i, command: {command}, interactive: true{more}}}]\n")


def start(cli: CommandLine, *options: str) -> AbstractContextManager[Screen]:
    return on_screen(cli, "jobs", "i.yaml", "--offline", *options)


def pid_shown(screen: Screen) -> int:
    """Return the pid that the job printed; then the terminal is the job's."""
    screen.wait_for(b".")
    found = wait_for(lambda: re.search(rb"pid=(\d+)\.", screen.shown), "the job's pid")
    assert screen.modes() != screen.modes_before
    assert is_alive(int(found[1]))
    return int(found[1])


def test_what_is_typed_reaches_the_job_and_what_it_prints_the_terminal_and_the_log(
    cli: CommandLine,
) -> None:
    write_job(
        cli,
        "import os, sys\n"
        "print('on terminals:', *(os.isatty(n) for n in (0, 1, 2)), flush=True)\n"
        "assert os.tcgetpgrp(0) == os.getpgrp() == os.getsid(0) == os.getpid()\n"
        "os.close(os.open('/dev/tty', os.O_RDWR))\n"
        "name = input('name? ')\n"
        "print(f'hello {name}, {os.environ[\"HOLDFAST_INTERACTIVE\"]}', file=sys.stderr)\n",
    )
    with start(cli) as screen:
        screen.wait_for(b"name? ")
        screen.type(b"Ada\r")
        assert screen.wait_for_end() == 0
        assert screen.modes() == screen.modes_before
        log = cli.only_run().log("i")
        assert log == b"on terminals: True True True\r\nname? Ada\r\nhello Ada, 1\r\n"
        screen.wait_for(log)


def test_a_flood_just_before_the_end_is_complete_on_the_terminal_and_in_the_log(
    cli: CommandLine,
) -> None:
    write_job(cli, "import os\nfor n in range(50_000): os.write(1, b'%d\\n' % n)\n")
    with start(cli) as screen:
        assert screen.wait_for_end() == 0
        log = cli.only_run().log("i")
        assert log == b"".join(b"%d\r\n" % n for n in range(50_000))
        wait_for(lambda: log in screen.shown, "the whole flood on the terminal")


def test_the_window_has_its_size_and_a_change_of_it_is_told(cli: CommandLine) -> None:
    write_job(
        cli,
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])\n"
        "print('first', *os.get_terminal_size(), flush=True)\n"
        "signal.sigwait([signal.SIGWINCH])\n"
        "print('then', *os.get_terminal_size(), flush=True)\n",
    )
    with start(cli) as screen:
        screen.wait_for(b"first 91 33")
        screen.resize(72, 19)
        screen.wait_for(b"then 72 19")
        assert screen.wait_for_end() == 0


def test_ctrl_c_is_the_jobs_own(cli: CommandLine) -> None:
    write_job(
        cli,
        "import time\n"
        "try:\n    print('ready', flush=True); time.sleep(600)\n"
        "except KeyboardInterrupt:\n    print('caught it')\n",
    )
    with start(cli) as screen:
        screen.wait_for(b"ready")
        screen.type(b"\x03")
        assert screen.wait_for_end() == 0
        assert b"caught it" in cli.only_run().log("i")
        assert screen.modes() == screen.modes_before
    assert cli.only_run().statuses() == {"i": "passed"}


@pytest.mark.parametrize(
    ("script", "fields", "status"),
    [
        ("raise SystemExit(3)", {}, "failed"),
        (WAITS, {"timeout_s": 0.7, "grace_s": 0.2}, "killed"),
        ("import tty; tty.setraw(0); raise SystemExit(4)", {}, "failed"),
    ],
    ids=["exit code", "timeout", "raw mode of its own"],
)
def test_a_job_that_fails_or_takes_too_long_leaves_the_terminal_as_it_was(
    cli: CommandLine, script: str, fields: dict[str, object], status: str
) -> None:
    write_job(cli, script, **fields)
    with start(cli) as screen:
        assert screen.wait_for_end() == 1
        assert screen.modes() == screen.modes_before
    assert cli.only_run().statuses() == {"i": status}


def test_a_program_that_does_not_exist_leaves_the_terminal_as_it_was(cli: CommandLine) -> None:
    cli.write("i.yaml", "jobs: [{id: i, command: [no-such-program], interactive: true}]\n")
    with start(cli) as screen:
        assert screen.wait_for_end() == 1
        assert screen.modes() == screen.modes_before
    assert cli.only_run().jobs()["i"]["cause"]["kind"] == "launch_error"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_driver_ends_the_job_and_restores_the_terminal(
    cli: CommandLine, end: signal.Signals
) -> None:
    write_job(cli, WAITS, grace_s=0.2)
    with start(cli) as screen:
        job = pid_shown(screen)
        screen.process.send_signal(end)
        screen.wait_for_end()
        assert screen.modes() == screen.modes_before
        assert not is_alive(job)


def test_a_cancel_from_elsewhere_restores_the_terminal(cli: CommandLine) -> None:
    write_job(cli, WAITS, grace_s=0.2)
    with start(cli) as screen:
        job = pid_shown(screen)
        assert cli.run("cancel", cli.only_run().name).code == 0
        screen.wait_for_end()
        assert screen.modes() == screen.modes_before
        assert not is_alive(job)


def test_the_keeper_restores_the_terminal_of_a_driver_that_was_killed(cli: CommandLine) -> None:
    write_job(cli, WAITS, grace_s=0.2)
    with start(cli) as screen:
        job = pid_shown(screen)
        screen.process.kill()
        screen.wait_for_end()
        screen.wait_until_restored()
        wait_for(lambda: not is_alive(job), "the job's end")


def test_a_kept_job_loses_the_terminal_when_its_driver_is_killed(cli: CommandLine) -> None:
    write_job(cli, WAITS)
    with start(cli, "--on-crash", "keep") as screen:
        job = pid_shown(screen)
        screen.process.kill()
        screen.wait_for_end()
        screen.wait_until_restored()
        assert is_alive(job)
        os.kill(job, signal.SIGKILL)
        wait_for(lambda: not is_alive(job), "the job's end")


def test_the_progress_display_waits_while_a_job_has_the_terminal(cli: CommandLine) -> None:
    cli.write(
        "i.yaml",
        "jobs:\n"
        "  - {id: i, command: 'echo first; sleep 2; echo last', interactive: true}\n"
        + "".join(f"  - {{id: b{n}, command: sleep 0.{n}}}\n" for n in range(1, 9)),
    )
    with start(cli, "--max-parallel", "4") as screen:
        assert screen.wait_for_end() == 0
        screen.wait_for(b"first\r\nlast\r\n")
        # It goes on afterwards: on a line of its own it says how it all ended.
        assert b"completed" in screen.shown.partition(b"last\r\n")[2]


def test_two_interactive_jobs_never_have_the_terminal_at_the_same_time(cli: CommandLine) -> None:
    script = "echo $HOLDFAST_JOB+; mkdir held; sleep 0.3; rmdir held; echo $HOLDFAST_JOB-"
    cli.write(
        "i.yaml",
        "jobs:\n"
        + "".join(
            f"  - {{id: {name}, command: 'set -e; {script}', interactive: true}}\n"
            for name in "abc"
        )
        + "  - {id: d, command: test -d held, retries: 200, retry_delay_s: 0.02}\n",
    )
    with start(cli, "--max-parallel", "4") as screen:
        assert screen.wait_for_end() == 0
        assert screen.modes() == screen.modes_before
    assert set(cli.only_run().statuses().values()) == {"passed"}


def test_without_a_terminal_nothing_is_started(cli: CommandLine) -> None:
    write_job(cli, "print(1)")
    done = cli.run("jobs", "i.yaml", "--offline")
    assert done.code == 2
    assert 'job "i": it is interactive, but standard input is no terminal' in done.err
    assert not cli.runs.exists() or not list(cli.runs.iterdir())


def test_a_backend_that_cannot_refuses_before_the_start(cli: CommandLine) -> None:
    write_job(cli, "print(1)", backend="fake")
    done = cli.run("jobs", "i.yaml", "--offline")
    assert done.code == 2
    assert 'job "i": backend "fake" cannot run interactive jobs; use "local"' in done.err
    assert not cli.runs.exists() or not list(cli.runs.iterdir())
