"""Progress: readable on paper, calm on a terminal, never in the way."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest
from support.job_events import (
    FAILED,
    KILLED,
    PASSED,
    START,
    Q,
    R,
    S,
    a_job,
    changed,
    way,
)
from support.manual_clock import ManualClock
from support.python_path import PYTHON_PATH
from support.terminal import TerminalOutput, run_on_terminal
from support.waiting import wait_for

import observers.progress
from observers.dispatch import Observers
from observers.progress import MAX_FAILURES, Progress
from observers.progress_snapshot import Snapshot
from tasks.events import (
    Adopted,
    KeeperLost,
    KillRequested,
    ObserverFailed,
    RunEnded,
    RunPaused,
    RunStarted,
    RunUnpaused,
)
from tasks.status import Cause, CauseKind, RunStatus

STARTED = RunStarted(START, {"name": "smoke"})
ENDED = RunEnded(START + 60, RunStatus.COMPLETED, {})


class Shown:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.said: list[str] = []
        self.is_open = True

    def show(self, snapshot: Snapshot) -> None:
        assert self.is_open
        self.snapshots.append(snapshot)

    def say(self, line: str) -> None:
        assert self.is_open
        self.said.append(line)

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def paper() -> Iterator[tuple[Progress, io.StringIO, ManualClock]]:
    """Progress that writes a line for each change, and its clock."""
    stream, clock = io.StringIO(), ManualClock(START)
    progress = Progress(stream=stream, interval_s=0.001, clock=clock)
    yield progress, stream, clock
    progress.close()
    assert not progress_threads()


def progress_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "holdfast-progress"]


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


# -- on paper ------------------------------------------------------------------------------------


def test_a_line_says_where_the_jobs_stand_and_what_the_run_waits_for(
    paper: tuple[Progress, io.StringIO, ManualClock],
) -> None:
    progress, stream, clock = paper
    jobs = [a_job(f"test-{number}") for number in range(6)]
    clock.advance(43)
    progress.run_started(STARTED)
    progress.jobs_added(jobs)
    progress.jobs_changed(
        [
            *way(jobs[0], S, Q, R, PASSED),
            *[event for job in jobs[1:5] for event in way(job, S, Q, R, at=START - 1)],
        ]
    )
    wait_for(lambda: "4 running" in stream.getvalue(), "the line is written")
    assert lines(stream)[-1] == (
        "smoke: 1 of 6 ended: 1 passed; 4 running, 1 scheduled; "
        "waits for test-1 (43 s), test-2 (43 s), test-3 (43 s), 1 more"
    )


def test_a_line_is_written_only_when_something_has_changed(
    paper: tuple[Progress, io.StringIO, ManualClock],
) -> None:
    progress, stream, clock = paper
    progress.run_started(STARTED)
    progress.jobs_added([a_job()])
    progress.jobs_changed(way(a_job(), S, Q, R))
    wait_for(lambda: "1 running" in stream.getvalue(), "the line is written")
    for _ in range(5):
        clock.advance(7)
        progress.jobs_changed([])
    progress.run_ended(ENDED)
    text = lines(stream)
    assert len(text) == len(set(text)) <= 3
    assert text[-1] == "smoke: 0 of 1 ended; 1 running; completed; waits for test-1 (34 s)"


def test_many_changes_within_the_interval_are_one_line() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, interval_s=3600, clock=ManualClock(START))
    jobs = [a_job(f"test-{number}") for number in range(100)]
    progress.run_started(STARTED)
    progress.jobs_added(jobs)
    wait_for(lambda: stream.getvalue(), "the first line is written at once")
    for job in jobs:
        progress.jobs_changed(way(job, S, Q, R, PASSED))
    progress.run_ended(ENDED)
    assert lines(stream) == [
        "smoke: 0 of 100 ended; 100 scheduled",
        "smoke: 100 of 100 ended: 100 passed; completed",
    ]


def test_a_run_that_hangs_is_told_of_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers.progress, "FIRST_REMINDER_S", 0.01)
    stream, clock = io.StringIO(), ManualClock(START)
    progress = Progress(stream=stream, interval_s=0.001, clock=clock)
    progress.run_started(STARTED)
    progress.jobs_added([a_job()])
    progress.jobs_changed(way(a_job(), S, Q, R, at=START - 1))
    wait_for(lambda: "(0 s)" in stream.getvalue(), "the first line")
    clock.advance(7200)
    wait_for(lambda: "waits for test-1 (2 h 00 min)" in stream.getvalue(), "a reminder")
    progress.close()


def test_reminders_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(stream=io.StringIO(), interval_s=0.0001, clock=ManualClock(START))
    asked: list[float | None] = []

    class Changed:
        """Says "nothing changed" until it was asked five times with something running."""

        def wait(self, timeout: float | None) -> bool:
            asked.append(timeout)
            if len(asked) > 6:
                progress._ending.set()
            return len(asked) == 1

        def set(self) -> None: ...

        def clear(self) -> None: ...

    progress._changed = Changed()  # type: ignore[assignment]
    progress._counts.add([a_job()])
    progress._counts.change(way(a_job(), S, Q, R))
    progress._show_until_the_end(Shown())
    assert asked == [None, 60, 120, 240, 480, 960, 1920]


def test_with_interval_0_each_change_is_a_line() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, interval_s=0)
    job = a_job()
    progress.run_started(STARTED)
    progress.jobs_added([job])
    progress.jobs_changed(way(job, S, Q, R, Q, R, FAILED))
    progress.run_ended(ENDED)
    assert lines(stream) == [
        "test-1 queued",
        "test-1 running",
        "test-1 queued",
        "test-1 running, attempt 2",
        "test-1 failed: exit code 1",
        "smoke: 1 of 1 ended: 1 failed; completed",
    ]


def test_what_happens_to_the_run_is_said() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, interval_s=0.001, clock=ManualClock(START))
    progress.run_started(STARTED)
    progress.jobs_added([a_job()])
    progress.keeper_lost(KeeperLost(START, "signal 9"))
    progress.adopted(Adopted(START, ["a", "b"]))
    progress.observer_failed(ObserverFailed(START, "links", "OSError: no"))
    progress.kill_requested(KillRequested(START, "me", "too slow", ["test-1"]))
    progress.run_paused(RunPaused(START, "alice"))
    wait_for(lambda: "paused by alice" in stream.getvalue(), "the pause is told")
    progress.run_unpaused(RunUnpaused(START, "alice"))
    progress.kill_requested(KillRequested(START, "SIGINT", "stopped by SIGINT"))
    wait_for(lambda: "stopping, asked for by SIGINT" in stream.getvalue(), "the stop is told")
    progress.close()
    text = stream.getvalue()
    assert "the keeper died: signal 9\n" in text
    assert "took over 2 running jobs\n" in text
    assert 'observer "links" failed and is switched off: OSError: no\n' in text
    assert "killing 1 jobs, asked for by me: too slow\n" in text


def test_failures_are_named_when_they_happen_but_not_without_end() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, interval_s=0.001)
    jobs = [a_job(f"test-{number}") for number in range(100)]
    progress.run_started(STARTED)
    progress.jobs_added(jobs)
    for job in jobs:
        progress.jobs_changed(way(job, S, Q, R, FAILED))
    progress.run_ended(ENDED)
    named = [line for line in lines(stream) if line.endswith("failed: exit code 1")]
    assert named == [f"test-{number} failed: exit code 1" for number in range(MAX_FAILURES)]
    assert lines(stream).count("further failures are not named here; see failed/, killed/") == 1


@pytest.mark.parametrize("kind", [CauseKind.DEPENDENCY, CauseKind.CANCELLED])
def test_what_follows_from_another_failure_is_not_named(kind: CauseKind) -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, interval_s=0.001)
    progress.run_started(STARTED)
    progress.jobs_added([a_job()])
    progress.jobs_changed([changed(a_job(), S, KILLED, attempt=0, cause=Cause(kind, "follows"))])
    progress.run_ended(ENDED)
    assert "follows" not in stream.getvalue()


def test_hostile_text_stays_on_its_line(
    paper: tuple[Progress, io.StringIO, ManualClock],
) -> None:
    progress, stream, _ = paper
    evil = "x\n\x1b[2J\x1b]0;t\x07\udc80"
    progress.run_started(RunStarted(START, {"name": evil}))
    progress.jobs_added([a_job(evil)])
    progress.jobs_changed(
        [changed(a_job(evil), S, FAILED, cause=Cause(CauseKind.LAUNCH_ERROR, evil))]
    )
    progress.kill_requested(KillRequested(START, evil, evil))
    progress.run_ended(ENDED)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\udc80" not in text
    assert all(re.match(r"x �", line) for line in lines(stream))


def test_bars_are_for_terminals_that_can_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert Progress(stream=Terminal())._bars
    assert not Progress(stream=io.StringIO())._bars
    assert not Progress(stream=Terminal(), interval_s=0)._bars
    monkeypatch.setenv("TERM", "dumb")
    assert not Progress(stream=Terminal())._bars
    closed = Terminal()
    closed.close()
    assert not Progress(stream=io.StringIO())._bars


def test_a_terminal_is_drawn_at_most_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers.progress, "can_draw_bars", lambda stream: True)
    for asked, given in [(None, 0.5), (0.01, 0.5), (2.0, 2.0)]:
        assert Progress(stream=io.StringIO(), interval_s=asked)._interval_s == given
    progress, shown = Progress(stream=io.StringIO()), Shown()
    monkeypatch.setattr(progress, "_open_display", lambda: shown)
    waits: list[float | None] = []
    real_wait = progress._ending.wait
    monkeypatch.setattr(progress._ending, "wait", lambda t: (waits.append(t), real_wait(t))[1])
    progress.run_started(STARTED)
    progress.jobs_added([a_job(f"test-{number}") for number in range(500)])
    wait_for(lambda: waits, "the first picture")
    for number in range(500):
        progress.jobs_changed(way(a_job(f"test-{number}"), S, Q, R, PASSED))
    progress.run_ended(ENDED)
    assert set(waits) == {0.5}
    assert len(shown.snapshots) <= 1 + len(waits), "one picture for each nap, and the last"
    assert shown.snapshots[-1].total[PASSED] == 500


def test_an_idle_terminal_is_looked_at_once_a_second_then_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observers.progress, "can_draw_bars", lambda stream: True)
    clock = ManualClock(START)
    progress = Progress(stream=io.StringIO(), clock=clock)
    assert progress._patience_s(progress._snapshot(), 60) is None, "nothing runs: no timer at all"
    progress._counts.add([a_job()])
    progress._counts.change(way(a_job(), S, Q, R, at=START - 1))
    assert progress._patience_s(progress._snapshot(), 60) == 1.0
    clock.advance(61)
    assert progress._patience_s(progress._snapshot(), 60) == 10.0


def test_nothing_is_drawn_while_the_terminal_belongs_to_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    progress, shown = Progress(stream=io.StringIO(), interval_s=0.001), Shown()
    monkeypatch.setattr(progress, "_open_display", lambda: shown)
    progress.run_started(STARTED)
    progress.jobs_added([a_job("a"), a_job("b")])
    wait_for(lambda: shown.snapshots, "the first line")
    progress.suspend()
    assert not shown.is_open
    before = len(shown.snapshots)
    progress.jobs_changed(way(a_job("a"), S, Q, R, PASSED))
    assert len(shown.snapshots) == before
    progress.resume()
    wait_for(lambda: shown.snapshots[-1].total[PASSED] == 1, "what was missed is shown")
    progress.suspend()
    progress.run_ended(ENDED)
    assert shown.snapshots[-1].note == "completed", "the end is shown whoever had the terminal"
    assert not progress_threads()


def test_a_stream_that_broke_switches_the_display_off_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    progress = Progress(stream=stream, interval_s=0.001)
    watching = Observers([progress])
    watching.run_started(STARTED)
    watching.jobs_added([a_job()])
    wait_for(lambda: not progress_threads(), "the display's thread has given up")
    watching.jobs_changed(way(a_job(), S, Q))
    assert watching.failed == {"progress": "BrokenPipeError: [Errno 32] Broken pipe"}
    watching.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_closing_a_display_that_never_began_is_nothing() -> None:
    progress = Progress(stream=io.StringIO())
    progress.close()
    progress.run_started(STARTED)
    progress.close()
    assert not progress_threads()


# -- on a real terminal --------------------------------------------------------------------------

PROGRAM = """
import sys
from support.job_events import *
from observers.progress import Progress
from tasks.events import RunEnded, RunStarted
from tasks.status import RunStatus

progress = Progress()
progress.run_started(RunStarted(START, {{"name": "smoke"}}))
jobs = [{jobs}]
progress.jobs_added(jobs)
for number, job in enumerate(jobs):
    progress.jobs_changed(way(job, S, Q, R, FAILED if number % 5 == 4 else PASSED))
{more}
progress.run_ended(RunEnded(START, RunStatus.FAILED, {{}}))
"""


def on_terminal(jobs: str, more: str = "", **options: object) -> TerminalOutput:
    program = textwrap.dedent(PROGRAM).format(jobs=jobs, more=more)
    return run_on_terminal([sys.executable, "-c", program], **options)  # type: ignore[arg-type]


def test_groups_are_bars_with_their_counts_and_the_run_is_summed_up() -> None:
    output = on_terminal('a_job("build"), *(a_job(f"test-{n}") for n in range(9))')
    assert output.exit_code == 0
    assert f"build {'━' * 24} 1/1 P1   " in output.lines[-4:]
    assert f"test  {'━' * 24} 9/9 P7 F2" in output.lines[-4:]
    assert output.lines[-2:] == ["smoke: 10 of 10 ended: 8 passed, 2 failed", "failed"]
    assert "test-3 failed: exit code 1" in output.lines


def test_nothing_is_wider_than_80_columns_and_the_cursor_comes_back() -> None:
    names = '*(a_job(f"{c * 150}-{n}") for c in "abcdefgh" for n in range(3))'
    more = 'jobs = [a_job("r" * 190 + str(n)) for n in range(9)]; progress.jobs_added(jobs); \
progress.jobs_changed([e for j in jobs for e in way(j, S, Q, R)])'
    output = on_terminal(names, more, columns=80)
    drawn = [line for line in output.lines if "exit code" not in line]
    assert max(len(line) for line in drawn) <= 80
    assert any("…" in line for line in drawn)
    assert output.text.rstrip().endswith("\x1b[?25h")


def test_more_groups_than_lines_are_summed_up() -> None:
    output = on_terminal('*(a_job(f"{chr(97 + n)}") for n in range(26))', rows=12)
    assert any(re.fullmatch(r"and 19 more groups: 1\d/19|and 19 more groups: 19/19", line.strip())
               for line in output.lines)  # fmt: skip


def test_markup_in_names_is_shown_and_not_obeyed() -> None:
    output = on_terminal('a_job("x", group="[bold red]nightly[/]"), a_job("[link=http://a]y")')
    assert any("[bold red]nightly[/]" in line for line in output.lines)
    assert any("[link=http://a]y" in line for line in output.lines)
    assert "\x1b]8" not in output.text


def test_no_color_leaves_bars_without_colours() -> None:
    coloured = on_terminal('a_job("a"), a_job("b")')
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", coloured.text)
    plain = on_terminal('a_job("a"), a_job("b")', environment={"NO_COLOR": "1"})
    assert "━" in plain.text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9](;[0-9;]*)?m", plain.text)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    output = on_terminal('a_job("a")', environment={"TERM": "dumb"})
    assert "\x1b" not in output.text
    assert output.lines[-1] == "smoke: 1 of 1 ended: 1 passed; failed"


def test_standard_output_is_left_to_results() -> None:
    more = 'print("a result", flush=True)'
    output = on_terminal('a_job("a")', more, pipe_stdout=True)
    assert output.stdout == b"a result\n"
    assert "a result" not in output.text
    assert "━" in output.text


def test_what_others_print_on_the_terminal_scrolls_by_above_the_bars() -> None:
    more = 'import logging; logging.basicConfig(); logging.warning("look here")'
    output = on_terminal('a_job("a")', more)
    assert any("look here" in line for line in output.lines)


def test_no_terminal_no_drawing_library() -> None:
    program = textwrap.dedent(PROGRAM).format(
        jobs='a_job("a")', more='assert "rich" not in sys.modules'
    )
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1] == "smoke: 1 of 1 ended: 1 passed; failed"
