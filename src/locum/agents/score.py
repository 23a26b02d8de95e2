"""How good the rules are over everything that is known: precision and recall, and what they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from locum.agents.proof import SUCCESS, Trial, What, case_of
from locum.agents.registry import AGENTS
from locum.agents.replay import Case
from locum.agents.rules import Rule, shipped
from locum.policy.failure import FailureKind

OVERALL = "all failures"
_POSITIVE = (What.RUN, What.SENTENCE)
HEAD = ("kind", "runs", "sentences", "left alone", "precision", "recall")
BASIS_HEAD = ("rules for", "all", "with a recorded run", "only with a sentence", "with neither")


@dataclass(frozen=True, slots=True)
class Score:
    """What was tried of one kind. `runs` and `sentences` are of this kind, `left_alone` only look like it.

    `right` of them were told as this kind; `told` is how often it was told, rightly or not.
    """

    kind: str
    runs: int
    sentences: int
    left_alone: int
    right: int
    told: int

    @property
    def precision(self) -> float | None:
        """Of all that was told as this kind, how much was; None when nothing was."""
        return self.right / self.told if self.told else None

    @property
    def recall(self) -> float | None:
        """Of all that is of this kind, how much was told so; None when nothing is."""
        return self.right / (self.runs + self.sentences) if self.runs + self.sentences else None


@dataclass(frozen=True, slots=True)
class Basis:
    """What rules were made for: how many name a recorded run that is there, only a sentence, or neither.

    A sentence is one that somebody cited, so such a rule was never seen to read what an agent writes around it.
    """

    whose: str
    recorded: int
    cited: int
    neither: int

    @property
    def rules(self) -> int:
        """How many there are."""
        return self.recorded + self.cited + self.neither


def basis(whose: str, rules: Iterable[Rule], cases: Sequence[Case]) -> Basis:
    """What these rules were made for, each of them counted once."""
    counts = [0, 0, 0]
    for rule in {rule.id: rule for rule in rules}.values():
        mine = [case for case in cases if rule.agent in ("*", case.agent)]
        counts[0 if case_of(rule, mine) else 1 if rule.said else 2] += 1
    return Basis(whose, *counts)


def shipped_bases(cases: Sequence[Case]) -> tuple[Basis, ...]:
    """The rules that come with locum: one for each agent's own, one for those of every agent, and one for all."""
    every = [rule for name in AGENTS for rule in shipped(name)]
    named = {agent: [rule for rule in every if rule.agent == agent] for agent in (*AGENTS, "*")}
    found = [basis("every agent" if agent == "*" else agent, rules, cases) for agent, rules in named.items() if rules]
    return (*found, basis("all", every, cases))


def basis_table(found: Iterable[Basis]) -> Iterator[str]:
    """The same as rows for people, such as the documentation shows them."""
    yield f"| {' | '.join(BASIS_HEAD)} |"
    yield f"| {' | '.join(['---'] * len(BASIS_HEAD))} |"
    for each in found:
        counts = (each.rules, each.recorded, each.cited, each.neither)
        yield f"| {' | '.join((each.whose, *map(str, counts)))} |"


def scores(trials: Iterable[Trial]) -> tuple[Score, ...]:
    """One for success and for each kind that was tried, and in the end one for all failures."""
    tried = list(trials)
    kinds = [kind.value for kind in FailureKind]
    found = [_score(kind, {kind}, tried) for kind in (SUCCESS, *kinds)]
    return (*(each for each in found if each.runs + each.sentences + each.told), _score(OVERALL, set(kinds), tried))


def table(found: Iterable[Score]) -> Iterator[str]:
    """The same as rows for people, such as the documentation shows them."""
    yield f"| {' | '.join(HEAD)} |"
    yield f"| {' | '.join(['---'] * len(HEAD))} |"
    for each in found:
        counts = (each.runs, each.sentences, each.left_alone)
        parts = (percent(each.precision), percent(each.recall))
        yield f"| {' | '.join((each.kind, *map(str, counts), *parts))} |"


def percent(part: float | None) -> str:
    """A share as people read it; never rounded up to all of it."""
    return "-" if part is None else f"{int(part * 1000) / 10:g} %"


def _score(name: str, kinds: set[str], tried: Iterable[Trial]) -> Score:
    """A kind that is told for another one is wrong for both, also in the line of all of them."""
    counts = dict.fromkeys((*What, "right", "told"), 0)
    for trial in tried:
        if trial.what is What.PROOF:
            continue
        if trial.expected in kinds and trial.what in _POSITIVE:
            counts[trial.what] += 1
            counts["right"] += trial.told == trial.expected
        elif trial.about in kinds or (name == SUCCESS and trial.expected == SUCCESS):
            counts[What.TWIN] += 1
        told_here = trial.what in _POSITIVE or trial.expected != SUCCESS or trial.told != SUCCESS
        counts["told"] += trial.told in kinds and told_here
    return Score(name, counts[What.RUN], counts[What.SENTENCE], counts[What.TWIN], counts["right"], counts["told"])
