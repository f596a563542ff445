"""The program that the jobs of an experiment run, in the run directory.

``python -m tasks.experiment_job SUITE NAME generate --n N --seed N --rounds N``
``python -m tasks.experiment_job SUITE NAME adapter LIBRARY``
``python -m tasks.experiment_job SUITE NAME compare``

``SUITE`` is ``laboratory`` or the path of a user's file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tasks.atomic_file import write_atomically
from tasks.errors import InputError
from tasks.experiment import Adapter, Experiment
from tasks.experiment_compare import checked_errors, compare, publishable
from tasks.experiment_files import CaseSet, ExperimentFiles
from tasks.experiment_results import ResultsError, read_results
from tasks.experiment_suite import choose, load_named_suite

EXIT_NOT_STARTED = 127


def generate(experiment: Experiment, files: ExperimentFiles, n: int, seed: int, rounds: int) -> int:
    """Make the cases; returns the exit code."""
    cases = list(experiment.cases(n, seed))
    case_set = CaseSet.of(experiment.name, n, seed, rounds, cases)
    case_set.write(files.cases)
    _say(f"{len(cases)} cases, seed {seed}, {case_set.dataset_fingerprint}")
    return 0


def run_adapter_program(experiment: Experiment, files: ExperimentFiles, adapter: Adapter) -> int:
    """Run a library's adapter and let its results stand only if they are usable.

    Returns the exit code; does not return where a signal ended the adapter, since this process
    then ends by the same signal, so that the job's cause is the adapter's.
    """
    library = adapter.library
    for old in (files.results(library), files.raw_results(library), files.failure(library)):
        old.unlink(missing_ok=True)
    cases, raw = files.cases.absolute(), files.raw_results(library).absolute()
    try:
        code = subprocess.call([*adapter.command, str(cases), str(raw)])
    except OSError as error:
        message = f'"{adapter.command[0]}" cannot be started: {error.strerror}'
        return _fail(files, library, "launch_error", message, EXIT_NOT_STARTED)
    if code < 0:
        message = f"the adapter was ended by {_signal_name(-code)}"
        _fail(files, library, "signal", message, 1)
        _end_by(-code)
    if code != 0:
        return _fail(files, library, "exit_code", f"the adapter exited with code {code}", code)
    try:
        _check(experiment, files, library)
    except ResultsError as error:
        return _fail(files, library, "unusable_results", str(error), 1)
    raw.rename(files.results(library))
    return 0


def compare_all(experiment: Experiment, files: ExperimentFiles) -> int:
    """Write the documents of every library; returns the exit code.

    It is 1 where a library's job passed and its results can still not be compared: the run
    must not read as passed then.
    """
    comparison = compare(experiment, files)
    publishable(comparison, files)
    for library, document in comparison.documents.items():
        _say(f"{library}: {document['status']}")
    for library, why in comparison.rejected.items():
        _say(f"{library}: cannot be compared: {why}")
    return 1 if comparison.rejected else 0


def _adapter(experiment: Experiment, library: str) -> Adapter:
    try:
        return experiment.adapter(library)
    except KeyError:
        there = ", ".join(adapter.library for adapter in experiment.adapters)
        raise InputError([f'there is no adapter "{library}"; there are {there}']) from None


def _check(experiment: Experiment, files: ExperimentFiles, library: str) -> None:
    """Hold the results against themselves: that needs every value to be there and finite."""
    case_set = CaseSet.read(files.cases)
    results = read_results(
        files.raw_results(library), len(case_set.cases), case_set.dataset_fingerprint
    )
    if results.is_available:
        checked_errors(experiment, case_set.cases, results, results)


def _fail(files: ExperimentFiles, library: str, kind: str, message: str, code: int) -> int:
    failure = json.dumps({"kind": kind, "message": message})
    write_atomically(files.failure(library), failure)
    _say(f"{library}: {message}")
    return code


def _end_by(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tasks.experiment_job")
    parser.add_argument("suite")
    parser.add_argument("name")
    steps = parser.add_subparsers(dest="step", required=True)
    make = steps.add_parser("generate")
    for option in ("--n", "--seed", "--rounds"):
        make.add_argument(option, type=int, required=True)
    steps.add_parser("adapter").add_argument("library")
    steps.add_parser("compare")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run one step of one experiment in the current directory; returns the exit code."""
    arguments = _arguments(words)
    try:
        suite = choose(load_named_suite(arguments.suite), [arguments.name])
        experiment = suite[arguments.name]()
        files = ExperimentFiles(Path(), arguments.name)
        if arguments.step == "generate":
            return generate(experiment, files, arguments.n, arguments.seed, arguments.rounds)
        if arguments.step == "adapter":
            return run_adapter_program(experiment, files, _adapter(experiment, arguments.library))
        return compare_all(experiment, files)
    except (InputError, ResultsError) as error:
        _say(f"error: {error}")
        return error.exit_code if isinstance(error, InputError) else 1


if __name__ == "__main__":
    sys.exit(main())
