"""What a run has told of its cost, and whether that is known: the one rule, for whoever reads a run."""

from __future__ import annotations

from dataclasses import dataclass

from locum.agents.base import Agent, Mark, Signal, Success, Verdict
from locum.policy.usage import NO_TOKENS, Tokens, Usage, believable


@dataclass
class Bill:
    """What was told so far; the order in which it was told does not matter, nor does how often.

    | what was told | the run's usage |
    | --- | --- |
    | an absurd count | unknown |
    | a count that is counted: a row, or the agent's own total | known |
    | only a sum that cannot be counted: it was spent, and no row says by whom or when | unknown |
    | only that nothing was spent | known: 0 |
    | nothing, and the run ended well: the model has answered, and that costs something | unknown |
    | nothing, and the run failed | known: 0. A refusal costs nothing |

    A program that is not made to tell its usage (`reports_usage` False) is known by what it told all the same.
    """

    total: Tokens | None = None
    """The agent's own total, as it told it last."""
    _counted: bool = False
    _absurd: bool = False
    _uncounted: Tokens | None = None
    """The most that an end said was spent, which is not counted itself."""

    def take(self, told: Usage | Signal) -> None:
        """Heed what one line told."""
        tokens = told.tokens
        if tokens is None:
            return
        if isinstance(told, Signal) and told.mark is Mark.DONE:
            self._uncounted = tokens if self._uncounted is None else self._uncounted.largest(tokens)
        elif not believable(tokens):
            self._absurd = True
        elif isinstance(told, Usage):
            self._counted = True
        elif told.mark is Mark.TOTAL:
            self.total = tokens

    def is_known(self, agent: Agent, verdict: Verdict, reported: Tokens = NO_TOKENS) -> bool:
        """Whether it is known what a run of `agent` that ended so has spent; else what is counted is the least.

        `reported` is what the run has told us beside its output, as programs without usage in it may.
        """
        if self._absurd:
            return False
        if self._counted or self.total is not None:
            return True
        if not agent.reports_usage:
            return bool(reported)
        if self._uncounted is not None:
            return not self._uncounted
        return not isinstance(verdict, Success)
