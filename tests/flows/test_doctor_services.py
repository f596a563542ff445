"""``doctor`` asks Prefect's server and Slurm's commands, and is bounded in time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.examined import Examined, examined
from support.prefect_server import PrefectServer
from support.scripted_server import Answer, Request, ScriptedServer

from flows.diagnosis import slurm
from flows.diagnosis.finding import Finding, Level
from flows.diagnosis.prefect_configuration import (
    PrefectConfiguration,
    ask_prefect,
    read_configuration,
)
from flows.diagnosis.prefect_server import check_prefect, judge_server
from flows.diagnosis.slurm import check_slurm
from tasks.checkpoint.file_systems import MountTable

__all__ = ["examined"]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PREFECT") and name != "PREFECT_SERVER_ANALYTICS_ENABLED":
            monkeypatch.delenv(name)


# -- which server ----------------------------------------------------------------------------

PROFILES = """
active = "work"

[profiles.work]
PREFECT_API_URL = "http://127.0.0.1:4321/api"

[profiles.home]
PREFECT_SERVER_DATABASE_CONNECTION_URL = "postgresql+asyncpg://me:secret@db/prefect"
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"PREFECT_HOME": str(home), **more}


def test_without_profiles_the_default_is_in_use_with_a_database_in_prefect_s_home(
    tmp_path: Path,
) -> None:
    found = read_configuration(environment(tmp_path))
    assert (found.profile, found.source, found.api_url) == ("ephemeral", None, None)
    assert found.database == f"sqlite+aiosqlite:///{tmp_path}/prefect.db"


def test_the_active_profile_says_where_the_server_is(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    found = read_configuration(environment(tmp_path))
    assert (found.profile, found.api_url) == ("work", "http://127.0.0.1:4321/api")
    assert found.source == tmp_path / "profiles.toml"


def test_the_environment_wins_over_the_profile(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    url = "http://127.0.0.1:9/api"
    assert read_configuration(environment(tmp_path, PREFECT_API_URL=url)).api_url == url
    home = read_configuration(environment(tmp_path, PREFECT_PROFILE="home"))
    assert (home.profile, home.api_url) == ("home", None)


def test_the_database_s_password_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    found = read_configuration(environment(tmp_path, PREFECT_PROFILE="home"))
    assert found.database == "postgresql+asyncpg://me:***@db/prefect"


@pytest.mark.parametrize("text", ["not toml at all", "active = 'none'", "profiles = 3", ""])
def test_profiles_that_cannot_be_used_do_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "profiles.toml").write_text(text)
    found = read_configuration(environment(tmp_path))
    assert (found.profile, found.api_url) == ("ephemeral", None)
    assert bool(found.trouble) == ("not" in text or "none" in text)


SAME_ANSWERS = """
import os, sys
from flows.diagnosis.prefect_configuration import ask_prefect, read_configuration
ours, theirs = read_configuration(), ask_prefect()
for field in ("profile", "source", "home", "api_url", "database"):
    assert getattr(ours, field) == getattr(theirs, field), (field, ours, theirs)
assert bool(ours.trouble) == bool(theirs.trouble), (ours, theirs)
"""


@pytest.mark.parametrize("profile", ["no file", "", "home", "nobody"])
def test_what_files_say_is_what_prefect_says(tmp_path: Path, profile: str) -> None:
    if profile != "no file":
        (tmp_path / "profiles.toml").write_text(PROFILES)
    given = {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    if profile in ("home", "nobody"):
        given["PREFECT_PROFILE"] = profile
    inherited = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SAME_ANSWERS],
        cwd=tmp_path,
        env={**inherited, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- the server ------------------------------------------------------------------------------


def configured(url: str | None, **fields: object) -> PrefectConfiguration:
    given: dict[str, object] = {"profile": "p", "source": None, "home": Path("/"), **fields}
    return PrefectConfiguration(api_url=url, database_url="sqlite://", **given)  # type: ignore[arg-type]


def judged(url: str, *, offline: bool = False, **fields: object) -> Finding:
    return judge_server(configured(url, **fields), url, offline=offline)


@pytest.mark.prefect
def test_a_real_server_answers_with_its_version(prefect_server: PrefectServer) -> None:
    found = judged(prefect_server.api_url)
    assert found.level is Level.OK
    assert "(version " in found.message


def answering(health: Answer, version: Answer) -> ScriptedServer:
    def answer(request: Request) -> Answer:
        return health if request.path.endswith("/health") else version

    return ScriptedServer(answer)


def test_a_server_of_another_version_is_told() -> None:
    with answering(Answer(200, True), Answer(200, "2.19.0")) as server:
        found = judged(server.api_url)
    assert found.level is Level.WARNING
    assert "version 2.19.0" in found.message


def test_a_server_that_does_not_tell_its_version_answers_all_the_same() -> None:
    with answering(Answer(404), Answer(404)) as server:
        assert judged(server.api_url).level is Level.OK


def test_a_server_that_refuses_the_key_is_a_problem() -> None:
    with answering(Answer(401), Answer(401)) as server:
        found = judged(server.api_url, headers={"Authorization": "Bearer stale"})
        assert found.level is Level.PROBLEM
        assert "PREFECT_API_KEY" in found.advice
        assert server.requests[0].headers["authorization"] == "Bearer stale"
        assert judged(server.api_url, offline=True).level is Level.OK


def test_a_page_in_the_place_of_the_api_is_a_problem() -> None:
    with answering(Answer(200, b"<html>Prefect</html>"), Answer(404)) as server:
        found = judged(server.api_url)
    assert found.level is Level.PROBLEM
    assert '"/api"' in found.advice


def test_a_server_in_trouble_is_a_problem() -> None:
    with answering(Answer(503), Answer(503)) as server:
        assert judged(server.api_url).level is Level.PROBLEM


def test_a_server_that_is_not_there_is_a_problem_and_offline_a_warning() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
        assert judged(url).level is Level.PROBLEM
        found = judged(url, offline=True)
    assert found.level is Level.WARNING
    assert "--offline" in found.advice


def test_a_server_that_never_answers_costs_a_bounded_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        found = judged(f"http://127.0.0.1:{silent.getsockname()[1]}/api", offline=True)
        assert time.monotonic() - began < 10
    assert found.level is Level.WARNING


def test_a_malformed_address_is_a_finding() -> None:
    assert judged("http://[nonsense/api").level is Level.PROBLEM


def test_without_a_server_the_database_of_a_run_s_own_is_told(examined: Examined) -> None:
    profile, server = check_prefect(examined.examination(offline=True))
    assert '"ephemeral"' in profile.message
    assert f"sqlite+aiosqlite:///{examined.place}/prefect/prefect.db" in server.message
    assert server.level is Level.OK


def test_a_database_on_a_network_file_system_is_told(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(examined.place))
    table = examined.place / "mountinfo"
    table.write_text(f"1 1 8:1 / {examined.place} rw - nfs4 server:/home rw\n")
    examination = examined.examination(offline=True, mounts=MountTable(table))
    found = list(check_prefect(examination))[-1]
    assert (found.subject, found.level) == ("database", Level.WARNING)


def test_online_prefect_itself_is_asked(examined: Examined) -> None:
    found = list(check_prefect(examined.examination()))
    assert f'"{ask_prefect().profile}"' in found[0].message


# -- Slurm -----------------------------------------------------------------------------------


def commands(place: Examined, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put programs with these bodies on PATH, and nothing of a real Slurm."""
    folder = place.place / "bin"
    folder.mkdir()
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def slurm_findings(place: Examined) -> dict[str, Finding]:
    return {finding.subject: finding for finding in check_slurm(place.examination())}


def test_without_slurm_that_is_all_there_is_to_say(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands(examined, monkeypatch)
    (found,) = slurm_findings(examined).values()
    assert (found.level, found.message) == (Level.OK, "not installed")


def test_slurm_that_answers_is_told_with_version_queue_and_controller(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands(
        examined,
        monkeypatch,
        sbatch='[ "$1" = --version ] && echo slurm 22.05.8',
        squeue="echo 17; echo 18",
        scontrol='[ "$1" = ping ] && echo "Slurmctld(primary) at node is UP"',
    )
    found = slurm_findings(examined)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["sbatch"].message == "slurm 22.05.8"
    assert found["squeue"].message == "answers: 2 jobs of this user"
    assert found["scontrol"].message.endswith("is UP")


def test_a_controller_that_is_down_and_a_command_that_is_missing_are_told(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands(
        examined,
        monkeypatch,
        squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        scontrol='echo "Slurmctld(primary) at node is DOWN"',
    )
    found = slurm_findings(examined)
    assert {finding.level for finding in found.values()} == {Level.WARNING}
    assert "not on PATH" in found["sbatch"].message
    assert "Unable to contact slurm controller" in found["squeue"].message
    assert "DOWN" in found["scontrol"].message


def test_commands_that_hang_are_ended_and_told(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: leave ``process.kill`` out of ``slurm._answer``."""
    monkeypatch.setattr(slurm, "_ANSWER_WITHIN_S", 0.3)
    hang = "exec /bin/sleep 3600"
    before = set(examined.processes())
    commands(examined, monkeypatch, sbatch=hang, squeue=hang, scontrol=hang)
    found = slurm_findings(examined)
    assert all("does not answer" in finding.message for finding in found.values())
    assert set(examined.processes()) - before == set()
