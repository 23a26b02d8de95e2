"""The real Codex under the real daemon: every way a provider can fail it, counted to the token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens
from tests.acceptance import real
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Case, Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(180)]
AGENT = "codex"
CASES = (
    Case("auth", (Step("auth"),), FailureKind.AUTH_ERROR, hold=(30 * MINUTE,) * 2, on="account"),
    Case("forbidden", (Step("forbidden"),), FailureKind.AUTH_ERROR, hold=(30 * MINUTE,) * 2, on="account"),
    Case("credit", (Step("credit"),), FailureKind.CREDIT_EXHAUSTED, hold=(HOUR,) * 2, on="account"),
    # Codex does not tell the retry-after, so there is nothing to wait out in place.
    Case("throttle", (Step("throttle", seconds=1),), FailureKind.RATE_LIMIT, hold=(MINUTE,) * 2),
    Case("overloaded", (Step("overloaded"),), FailureKind.OVERLOADED, runs=3, hold=(MINUTE,) * 2),
    Case("errorstream", (Step("error_stream"),), FailureKind.OVERLOADED, runs=3, hold=(MINUTE,) * 2),
    Case("e500", (Step("e500"),), FailureKind.SERVER_ERROR, runs=3, hold=(MINUTE,) * 2),
    Case("e503", (Step("e503"),), FailureKind.SERVER_ERROR, runs=3, hold=(MINUTE,) * 2),
    Case("badjson", (Step("bad_json"),), FailureKind.SERVER_ERROR, runs=3, hold=(MINUTE,) * 2),
    Case("cutstream", (Step("cut_stream"),), FailureKind.NETWORK, runs=3, hold=(30,) * 2),
    Case("toolong", (Step("tool"), Step("too_long")), FailureKind.CONTEXT_OVERFLOW, fails=True),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2),
    # It would wait for the network for ever; stopped, it says what it waited for.
    Case(
        "refused",
        (Step(),),
        FailureKind.NETWORK,
        exit=143,
        runs=3,
        hold=(30,) * 2,
        refused=True,
        more={"stall_after": "6s"},
    ),
    Case("hang", (Step("hang"),), FailureKind.STALLED, exit=143, more={"stall_after": "6s"}),
    Case("hangstream", (Step("tool"), Step("hang_stream")), FailureKind.STALLED, exit=143, more={"stall_after": "6s"}),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with the failing tasks begun."""
    with real.stage(tmp_path_factory.mktemp("codex"), CASES, AGENT) as begun:
        yield begun


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised for this failure."""
    made.check(case, partial=False)


@pytest.mark.parametrize("window", ["five_hour", "seven_day"])
def test_a_subscriptions_limit_is_held_until_the_told_reset(made: Stage, window: str) -> None:
    """The account is held until the vendor's own reset, and a little jitter, not a guess."""
    chain = f"limit-{window}"
    step = Step("usage_limit", reset_in_s=2 * HOUR, window=window)
    tiers = [made.tier(f"{chain}-first", AGENT, step), made.tier(f"{chain}-second", AGENT)]
    made.world.chain_of(chain, tiers)
    task = made.world.do(chain)
    assert real.path_of(task) == [(f"{chain}-first", "usage_limit", 1), (f"{chain}-second", None, 0)]
    (hold,) = made.held(chain)
    assert (hold.kind, hold.on, hold.active) == ("usage_limit", "account", f"{chain}-second")
    reset = made.requests(f"{chain}-first")[-1].at_ms // 1000 + 2 * HOUR
    assert reset - 1 <= hold.until <= reset + 30 + 1
    assert made.counted(f"{chain}-first") == Tokens()
    assert made.counted(f"{chain}-second") == made.issued(f"{chain}-second") != Tokens()
    made.audit()


@pytest.mark.parametrize(
    ("name", "steps", "answers"),
    [
        ("sse", (Step(),), 1),
        ("tool", (Step("tool"),), 2),
        ("slow", (Step("slow", seconds=2),), 1),
        ("warned", (Step("tool", used_percent=95),), 2),
    ],
)
def test_a_success_is_counted_to_the_token(made: Stage, name: str, steps: tuple[Step, ...], answers: int) -> None:
    """What went out whole is what the ledger holds, type by type, whichever way it came."""
    made.succeeds(name, AGENT, steps, answers)


def test_a_prompt_that_is_too_large_fails_with_a_remedy(made: Stage) -> None:
    """Codex refuses more than a million characters; the task fails, no tier is held, and the reason says what to do."""
    made.world.chain_of("large", [made.tier("large-first", AGENT), made.tier("large-second", AGENT)])
    task = made.world.do("large", "x" * 1_100_000)
    assert real.path_of(task) == [("large-first", "context_overflow", 1)]
    assert task["state"] == "failed"
    assert "name the file in the prompt" in task["reason"]
    assert made.held("large") == []
    assert made.requests("large-first") == []


def test_what_the_vendor_says_of_its_window_is_shown(made: Stage) -> None:
    """A window that is nearly used up is seen before the first failure, not after it."""
    made.warned(AGENT, oauth=False)


def test_a_second_attempt_resumes_the_session(made: Stage) -> None:
    """`exec resume` is what the second attempt is started with: it knows what the first did."""
    real.a_second_attempt_goes_on_with_the_first(made, AGENT)


def test_a_budget_moves_the_next_task(made: Stage) -> None:
    """Crossing a budget in mid-task costs that task nothing."""
    real.a_budget_is_crossed_in_the_middle_of_a_chain(made, AGENT)


def test_claude_code_takes_over(made: Stage) -> None:
    """Codex's work is handed over to Claude Code with a note."""
    real.moves_to_the_other_agent(made, AGENT)


def test_the_command_line_tells_how_it_went(made: Stage) -> None:
    """What a person sees is words, and what a script sees is 0 or 1."""
    real.the_command_line_tells_it(made, AGENT)


@pytest.mark.parametrize("ends_meanwhile", [False, True], ids=["runs-on", "ends-meanwhile"])
def test_a_killed_daemon_finds_its_agent_again(tmp_path: Path, *, ends_meanwhile: bool) -> None:
    """Kill -9 in the middle of a run loses and doubles nothing, whether or not the agent ends before the next daemon."""
    real.killed_and_found_again(tmp_path, AGENT, ends_meanwhile=ends_meanwhile)


def test_a_daemon_killed_before_it_read_a_word_misses_nothing(tmp_path: Path) -> None:
    """Kill -9 right after the start: what the agent then says and spends is found by the next daemon."""
    real.killed_before_a_word_was_read(tmp_path, AGENT)


def test_a_stopped_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """A clean stop in the middle of a run costs neither work nor tokens: the session is resumed."""
    real.stopped_and_gone_on_with(tmp_path, AGENT)
