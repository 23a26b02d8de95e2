"""The user's own rules: those of service.json, and those that were added beside it."""

from __future__ import annotations

from locum.agents.rules import ADDED, SERVICE, Rule, parse_rules
from locum.config.load import Loaded


def own_rules(loaded: Loaded) -> tuple[Rule, ...]:
    """They are asked ahead of the shipped ones, in this order."""
    origins = ((SERVICE, loaded.service.signals), (ADDED, loaded.added))
    return tuple(
        rule
        for origin, found in origins
        for rule in parse_rules([each.model_dump(exclude_none=True) for each in found], origin=origin)
    )
