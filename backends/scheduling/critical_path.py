"""How long the way is from each job to the end, by what the jobs took before."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush

from backends.scheduling.job_table import SCHEDULED, JobTable
from tasks.graph import topological_order
from tasks.spec import JobRecord


class CriticalPath:
    """The critical path of each job in seconds: itself and the longest chain that waits for it.

    ``durations_s`` are by job id; a job that is not in it counts 0.  Without any, nothing is
    computed and every path is 0.
    """

    def __init__(self, table: JobTable, durations_s: Mapping[str, float]) -> None:
        self._table = table
        self._durations_s = durations_s
        self.seconds = array("d", [0.0] if durations_s else [])
        """By job number; empty where nothing is known."""

    def add(self, jobs: Sequence[JobRecord]) -> None:
        """Take in jobs that the table has as its last rows.

        The paths of earlier jobs grow with them; one that is ready already keeps its place.
        """
        if not self._durations_s:
            return
        first = len(self.seconds)
        self.seconds.extend(self._durations_s.get(job.id, 0.0) for job in jobs)
        earlier: list[int] = []
        # Backwards, so that a job's own path is complete before it lengthens those it needs.
        for index in reversed(topological_order(jobs)):
            self._lengthen_needs(first + index, first, earlier)
        while earlier:
            number = -heappop(earlier)
            while earlier and -earlier[0] == number:
                heappop(earlier)
            self._lengthen_needs(number, first, earlier)

    def _lengthen_needs(self, number: int, first: int, earlier: list[int]) -> None:
        """Lengthen the paths through what a job needs; note jobs before ``first`` that grew."""
        table, paths_s = self._table, self.seconds
        for need_id in table.jobs[number].needs:
            need = table.numbers[need_id]
            path_s = self._durations_s.get(need_id, 0.0) + paths_s[number]
            if path_s > paths_s[need]:
                paths_s[need] = path_s
                if need < first and table.status[need] == SCHEDULED:
                    heappush(earlier, -need)
