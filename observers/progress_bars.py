"""Progress on a terminal: one bar for each group, redrawn in place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from observers.counts import Counts
from observers.progress_snapshot import Snapshot
from tasks.sanitise import one_line
from tasks.status import JobStatus

_NAME_WIDTH = 20
_OTHER_LINES = 5
"""Lines of the display that are no group, and one of the terminal that stays free."""

_STYLES = {
    JobStatus.PASSED: "green",
    JobStatus.FAILED: "bold red",
    JobStatus.KILLED: "magenta",
    JobStatus.RUNNING: "cyan",
    JobStatus.QUEUED: "dim",
    JobStatus.SCHEDULED: "dim",
}
"""In the order in which the counts of a group are shown."""

_IN_BARS = (JobStatus.PASSED, JobStatus.FAILED, JobStatus.KILLED, JobStatus.RUNNING)


class BarDisplay:
    """Redraws the bars on ``stream``, which is a terminal; messages scroll by above them.

    Everything that names a job is shown as text, never read as markup.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            # A pipe on standard output is none of our business.
            redirect_stdout=sys.stdout.isatty(),
        )
        self.open()

    def show(self, snapshot: Snapshot) -> None:
        """Draw the snapshot in place of the last one."""
        self._live.update(self._draw(snapshot), refresh=True)

    def say(self, line: str) -> None:
        """Print one message above the bars."""
        self._console.print(Text(line), soft_wrap=True)

    def open(self) -> None:
        """Begin, also again."""
        self._live.start()

    def close(self) -> None:
        """Leave the last picture and give the cursor back."""
        self._live.stop()

    def _draw(self, snapshot: Snapshot) -> RenderableType:
        rows, hidden = _chosen(snapshot.groups, max(3, self._console.height - _OTHER_LINES))
        table = Table.grid(padding=(0, 1), expand=False)
        table.add_column(max_width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        width = 24 if self._console.width >= 80 else 10
        for name, counts in rows:
            table.add_row(
                Text(one_line(name, _NAME_WIDTH)),
                _bar(counts, width, self._console.encoding),
                Text(f"{counts.ended}/{counts.total}"),
                _letters(counts),
            )
        lines: list[RenderableType] = [table]
        if hidden:
            ended = sum(counts.ended for _, counts in hidden)
            total = sum(counts.total for _, counts in hidden)
            lines.append(Text(f"and {len(hidden)} more groups: {ended}/{total}", style="dim"))
        lines.append(_one_line(f"{snapshot.run}: {snapshot.counts_in_words()}", "bold"))
        if snapshot.note:
            lines.append(_one_line(snapshot.note, "bold"))
        if waits_for := snapshot.waits_for():
            lines.append(_one_line(f"waits for {waits_for}", "dim"))
        return Group(*lines)


def _one_line(text: str, style: str) -> Text:
    return Text(one_line(text, 1000), style=style, no_wrap=True, overflow="ellipsis")


def _chosen(
    groups: Sequence[tuple[str, Counts]], room: int
) -> tuple[Sequence[tuple[str, Counts]], Sequence[tuple[str, Counts]]]:
    """Return the groups to show, in their order, and those there is no room for."""
    if len(groups) <= room:
        return groups, ()
    shown = {name for name, _ in sorted(groups, key=_interest)[:room]}
    return (
        [group for group in groups if group[0] in shown],
        [group for group in groups if group[0] not in shown],
    )


def _interest(group: tuple[str, Counts]) -> tuple[bool, bool, bool]:
    """Sort what runs first, then what failed, then what has not ended."""
    counts = group[1]
    return (
        not counts[JobStatus.RUNNING],
        not counts[JobStatus.FAILED],
        counts.ended == counts.total,
    )


def _bar(counts: Counts, width: int, encoding: str) -> Text:
    # Three shapes, so that it can be read without colours.
    ended, running, waiting = "━╍╌" if encoding.lower().startswith("utf") else "#=-"
    bar = Text()
    total = max(1, counts.total)
    position = reached = 0
    for status in _IN_BARS:
        reached += counts[status]
        # Rounded down: a bar is full only when the last job has ended.
        cells = reached * width // total - position
        bar.append((running if status is JobStatus.RUNNING else ended) * cells, _STYLES[status])
        position += cells
    return bar.append(waiting * (width - position), "dim")


def _letters(counts: Counts) -> Text:
    """Return ``P10 F2 R8``: each status that has jobs by its letter."""
    text = Text()
    for status, style in _STYLES.items():
        if counts[status]:
            text.append(f"{status.letter}{counts[status]} ", style)
    text.rstrip()
    return text
