"""The real Gemini CLI under the real daemon: every way a provider can fail it, counted to the token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens
from tests.acceptance import real
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Case, Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]
AGENT = "gemini"
QUICK = {"stall_after": "8s"}
CASES = (
    # The exit code is the HTTP status, of which eight bits are left: 400 - 256 = 144. A bad key is a 400.
    Case("auth", (Step("auth"),), FailureKind.AUTH_ERROR, exit=144, hold=(30 * MINUTE,) * 2, on="account"),
    Case("forbidden", (Step("forbidden"),), FailureKind.AUTH_ERROR, exit=147, hold=(30 * MINUTE,) * 2, on="account"),
    Case("credit", (Step("credit"),), FailureKind.CREDIT_EXHAUSTED, exit=147, hold=(HOUR,) * 2, on="account"),
    # A day's quota is one of the model, and no reset is told: the window is known, and its end is not.
    Case("daily", (Step("usage_limit"),), FailureKind.USAGE_LIMIT, exit=173, hold=(MINUTE, 48 * HOUR), on="model"),
    Case("throttle", (Step("throttle", seconds=90),), FailureKind.RATE_LIMIT, exit=173, hold=(85, 125)),
    Case("overloaded", (Step("overloaded"),), FailureKind.OVERLOADED, exit=247, runs=3, hold=(MINUTE,) * 2),
    Case("e500", (Step("e500"),), FailureKind.SERVER_ERROR, exit=244, runs=3, hold=(MINUTE,) * 2),
    Case("badjson", (Step("bad_json"),), FailureKind.SERVER_ERROR, runs=3, hold=(MINUTE,) * 2),
    Case("cutstream", (Step("cut_stream"),), FailureKind.NETWORK, runs=3, hold=(30,) * 2),
    Case("toolong", (Step("tool"), Step("too_long")), FailureKind.CONTEXT_OVERFLOW, exit=144, fails=True),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2),
    Case("refused", (Step(),), FailureKind.NETWORK, runs=3, hold=(30,) * 2, refused=True),
    # A TERM ends it with code 0.
    Case("hang", (Step("hang"),), FailureKind.STALLED, exit=0, more=QUICK),
    Case("hangstream", (Step("tool"), Step("hang_stream")), FailureKind.STALLED, exit=0, more=QUICK),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with the failing tasks begun."""
    with real.stage(tmp_path_factory.mktemp("gemini"), CASES, AGENT) as begun:
        yield begun


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised; of an answer that was cut it tells nothing."""
    made.check(case, partial=False)


def test_a_stream_that_misses_its_end_is_no_success(made: Stage) -> None:
    """It ends with code 0, and tells what it had heard. Its log has forgotten the prompt: resuming it costs nothing."""
    first, second = "missing-first", "missing-second"
    made.world.chain_of("missing", [made.tier(first, AGENT, Step("error_stream")), made.tier(second, AGENT)])
    task = made.world.ended(made.world.begin("missing"), made.patience)
    path = real.path_of(task)
    assert (path[0], path[-1]) == ((first, "server_error", 0), (second, None, 0))
    assert set(path[1:-1]) == {(first, "server_error", 0), (first, "invalid_request", 42)}
    begun = [real.told(entry.tokens) for entry in made.provider.partial if entry.key == made.key(first)]
    assert made.counted(first) == sum(begun, Tokens()) != Tokens()
    made.audit()


@pytest.mark.parametrize(("name", "steps", "answers"), [("sse", (Step(),), 1), ("tool", (Step("tool"),), 2)])
def test_a_success_is_counted_to_the_token(made: Stage, name: str, steps: tuple[Step, ...], answers: int) -> None:
    """What went out whole is what the ledger holds, type by type, thoughts and all."""
    assert made.succeeds(name, AGENT, steps, answers)["said"] == "done"


def test_a_second_attempt_resumes_the_session(made: Stage) -> None:
    """The second attempt knows what the first did, and counts what is new alone."""
    real.a_second_attempt_goes_on_with_the_first(made, AGENT, 247)


def test_a_budget_moves_the_next_task(made: Stage) -> None:
    """Crossing a budget in mid-task costs that task nothing."""
    real.a_budget_is_crossed_in_the_middle_of_a_chain(made, AGENT)


def test_a_stopped_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """A clean stop in the middle of a run costs neither work nor tokens: the session is resumed."""
    real.stopped_and_gone_on_with(tmp_path, AGENT, 0)
