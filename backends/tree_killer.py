"""Ending whole process trees: ask, wait, insist, until one look finds nobody.

SIGTERM and SIGCONT go to the leader's process group, in one step that no fork slips through, then
to every member outside the group.  After the grace time SIGKILL follows in
rounds.  One look at the host's processes serves all trees that are being ended.  A tree has
ended when nobody is left, not when its leader has exited.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from backends.members import Members, all_of
from backends.process_tree import (
    Identity,
    Process,
    Snapshot,
    newest_processes,
    process_name,
    read_processes,
    send_group_signal,
    send_signal,
    whole_groups,
)

STUCK_AFTER_S = 5.0
"""A process that is still there so long after SIGKILL is stuck in the kernel, or not ours."""

WHOLE_RUN = -1
"""The number under which all members of the run are ended together."""

_FIRST_LOOK_AGAIN_S = 0.02
_LONGEST_LOOK_AGAIN_S = 0.5
_AT_REST = 3
"""How much longer than one look the pause between two looks is, at least."""
_ROUNDS_BEFORE_FREEZE = 3
_CHASE_S = 0.03

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def clock_ticks() -> int:
    """Return the time since boot in the unit of process start times."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return int(time.clock_gettime(clock) * _CLOCK_TICKS_PER_S)


class Ending:
    """One tree that is being ended."""

    __slots__ = (
        "asked",
        "first_look",
        "grace_until",
        "group",
        "insisted",
        "leader",
        "look_at",
        "number",
        "pause_s",
        "requested_ticks",
        "rounds",
        "seen",
        "stuck",
    )

    def __init__(self, number: int, leader: int | None, now: float, grace_s: float) -> None:
        self.number = number
        self.group = leader
        """Its process group, which is asked as a whole; ``None`` where it has to be one by one."""
        self.leader = leader
        """The first process while it is not reaped: until then its pid is nobody else's."""
        self.grace_until = now + grace_s
        self.requested_ticks: int | None = None
        """When it was asked to end, in the unit of start times; ``None``: not yet."""
        self.look_at = now
        self.pause_s = _FIRST_LOOK_AGAIN_S
        self.asked: set[Identity] = set()
        self.insisted: dict[Identity, float] = {}
        """When SIGKILL was sent to whom."""
        self.first_look = True
        self.rounds = 0
        self.seen: set[Identity] = set()
        self.stuck: list[str] = []
        """Those that outlived SIGKILL, as ``pid (name)``."""

    def is_late(self, process: Process) -> bool:
        """Whether a process began after the request.

        It is a helper of somebody's orderly end then, and has until the grace time is over.
        """
        if self.first_look or self.requested_ticks is None:
            return False
        return process.start_time >= self.requested_ticks


Freeze = Callable[[], AbstractContextManager[object]]


class TreeKiller:
    """Ends trees; its owner calls ``step`` whenever ``next_at`` has come, and ``poke``.

    ``frozen`` holds all members still while it is entered, where the platform can: against
    trees that fork faster than they are found.  ``last_resort`` ends everything of the run at
    once and serves ``WHOLE_RUN``.
    """

    def __init__(
        self,
        members: Members,
        *,
        frozen: Freeze = nullcontext,
        last_resort: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = members
        self._frozen = frozen
        self._last_resort = last_resort
        self._clock = clock
        self._endings: dict[int, Ending] = {}
        self._outlived: dict[Identity, float] = {}
        """Who outlived SIGKILL, and when it was sent: nobody waits for them twice."""
        self._not_before = 0.0

    def __contains__(self, number: int) -> bool:
        return number in self._endings

    def begin(self, number: int, leader: int | None, grace_s: float) -> None:
        """Ask a tree to end; for one that is being ended this may only shorten the grace."""
        now = self._clock()
        ending = self._endings.get(number)
        if ending is not None:
            ending.grace_until = min(ending.grace_until, now + grace_s)
            ending.look_at = min(ending.look_at, ending.grace_until)
            return
        self._endings[number] = Ending(number, leader, now, grace_s)

    def leader_reaped(self, number: int) -> None:
        """The first process was reaped: its pid may be anybody's once its group is empty."""
        ending = self._endings.get(number)
        if ending is not None:
            ending.leader = None

    def is_insisting(self, number: int) -> bool:
        """Whether the grace time of a tree is over, so that whoever shows up may be killed."""
        ending = self._endings.get(number)
        return ending is not None and self._clock() >= ending.grace_until

    def poke(self, number: int) -> None:
        """A tree seems to have ended: look soon."""
        ending = self._endings.get(number)
        if ending is not None:
            ending.look_at = min(ending.look_at, max(self._clock(), self._not_before))

    def next_at(self) -> float | None:
        """Return when the next look is due; ``None`` while nothing is being ended."""
        return min((ending.look_at for ending in self._endings.values()), default=None)

    def step(self) -> list[Ending]:
        """Look once if it is time; return the trees that have ended."""
        now = self._clock()
        due = self.next_at()
        if due is None or due > now:
            return []
        self._insist_on_groups(now)
        try:
            snapshot = read_processes()
        except OSError:  # no descriptor is free
            self._ask_groups(now)
            self._pause_all(now)
            return []
        # After the look: who is not in it and began later is somebody's helper in ending.
        self._ask_groups(now)
        members = self._members.survey(snapshot)
        ended = [
            ending
            for ending in self._endings.values()
            if self._handle(ending, _of(ending, members), snapshot, now)
        ]
        for ending in ended:
            del self._endings[ending.number]
        self._not_before = self._clock() + _AT_REST * (self._clock() - now)
        return ended

    def _insist_on_groups(self, now: float) -> None:
        for ending in self._endings.values():
            if now >= ending.grace_until:
                if ending.leader is not None:
                    send_group_signal(ending.leader, signal.SIGKILL)
                if ending.number == WHOLE_RUN:
                    self._last_resort()

    def _ask_groups(self, now: float) -> None:
        """Ask the leaders' groups that were not asked yet, each in one step."""
        for ending in self._endings.values():
            if ending.requested_ticks is None:
                ending.requested_ticks = clock_ticks()
                if ending.leader is not None and now < ending.grace_until:
                    send_group_signal(ending.leader, signal.SIGTERM)
                    send_group_signal(ending.leader, signal.SIGCONT)

    def _pause_all(self, now: float) -> None:
        for ending in self._endings.values():
            ending.look_at = now + _LONGEST_LOOK_AGAIN_S

    def _handle(self, ending: Ending, alive: list[Process], snapshot: Snapshot, now: float) -> bool:
        """Do what is next for one tree; whether it has ended."""
        if not alive:
            # A dead leader that is not reaped yet is reaped next; its exit belongs to the end.
            self._look_again(ending, now)
            return ending.leader is None and not self._slipped_away(ending, now)
        ending.seen.update(process.identity for process in alive)
        if now < ending.grace_until:
            self._ask(ending, alive)
            self._look_again(ending, now)
            ending.look_at = min(ending.look_at, ending.grace_until)
            return False
        return self._insist(ending, alive, snapshot, now)

    def _ask(self, ending: Ending, alive: list[Process]) -> None:
        for process in alive:
            identity = process.identity
            if identity in ending.asked or process.pgrp == ending.group or ending.is_late(process):
                continue
            ending.asked.add(identity)
            send_signal(identity, signal.SIGTERM)
            send_signal(identity, signal.SIGCONT)
        ending.first_look = False

    def _insist(self, ending: Ending, alive: list[Process], snapshot: Snapshot, now: float) -> bool:
        for process in alive:
            if process.identity in self._outlived:
                ending.insisted[process.identity] = self._outlived[process.identity]
        fresh = [process for process in alive if process.identity not in ending.insisted]
        if not fresh:
            if now - max(ending.insisted[process.identity] for process in alive) > STUCK_AFTER_S:
                ending.stuck = [_named(process.pid) for process in alive]
                self._outlived.update(ending.insisted)
                return True
            self._look_again(ending, now)
            return False
        ending.rounds += 1
        if ending.rounds > _ROUNDS_BEFORE_FREEZE:
            self._insist_while_frozen(ending, now)
            self._chase(ending)
        self._kill(ending, alive, snapshot, now)
        # Look at once: somebody may have forked while the last look went on.
        ending.pause_s = _FIRST_LOOK_AGAIN_S
        ending.look_at = now
        return False

    def _insist_while_frozen(self, ending: Ending, now: float) -> None:
        with self._frozen():
            try:
                snapshot = read_processes()
            except OSError:
                return
            self._kill(ending, _of(ending, self._members.survey(snapshot)), snapshot, now)

    def _slipped_away(self, ending: Ending, now: float) -> bool:
        """Whether somebody moved on while all processes were looked at, one after the other."""
        late = newest_processes(lambda pid: self._is_of(ending, pid))
        if late and now >= ending.grace_until:
            self._chase(ending)
            ending.look_at = now
        return bool(late)

    def _chase(self, ending: Ending) -> None:
        """Catch who moves on before any look is over, by the newest pids alone."""
        end = self._clock() + _CHASE_S
        while self._clock() < end:
            for process in newest_processes(lambda pid: self._is_of(ending, pid)):
                send_signal(process.identity, signal.SIGKILL)

    def _is_of(self, ending: Ending, pid: int) -> bool:
        job = None if ending.number == WHOLE_RUN else ending.number
        return self._members.carries_number(pid, job)

    def _kill(self, ending: Ending, alive: list[Process], snapshot: Snapshot, now: float) -> None:
        for group in whole_groups(alive, snapshot):
            send_group_signal(group, signal.SIGKILL)
        for process in alive:
            if process.identity not in ending.insisted:
                ending.insisted[process.identity] = now
                send_signal(process.identity, signal.SIGKILL)

    def _look_again(self, ending: Ending, now: float) -> None:
        ending.look_at = now + ending.pause_s
        ending.pause_s = min(ending.pause_s * 2, _LONGEST_LOOK_AGAIN_S)


def _of(ending: Ending, members: dict[int, list[Process]]) -> list[Process]:
    if ending.number == WHOLE_RUN:
        return list(all_of(members))
    return members.get(ending.number, [])


def _named(pid: int) -> str:
    return f"{pid} ({process_name(pid)})"
