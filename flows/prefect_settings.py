"""Where Prefect's settings say that its server is, and how to speak to it."""

from __future__ import annotations

import base64

from prefect.settings import get_current_settings

from tasks.errors import InputError


def connection(api_url: str | None = None) -> tuple[str, dict[str, str], bool | str]:
    """Return the API's URL, the headers that each request needs, and how to check certificates.

    ``api_url`` is a server that no setting names, such as one that Prefect itself has started.
    The third is ``False`` for any certificate, or the path of those to trust.  Raises
    ``InputError`` where no server is configured.
    """
    api = get_current_settings().api
    url = api.url if api_url is None else api_url.rstrip("/")
    if url is None:
        raise InputError(["no Prefect server is configured; set PREFECT_API_URL, or use --offline"])
    headers: dict[str, str] = {}
    if api.key is not None:
        headers["Authorization"] = f"Bearer {api.key.get_secret_value()}"
    elif api.auth_string is not None:
        secret = base64.b64encode(api.auth_string.get_secret_value().encode()).decode()
        headers["Authorization"] = f"Basic {secret}"
    headers.update(get_current_settings().client.custom_headers)
    return url, headers, _verify(api.tls_insecure_skip_verify, api.ssl_cert_file)


def _verify(skip: bool, certificates: str | None) -> bool | str:
    return False if skip else certificates or True
