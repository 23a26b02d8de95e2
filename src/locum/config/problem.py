"""What is wrong with a configuration, told so that it can be mended."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from locum.errors import ConfigError

At = tuple[str | int, ...]
"""The path to a value: `("failover", "tiers", 0, "name")`."""


class Severity(StrEnum):
    """How much a problem matters."""

    ERROR = "error"  # the file is refused
    WARNING = "warning"  # the file is used, but something in it does less than it says


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. `line` and `column` count from 1, in characters; `line` 0 means the file as a whole.

    `what` is found there, `why` it cannot stand, `remedy` what to do. No part ever shows a secret.
    """

    path: Path
    line: int
    column: int
    what: str
    why: str
    remedy: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else f"{self.path}"
        mark = "warning: " if self.severity is Severity.WARNING else ""
        text = f"{place}: {mark}{self.what}, {self.why}, {self.remedy}"
        return text if text.endswith((".", "?")) else f"{text}."


class InvalidConfigError(ConfigError):
    """The configuration cannot be used."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Carry every problem of the file at once, in the order of the file; there is at least one."""
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        assert self.problems, "an invalid configuration has a problem"
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join((f"The configuration cannot be used: {count}.", *map(str, self.problems))))


@dataclass(frozen=True, slots=True)
class Issue:
    """A problem before its place in the file is known: `at` is the path to the value (or, with `key`, to its name)."""

    at: At
    what: str
    why: str
    remedy: str
    key: bool = False
    severity: Severity = Severity.ERROR


def suggest(word: object, choices: Sequence[str], otherwise: str = "") -> str:
    """What to write instead of `word`: the nearest of `choices`, else `otherwise`, else all if few."""
    folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(str(word).casefold()[:100], folded, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{folded[near[0]]}`?"
    if otherwise or not choices or len(choices) > 25:
        return otherwise or "remove it"
    return f"use {'one of ' if len(choices) > 1 else ''}{', '.join(f'`{choice}`' for choice in choices)}"


def plain(text: str) -> str:
    """Text of the file, fit to be shown on a terminal: short and without control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:80])


def dotted(at: Iterable[str | int]) -> str:
    """A path as people write it: `failover.tiers[0].name`."""
    text = ""
    for step in at:
        text += f"[{step}]" if isinstance(step, int) else f".{plain(step)}" if text else plain(step)
    return text
