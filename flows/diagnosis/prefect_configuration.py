"""What Prefect is configured to, as Prefect says or, without importing it, as its files say."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PASSWORD = re.compile(r"(://[^:/@]*):[^@]*@")
_DATABASE_VARIABLES = (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
)


@dataclass(frozen=True, slots=True)
class PrefectConfiguration:
    """Where Prefect finds its server, or what a server of a run's own would use."""

    profile: str
    source: Path | None
    """The file that the profile is read from; ``None`` for the one that comes with Prefect."""
    home: Path
    api_url: str | None
    database_url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    certificates: bool | str = True
    """``False`` for any certificate, or the path of those to trust."""
    trouble: str = ""
    """What is wrong with the files themselves."""

    @property
    def database(self) -> str:
        """The database of a server of a run's own, without its password."""
        return _PASSWORD.sub(r"\1:***@", self.database_url)


def ask_prefect() -> PrefectConfiguration:
    """Return the configuration as Prefect understands it; imports Prefect."""
    from prefect.context import get_settings_context
    from prefect.settings.constants import DEFAULT_PROFILES_PATH

    from flows.prefect_settings import connection

    context = get_settings_context()
    home = Path(context.settings.home)
    url = context.settings.api.url
    headers, certificates = ({}, True) if url is None else connection()[1:]
    secret = context.settings.server.database.connection_url
    database_url = _default_database(home) if secret is None else secret.get_secret_value()
    source = context.profile.source
    wanted = os.environ.get("PREFECT_PROFILE")
    trouble = _no_such_profile(wanted) if wanted not in (None, "", context.profile.name) else ""
    return PrefectConfiguration(
        profile=context.profile.name,
        source=None if source == DEFAULT_PROFILES_PATH else source,
        home=home,
        api_url=url,
        database_url=database_url,
        headers=headers,
        certificates=certificates,
        trouble=trouble,
    )


def read_configuration(environment: Mapping[str, str] = os.environ) -> PrefectConfiguration:
    """Return the configuration that environment and profiles state; Prefect is not imported."""
    home = Path(environment.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    source = Path(environment.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    trouble = ""
    try:
        profiles = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        profiles = {}
    except (OSError, ValueError) as error:
        profiles, trouble = {}, f'"{source}" cannot be read: {error}'
    name, settings = _active(profiles, environment.get("PREFECT_PROFILE"))
    wanted = environment.get("PREFECT_PROFILE") or profiles.get("active")
    if not trouble and wanted and wanted != name:
        trouble = _no_such_profile(wanted)
    values = {**(settings or {}), **{key: value for key, value in environment.items() if value}}
    databases = (values[key] for key in _DATABASE_VARIABLES if key in values)
    return PrefectConfiguration(
        profile=name,
        source=None if settings is None else source,
        home=home,
        api_url=values.get("PREFECT_API_URL"),
        database_url=next(databases, _default_database(home)),
        trouble=trouble,
    )


def _active(profiles: Mapping[str, Any], wanted: str | None) -> tuple[str, dict[str, str] | None]:
    """Return the name of the profile in use, and its settings if it is in the file.

    One that is not is passed over for the default, as Prefect does.
    """
    name = wanted or profiles.get("active")
    known = profiles.get("profiles")
    if not isinstance(known, dict) or not isinstance(known.get(name), dict):
        return "ephemeral", None
    return str(name), {key: str(value) for key, value in known[name].items()}


def _no_such_profile(name: object) -> str:
    return f'there is no profile "{name}", so the default one is in use'


def _default_database(home: Path) -> str:
    return f"sqlite+aiosqlite:///{home / 'prefect.db'}"
