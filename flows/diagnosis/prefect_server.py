"""Which Prefect server will runs be reported to, and does it answer?"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import httpx
from packaging.version import InvalidVersion, Version

from flows.diagnosis.examination import Examination, in_time
from flows.diagnosis.finding import Finding, ok, problem, warning
from flows.diagnosis.prefect_configuration import (
    PrefectConfiguration,
    ask_prefect,
    read_configuration,
)

_ANSWER_WITHIN_S = 3.0
_OFFLINE_ANSWER_WITHIN_S = 1.0


def check_prefect(examination: Examination) -> Iterator[Finding]:
    """Say which profile and server are in use, and ask the server; offline from files alone."""
    offline = examination.offline
    configuration = read_configuration() if offline else ask_prefect()
    yield _profile(configuration)
    if configuration.api_url is None:
        yield from _own_server(configuration, examination)
    else:
        yield judge_server(configuration, configuration.api_url.rstrip("/"), offline=offline)


def _profile(configuration: PrefectConfiguration) -> Finding:
    if configuration.trouble:
        advice = "see the profiles: prefect profile ls"
        return warning("profile", configuration.trouble, advice)
    source = configuration.source
    where = "the default" if source is None else f'from "{source}"'
    return ok("profile", f'"{configuration.profile}", {where}')


def _own_server(configuration: PrefectConfiguration, examination: Examination) -> Iterator[Finding]:
    message = f"PREFECT_API_URL is not set: each run starts one, on {configuration.database}"
    yield ok("server", message)
    system = examination.mounts.file_system(configuration.home)
    if configuration.database_url.startswith("sqlite") and not system.is_safe:
        message = f'"{configuration.home}" is on {system}, where SQLite is slow and may be damaged'
        yield warning("database", message, "set PREFECT_HOME to a folder on a local disk")


def judge_server(configuration: PrefectConfiguration, url: str, *, offline: bool) -> Finding:
    """Ask the server at ``url``; offline an answer is no more than good to know.

    No run waits for the server, but a person who configured one wants to see runs there.
    """
    limit_s = _OFFLINE_ANSWER_WITHIN_S if offline else _ANSWER_WITHIN_S
    try:
        # Looking up a name knows no time limit of its own.
        answer = in_time(lambda: _ask(configuration, url, limit_s), limit_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
    else:
        if answer is not None:
            return answer
        why = f"no answer within {limit_s:g} s"
    level = warning if offline else problem
    advice = "start it: prefect server start; or run without it: --offline"
    return level("server", f"{url} does not answer: {why}", advice)


def _ask(configuration: PrefectConfiguration, url: str, limit_s: float) -> Finding:
    with httpx.Client(
        headers=dict(configuration.headers), verify=configuration.certificates, timeout=limit_s
    ) as client:
        health = client.get(f"{url}/health")
        if health.status_code in (401, 403):
            return _refused(configuration, url, health.status_code)
        if health.status_code >= 500:
            message = f"{url} is not well: it answers {health.status_code}"
            return problem("server", message, "see the server's log")
        if health.status_code == 200 and health.text.strip() != "true":
            message = f"{url} answers, but not as Prefect's API does"
            return problem("server", message, 'PREFECT_API_URL has to end in "/api"')
        told = client.get(f"{url}/admin/version")
    # Prefect Cloud does not tell its version: it is newer than any client.
    theirs = told.text.strip().strip('"') if told.status_code == 200 else None
    return _compared(url, theirs)


def _refused(configuration: PrefectConfiguration, url: str, status: int) -> Finding:
    if not configuration.headers:
        message = f"{url} answers {status}: it asks who we are, which --offline does not tell"
        return ok("server", message)
    message = f"{url} refuses this user: it answers {status}"
    return problem("server", message, "set PREFECT_API_KEY or PREFECT_API_AUTH_STRING anew")


def _compared(url: str, theirs: str | None) -> Finding:
    try:
        ours = version("prefect")
    except PackageNotFoundError:
        ours = "not installed"
    if theirs is None:
        return ok("server", f"{url} answers (client {ours})")
    try:
        differ = Version(theirs).release[:2] != Version(ours).release[:2]
    except InvalidVersion:
        differ = theirs != ours
    if differ:
        message = f"{url} answers with version {theirs}, this client is {ours}"
        return warning("server", message, "let both have the same version")
    return ok("server", f"{url} answers (version {theirs})")
