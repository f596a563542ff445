"""The adapter programs of the laboratory."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.experiment import Adapter, Expectation

_FOLDER = Path(__file__).parent / "adapters"


def library_adapter(
    library: str,
    *,
    distribution: str,
    model: str,
    parity: str,
    expected: tuple[Expectation, ...],
) -> Adapter:
    """Return the adapter whose program is ``tasks.laboratory.adapters.<library>``."""
    return Adapter(
        library=library,
        # -P: a folder of the run that is called like a library must not be imported for it.
        command=(sys.executable, "-P", "-m", f"tasks.laboratory.adapters.{library}"),
        model=model,
        parity=parity,
        expected=expected,
        distribution=distribution,
        inputs=(str(_FOLDER / f"{library}.py"),),
    )
