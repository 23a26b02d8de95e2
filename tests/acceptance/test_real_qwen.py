"""The real Qwen Code under the real daemon: every failure that it calls a success, counted to the token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from locum.policy.failure import FailureKind
from tests.acceptance import real
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Case, Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]
AGENT = "qwen"
QUICK = {"stall_after": "8s"}
# What it tries again it tries seven times, in more than a minute, and no setting bounds that; here it is stopped in the
# first wait that is longer than 18 s. What it retried for its chat log says, and that is the failure.
RETRIED: dict[str, Any] = {"exit": 143, "more": {"stall_after": "18s"}}
SLOW = (
    Case("credit", (Step("credit"),), FailureKind.CREDIT_EXHAUSTED, hold=(HOUR,) * 2, on="account", **RETRIED),
    Case("limit", (Step("usage_limit"),), FailureKind.USAGE_LIMIT, hold=(MINUTE, 48 * HOUR), on="account", **RETRIED),
    Case("throttle", (Step("throttle"),), FailureKind.RATE_LIMIT, hold=(MINUTE,) * 2, **RETRIED),
)
CASES = (
    Case("auth", (Step("auth"),), FailureKind.AUTH_ERROR, exit=0, hold=(30 * MINUTE,) * 2, on="account"),
    Case("forbidden", (Step("forbidden"),), FailureKind.AUTH_ERROR, exit=0, hold=(30 * MINUTE,) * 2, on="account"),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, exit=0, hold=(6 * HOUR,) * 2),
    Case("toolong", (Step("tool"), Step("too_long")), FailureKind.CONTEXT_OVERFLOW, exit=0, fails=True),
    Case("errorstream", (Step("error_stream"),), FailureKind.OVERLOADED, exit=0, runs=3, hold=(MINUTE,) * 2),
    Case("cutstream", (Step("cut_stream"),), FailureKind.NETWORK, exit=0, runs=3, hold=(30,) * 2),
    Case("refused", (Step(),), FailureKind.NETWORK, exit=0, runs=3, hold=(30,) * 2, refused=True),
    Case("hang", (Step("hang"),), FailureKind.STALLED, exit=143, more=QUICK),
    Case("hangstream", (Step("tool"), Step("hang_stream")), FailureKind.STALLED, exit=143, more=QUICK),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with the failing tasks begun."""
    with real.stage(tmp_path_factory.mktemp("qwen")) as begun:
        for case in SLOW:
            first = begun.tier(f"{case.name}-first", AGENT, *case.steps, **case.more)
            begun.world.chain_of(case.name, [first, begun.tier(f"{case.name}-second", AGENT)])
            begun.begun[case.name] = begun.world.begin(case.name, "say done")
        for case in CASES:
            begun.begin(case, AGENT)
        yield begun


@pytest.mark.parametrize("case", CASES + SLOW, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised for this failure."""
    made.check(case, partial=False)


@pytest.mark.parametrize(("name", "steps", "answers"), [("sse", (Step(),), 1), ("tool", (Step("tool"),), 2)])
def test_a_success_is_counted_to_the_token(made: Stage, name: str, steps: tuple[Step, ...], answers: int) -> None:
    """What went out whole is what the ledger holds, type by type; nothing is asked in the background."""
    assert made.succeeds(name, AGENT, steps, answers)["said"] == "done"
    assert len(made.requests(f"ok-{name}-first")) == answers


def test_a_second_attempt_resumes_the_session(made: Stage) -> None:
    """The second attempt knows what the first did. What its result tells is the sum of both; what is new is counted."""
    name = "resume-qwen"
    first = f"{name}-first"
    steps = Step("tool", command="echo the-work-so-far"), Step("cut_stream"), Step()
    made.world.chain_of(name, [made.tier(first, AGENT, *steps), made.tier(f"{name}-second", AGENT)])
    task = made.world.do(name, "paint the fence green")
    assert real.path_of(task) == [(first, "network", 0), (first, None, 0)]
    assert task["runs"][0]["session"] == task["runs"][1]["session"] is not None
    asked = made.told(first)[-1]
    assert all(text in asked for text in ("Continue; do not redo", "paint the fence green", "the-work-so-far"))
    spent = [entry.tokens.total for entry in made.provider.issued if entry.key == made.key(first)]
    assert [run["tokens"]["total"] for run in task["runs"]] == spent
    assert real.known(task) == made.counted(first) == made.issued(first)
    made.audit()


def test_a_budget_moves_the_next_task(made: Stage) -> None:
    """Crossing a budget in mid-task costs that task nothing."""
    real.a_budget_is_crossed_in_the_middle_of_a_chain(made, AGENT)


def test_a_stopped_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """A clean stop in the middle of a run costs neither work nor tokens: the session is resumed."""
    real.stopped_and_gone_on_with(tmp_path, AGENT)
