"""Whether a run's usage is known follows from what was told, whoever told it and in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.agents.base import Mark, Signal, Success, Verdict
from locum.agents.bill import Bill
from locum.agents.registry import AGENTS
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import LARGEST, NO_TOKENS, Tokens, Usage

SOME, ABSURD = Tokens(500, 6), Tokens(LARGEST + 1)
TOLD: dict[str, Usage | Signal] = {
    "row": Usage("m1", SOME),
    "total": Signal(Mark.TOTAL, tokens=SOME),
    "end with a sum": Signal(Mark.DONE, tokens=SOME),
    "end with zero": Signal(Mark.DONE, tokens=NO_TOKENS),
    "end without a sum": Signal(Mark.DONE),
    "word": Signal(Mark.SAID, "hi"),
    "failure": Signal(Mark.FAILED, "no"),
    "absurd row": Usage("m2", ABSURD),
    "negative row": Usage("m3", Tokens(-1)),
    "absurd total": Signal(Mark.TOTAL, tokens=ABSURD),
}
VERDICTS: list[Verdict] = [Success(), Failure(FailureKind.AUTH_ERROR, "no")]


def bill_of(told: list[str]) -> Bill:
    """What comes of these."""
    bill = Bill()
    for name in told:
        bill.take(TOLD[name])
    return bill


def is_known(told: set[str], verdict: Verdict, *, tells: bool, reported: bool) -> bool:
    """The rule, written as a person would say it."""
    if told & {"absurd row", "negative row", "absurd total"}:
        return False
    if told & {"row", "total"}:
        return True
    if not tells:
        return reported
    if "end with a sum" in told:
        return False
    return "end with zero" in told or isinstance(verdict, Failure)


@given(
    told=st.lists(st.sampled_from(sorted(TOLD)), max_size=8),
    agent=st.sampled_from(sorted(AGENTS)),
    verdict=st.sampled_from(VERDICTS),
    reported=st.sampled_from([NO_TOKENS, SOME]),
    data=st.data(),
)
def test_the_rule_holds_whatever_is_told(
    told: list[str], agent: str, verdict: Verdict, reported: Tokens, data: st.DataObject
) -> None:
    """Any lines, in any order and told again, of any agent: known where a person would call it known."""
    again = data.draw(st.permutations(told + told[:2]))
    wanted = is_known(set(told), verdict, tells=AGENTS[agent].reports_usage, reported=bool(reported))
    for order in (told, again):
        assert bill_of(order).is_known(AGENTS[agent], verdict, reported) is wanted


@pytest.mark.parametrize("told", [[], ["absurd total"], ["row", "end with a sum"]])
def test_a_total_is_only_what_was_told_as_one(told: list[str]) -> None:
    """No count but the agent's own total is taken for it, and none that cannot be true."""
    assert bill_of(told).total is None
    assert bill_of([*told, "total"]).total == SOME
