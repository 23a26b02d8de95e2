"""The real pi under the real daemon: exit code 0 whatever a provider does, and every failure known all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.policy.failure import FailureKind
from tests.acceptance import real
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Case, Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(180)]
AGENT = "pi"
CASES = (
    Case("auth", (Step("auth"),), FailureKind.AUTH_ERROR, exit=0, hold=(30 * MINUTE,) * 2, on="account"),
    Case("credit", (Step("credit"),), FailureKind.CREDIT_EXHAUSTED, exit=0, hold=(HOUR,) * 2, on="account"),
    Case("throttle", (Step("throttle", seconds=120),), FailureKind.RATE_LIMIT, exit=0, hold=(110, 135)),
    Case("overloaded", (Step("overloaded"),), FailureKind.OVERLOADED, exit=0, runs=3, hold=(MINUTE,) * 2),
    Case("errorstream", (Step("error_stream"),), FailureKind.OVERLOADED, exit=0, runs=3, hold=(MINUTE,) * 2),
    Case("e500", (Step("e500"),), FailureKind.SERVER_ERROR, exit=0, runs=3, hold=(MINUTE,) * 2),
    Case("cutstream", (Step("cut_stream"),), FailureKind.NETWORK, exit=0, runs=3, hold=(30,) * 2),
    Case("refused", (Step(),), FailureKind.NETWORK, exit=0, runs=3, hold=(30,) * 2, refused=True),
    # It takes a page of HTML for an empty answer, and calls that a success, also in the middle of the work.
    Case("badjson", (Step("tool"), Step("bad_json")), FailureKind.NO_RESULT, exit=0),
    Case("toolong", (Step("tool"), Step("too_long")), FailureKind.CONTEXT_OVERFLOW, exit=0, fails=True),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, exit=0, hold=(6 * HOUR,) * 2),
    Case("unknown", (Step(),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2, more={"model": "nope/none"}),
    Case("hang", (Step("hang"),), FailureKind.STALLED, exit=143, more={"stall_after": "6s"}),
    Case("hangstream", (Step("tool"), Step("hang_stream")), FailureKind.STALLED, exit=143, more={"stall_after": "6s"}),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with the failing tasks begun."""
    with real.stage(tmp_path_factory.mktemp("pi")) as made:
        made.patience = 120
        for case in CASES:
            made.begin(case, AGENT, wait=False)
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised for this failure."""
    made.check(case, partial=False)


def test_it_asks_once(made: Stage) -> None:
    """Its own retries, twelve requests without our extension, are gone: whoever started it decides."""
    made.ended("e500")
    assert len(made.requests("e500-first")) == 3


def test_a_limit_is_held_until_the_told_reset(made: Stage) -> None:
    """The reset that pi drops from what the provider said is told by our extension."""
    tiers = [
        made.tier("limit-first", AGENT, Step("usage_limit", reset_in_s=2 * HOUR)),
        made.tier("limit-second", AGENT),
    ]
    made.world.chain_of("limit", tiers)
    assert real.path_of(made.world.do("limit")) == [("limit-first", "usage_limit", 0), ("limit-second", None, 0)]
    (hold,) = made.held("limit")
    assert (hold.kind, hold.on, hold.active) == ("usage_limit", "account", "limit-second")
    reset = made.requests("limit-first")[-1].at_ms // 1000 + 2 * HOUR
    assert reset - 1 <= hold.until <= reset + 30 + 1


@pytest.mark.parametrize(
    ("name", "steps", "answers"),
    [("sse", (Step(),), 1), ("tool", (Step("tool"),), 2), ("slow", (Step("slow", seconds=2),), 1)],
)
def test_a_success_is_counted_to_the_token(made: Stage, name: str, steps: tuple[Step, ...], answers: int) -> None:
    """What went out whole is what the ledger holds, type by type."""
    made.succeeds(name, AGENT, steps, answers)


def test_a_second_attempt_resumes_the_session(made: Stage) -> None:
    """`--session` is what the second attempt is started with: it knows what the first did, and counts it once."""
    real.a_second_attempt_goes_on_with_the_first(made, AGENT, code=0)


def test_a_budget_moves_the_next_task(made: Stage) -> None:
    """Crossing a budget in mid-task costs that task nothing."""
    real.a_budget_is_crossed_in_the_middle_of_a_chain(made, AGENT)


def test_another_agent_takes_over(made: Stage) -> None:
    """The work of pi is handed over to Claude Code with a note."""
    real.moves_to_the_other_agent(made, AGENT, code=0)


def test_the_command_line_tells_how_it_went(made: Stage) -> None:
    """What a person sees is words, and what a script sees is 0 or 1."""
    real.the_command_line_tells_it(made, AGENT)


def test_a_killed_daemon_finds_its_agent_again(tmp_path: Path) -> None:
    """Kill -9 in the middle of a run loses and doubles nothing, also when the agent ends before the next daemon."""
    real.killed_and_found_again(tmp_path, AGENT, ends_meanwhile=True)


def test_a_stopped_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """A clean stop in the middle of a run costs neither work nor tokens: the session is resumed."""
    real.stopped_and_gone_on_with(tmp_path, AGENT)
