"""Takes the secrets of service.json out of whatever agents say, before it is kept, told or handed on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from locum.config.secrets import resolve
from locum.engine.seats import Seats
from locum.errors import ConfigError

MASK = "•••"
SHORTEST = 8
"""Characters a value must have to be taken for a secret: a shorter one would blank out ordinary words."""
_SECRET_NAME = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$")


@dataclass(frozen=True)
class Redactor:
    """Replaces every one of `secrets`, and each long line of one that has several, by `MASK`."""

    secrets: frozenset[str] = frozenset()
    _pattern: re.Pattern[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Compile once, longest first, so that a secret which contains another goes whole."""
        parts = {part for secret in self.secrets for part in (secret, *secret.splitlines())}
        known = sorted((part for part in parts if len(part) >= SHORTEST), key=len, reverse=True)
        if known:
            object.__setattr__(self, "_pattern", re.compile("|".join(map(re.escape, known))))

    def __call__(self, text: str) -> str:
        """`text` without secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def redactor(seats: Seats) -> Redactor:
    """A redactor of every secret that the configuration names, in whichever tier: one agent may know another's."""
    return Redactor(frozenset(_secrets(seats)))


def _secrets(seats: Seats) -> Iterator[str]:
    for entry in seats.loaded.service.tier_entries.values():
        for name, value in entry.env.items():
            if isinstance(value, str):
                yield from _plain(name, value)
                continue
            try:
                yield resolve(value, seats.environ, seats.loaded.place.folder)
            except ConfigError:
                continue  # what cannot be read cannot have been given to an agent


def _plain(name: str, value: str) -> Iterable[str]:
    return (value,) if _SECRET_NAME.search(name) else ()
