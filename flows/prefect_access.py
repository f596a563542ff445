"""A Prefect server to talk to: the one that is configured, else one for the while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flows.ephemeral_server import EphemeralServer


@contextlib.contextmanager
def prefect_server() -> Iterator[str]:
    """Yield the API's URL.

    Where no server is configured one is started on the database of Prefect's home, and ended
    afterwards.  Raises ``ServerError`` where that fails.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    configured = PREFECT_API_URL.value()
    if configured:
        yield configured
        return
    server = EphemeralServer.start()
    try:
        server.wait_until_up()
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield server.api_url
    finally:
        server.stop()
