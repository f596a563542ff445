"""Fixtures that every room's tests may ask for, and settings that hold for every test."""

from __future__ import annotations

import os
import signal

from hypothesis import settings
from support.prefect_server import prefect_server

__all__ = ["prefect_server"]

# A busy machine is no failure, and the same commit has the same examples wherever CI runs it.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Under nohup, and behind an "&" in a script, these are ignored, and so they would be by every run
# that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
