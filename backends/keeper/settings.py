"""What a driver tells its keeper about the run when it says hello."""

from __future__ import annotations

from backends.keeper.protocol import (
    Message,
    ProtocolError,
    seconds_field,
    text_field,
    whole_field,
)
from backends.process_tree import Identity


class Settings:
    """The run, as the keeper needs to know it."""

    __slots__ = (
        "adopt_within_s",
        "cwd",
        "environment",
        "grace_s",
        "jobs_directory",
        "keep_on_crash",
        "number",
        "run",
        "run_directory",
        "settle_command",
        "socket_path",
    )

    def __init__(self, context: Message) -> None:
        """Check and take what a hello says; raises ``ProtocolError``."""
        self.run = text_field(context, "run")
        self.number = whole_field(context, "number")
        self.run_directory = text_field(context, "run_directory")
        self.jobs_directory = f"{self.run_directory}/jobs"
        self.socket_path = text_field(context, "socket")
        self.cwd = text_field(context, "cwd")
        self.environment = _texts(context.get("environment"))
        self.keep_on_crash = text_field(context, "on_crash") == "keep"
        self.adopt_within_s = _seconds(context, "adopt_within_s")
        self.grace_s = _seconds(context, "grace_s")
        command = context.get("settle_command")
        if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
            raise ProtocolError("'settle_command' is no list of texts")
        self.settle_command: list[str] = command


def driver_identity(hello: Message) -> Identity:
    """Return which process the driver is; raises ``ProtocolError``."""
    driver = hello.get("driver")
    if not isinstance(driver, dict):
        raise ProtocolError("'driver' is no object")
    return whole_field(driver, "pid"), whole_field(driver, "start_time")


def _seconds(context: Message, name: str) -> float:
    value = seconds_field(context, name)
    if value is None:
        raise ProtocolError(f"{name!r} is missing")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ProtocolError("'environment' is no object of texts")
    return value
