"""Lets programs that tests start import the project, and what stands beside the tests."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The project first: below tests/ there are folders of the same names, which are no packages.
PYTHON_PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
