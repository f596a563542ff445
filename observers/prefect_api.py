"""The few calls of a Prefect server's API that observing needs, over plain HTTP.

Prefect itself is not imported: a report costs little, and a run that lacks a server must not
pay for one.  ``httpx`` is imported with the first client.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.errors import HoldfastError

if TYPE_CHECKING:
    import ssl

    import httpx

TIMEOUT_S = 30.0
_BODY_CHARACTERS = 1_000
_TOO_MANY_REQUESTS = 429


class PrefectError(HoldfastError):
    """The Prefect server could not be told or asked something."""


class ServerAway(PrefectError):  # noqa: N818 - a condition that passes
    """The server does not answer, or says that it cannot now; later it may.

    ``retry_after_s``: how long it asked to be left alone, if it did.  ``is_busy``: it is there
    and answers, only not what was asked: a server that records a backlog on SQLite does that.
    """

    def __init__(
        self, message: str, retry_after_s: float | None = None, *, is_busy: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_busy = is_busy


class RequestRefused(PrefectError):  # noqa: N818 - what the server did
    """The server does not take this request, however often it is sent."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_about_content(self) -> bool:
        """Whether it is what was sent, not who sent it or where to."""
        return self.status in (400, 409, 413, 422)


@dataclass(frozen=True, slots=True)
class PrefectConnection:
    """Where a Prefect server is and how to speak to it."""

    api_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Authorization and whatever else each request carries; never written to disk."""
    verify: bool | str = True
    """``False``: any certificate will do; a path: the certificates to trust."""


class PrefectApi:
    """A client for one thread.  Every method raises ``ServerAway`` or ``RequestRefused``."""

    def __init__(self, connection: PrefectConnection, *, timeout_s: float = TIMEOUT_S) -> None:
        import httpx

        self._errors = (httpx.HTTPError, httpx.InvalidURL, OSError)
        self.connection = connection
        self._csrf: dict[str, str] = {}
        self._client = httpx.Client(
            base_url=connection.api_url,
            headers=dict(connection.headers),
            verify=_tls(connection.verify),
            timeout=timeout_s,
            follow_redirects=True,
        )

    def post_events(self, events: Sequence[str]) -> None:
        """Hand events, each as JSON, to the server; it may take them and yet not keep them."""
        self._ask("POST", "/events", f"[{','.join(events)}]")

    def count_task_runs(self, task_runs: Mapping[str, Any]) -> int:
        """Return how many task runs match the filter."""
        count = self._read("POST", "/task_runs/count", _json({"task_runs": task_runs}))
        return count if isinstance(count, int) else 0

    def flow_run(self, flow_run_id: str) -> dict[str, Any] | None:
        """Return the flow run as the API gives it; ``None`` if the server has none of that id."""
        try:
            found = self._read("GET", f"/flow_runs/{_checked(flow_run_id)}")
        except RequestRefused as refused:
            if refused.status == 404:
                return None
            raise
        return found if isinstance(found, dict) else None

    def flow_run_called(self, name: str) -> str | None:
        """Return the id of the newest flow run of this name; ``None`` if there is none."""
        wanted = {"flow_runs": {"name": {"any_": [name]}}, "limit": 1, "sort": "START_TIME_DESC"}
        found = self._read("POST", "/flow_runs/filter", _json(wanted))
        return str(found[0]["id"]) if found else None

    def force_flow_run_state(
        self, flow_run_id: str, state_type: str, name: str, message: str
    ) -> None:
        """Set the flow run's state, whatever state it is in and whatever Prefect's rules say."""
        state = {"type": state_type, "name": name, "message": message}
        path = f"/flow_runs/{_checked(flow_run_id)}/set_state"
        self._ask("POST", path, _json({"state": state, "force": True}))

    def close(self) -> None:
        """Let go of the connections.  Idempotent."""
        self._client.close()

    def _read(self, method: str, path: str, body: str | None = None) -> Any:
        response = self._ask(method, path, body)
        try:
            return response.json()
        except ValueError as error:
            # Something between us and the server answers in its place.
            said = f"{method} {self.connection.api_url}{path}: no JSON: {_beginning(response)}"
            raise ServerAway(said) from error

    def _ask(self, method: str, path: str, body: str | None = None) -> httpx.Response:
        response = self._send(method, path, body)
        if response.status_code == 403 and "csrf" in response.text.lower():
            # A server may ask for a token that it hands out itself, and that grows old.
            self._renew_csrf()
            response = self._send(method, path, body)
        status = response.status_code
        if status < 400:
            return response
        said = f"{method} {self.connection.api_url}{path}: {status} {_beginning(response)}"
        if status == _TOO_MANY_REQUESTS or status >= 500:
            raise ServerAway(said, _retry_after_s(response), is_busy=True)
        raise RequestRefused(said, status)

    def _send(self, method: str, path: str, body: str | None) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            return self._client.request(
                method, path, content=body, headers={**headers, **self._csrf}
            )
        except self._errors as error:
            reason = str(error) or type(error).__name__
            raise ServerAway(f"{self.connection.api_url}: {reason}") from error

    def _renew_csrf(self) -> None:
        client = str(uuid.uuid4())
        response = self._send("GET", f"/csrf-token?client={client}", None)
        if response.status_code == 200:
            token = str(response.json()["token"])
            self._csrf = {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}


def _checked(flow_run_id: str) -> str:
    """Return the id as it may stand in a path; raises ``ValueError`` if it is none."""
    return str(uuid.UUID(flow_run_id))


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _tls(verify: bool | str) -> bool | ssl.SSLContext:
    if not isinstance(verify, str):
        return verify
    import ssl

    return ssl.create_default_context(cafile=verify)


def _beginning(response: httpx.Response) -> str:
    text = " ".join(response.text.split())
    return text if len(text) <= _BODY_CHARACTERS else text[:_BODY_CHARACTERS] + " ..."


def _retry_after_s(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None
