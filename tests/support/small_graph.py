"""Runs small job graphs with a checkpoint, one job after the other, as a run of them would."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.checkpoint.store import CheckpointStore
from tasks.graph import topological_order
from tasks.resume import Planner, ResumeMode, ResumePlan
from tasks.resume_recorder import ResumeRecorder
from tasks.spec import JobRecord, JobSpec
from tasks.status import RunStatus


def job(name: str, command: str, **options: object) -> JobRecord:
    """Return a job that notes that it ran in the file ``ran``."""
    return JobSpec(id=name, command=f"echo {name} >> ran; {command}", **options).record()


@dataclass
class SmallGraph:
    """A graph in a folder, and its checkpoint."""

    folder: Path
    store: Path
    jobs: list[JobRecord] = field(default_factory=list)
    not_recorded: dict[str, str] = field(default_factory=dict)

    def write(self, **files: str) -> None:
        """Write files of the graph's folder; ``__`` in a name stands for a dot."""
        for name, text in files.items():
            (self.folder / name.replace("__", ".")).write_text(text)

    def plan(self, mode: ResumeMode = "always", jobs: Sequence[JobRecord] = ()) -> ResumePlan:
        """Return what would run."""
        with CheckpointStore(self.store) as store:
            return Planner(store, mode, self.folder).plan(jobs or self.jobs)

    def run(
        self,
        mode: ResumeMode = "always",
        *,
        jobs: Sequence[JobRecord] = (),
        stop_after: int | None = None,
        in_between: object = None,
    ) -> list[str]:
        """Run what is not spared; return which jobs ran, in order.

        ``stop_after``: be killed after so many jobs.  ``in_between`` is called while each job runs.
        """
        jobs = jobs or self.jobs
        (self.folder / "ran").unlink(missing_ok=True)
        with CheckpointStore(self.store) as store:
            planner = Planner(store, mode, self.folder)
            plan = planner.plan(jobs)
            generation = store.begin("run", base=plan.base)
            recorder = ResumeRecorder(
                generation.writer(),
                plan,
                self.folder,
                hashes=planner.hashes,
                aside=lambda name: self.store / "aside" / name,
            )
            status = RunStatus.COMPLETED
            try:
                recorder.withdraw()
                if not self._run_jobs(jobs, plan, recorder, stop_after, in_between):
                    status = RunStatus.CRASHED
            finally:
                recorder.close()
            self.not_recorded = recorder.not_recorded
            generation.end(status)
        path = self.folder / "ran"
        return path.read_text().split() if path.exists() else []

    def _run_jobs(self, jobs, plan, recorder, stop_after, in_between) -> bool:
        failed: set[str] = set()
        started = 0
        for position in topological_order(jobs):
            each = jobs[position]
            if not plan.decisions[each.id].runs:
                continue
            passed = [need for need in each.needs if need not in failed]
            wanted = each.needs if each.needs_policy == "all" else each.needs[:1]
            if len(passed) < len(wanted):
                failed.add(each.id)
                recorder.failed(each, "a need did not pass")
                continue
            if started == stop_after:
                return False
            started += 1
            recorder.starting([each])
            cwd = self.folder if each.cwd is None else self.folder / each.cwd
            command = each.command
            words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
            done = subprocess.run(words, cwd=cwd, env={"PATH": "/bin:/usr/bin", **each.env})
            if in_between is not None:
                in_between(each)
            if done.returncode == 0:
                recorder.passed(each)
            else:
                failed.add(each.id)
                recorder.failed(each, f"exit code {done.returncode}")
        return True
