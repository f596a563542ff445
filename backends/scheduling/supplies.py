"""All supplies of one run, made from its limits."""

from __future__ import annotations

from collections.abc import Mapping

from backends.scheduling.id_pool import IdPool
from backends.scheduling.limits import Limits, ResourceLimit
from backends.scheduling.supply import UNLIMITED, Supply


class Supplies:
    """The slots of the run and of each backend, and each named resource."""

    def __init__(self, limits: Limits) -> None:
        self.all: list[Supply] = []
        self.slots = self._add(Supply("a slot", UNLIMITED, is_slot=True))
        """Those of the whole run."""
        self._terminal = self._add(Supply("the terminal", 1, is_slot=False))
        self._backends: dict[str, Supply] = {}
        self._resources = {
            name: self._add(_resource(name, limit)) for name, limit in limits.resources.items()
        }
        self.apply(limits)

    def add_backend(self, name: str, limits: Limits) -> None:
        """Have slots for one more backend."""
        if name not in self._backends:
            self._backends[name] = self._add(
                Supply(f'a slot of backend "{name}"', UNLIMITED, is_slot=True)
            )
            self.apply(limits)

    def request(
        self, backend: str, resources: Mapping[str, int], *, interactive: bool = False
    ) -> list[tuple[Supply, int]]:
        """Return what an attempt takes: resources first, so that messages name the scarcer."""
        named = [(self._resources[name], asked) for name, asked in resources.items() if asked]
        if interactive:
            named.append((self._terminal, 1))
        return [*named, (self._backends[backend], 1), (self.slots, 1)]

    def apply(self, limits: Limits) -> None:
        """Change the limits; what is in use stays so until it is handed back."""
        _set_slots(self.slots, limits.max_parallel)
        for name, supply in self._backends.items():
            _set_slots(supply, limits.backends.get(name))
        for name, supply in self._resources.items():
            given = limits.resources[name]
            supply.limit = limits.available(name) or 0
            if supply.pool is not None and isinstance(given, tuple):
                supply.pool.replace(given)

    def _add(self, supply: Supply) -> Supply:
        self.all.append(supply)
        return supply


def _resource(name: str, limit: ResourceLimit) -> Supply:
    pool = IdPool(limit) if isinstance(limit, tuple) else None
    return Supply(name, 0, is_slot=False, pool=pool)


def _set_slots(supply: Supply, limit: int | None) -> None:
    supply.limit = UNLIMITED if limit is None else limit
