"""The real opencode under the real daemon: it retries in silence, ends aborted runs with code 0 and ignores TERM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens
from tests.acceptance import real
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Case, Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]
AGENT = "opencode"
SECOND = "pi"  # it starts in a quarter of the time
ENDED = (143, 137)  # by TERM, or by KILL where it did not heed that
CASES = (
    Case("auth", (Step("auth"),), FailureKind.AUTH_ERROR, hold=(30 * MINUTE,) * 2, on="account"),
    # What it would retry, our plugin ends: with code 0, and nothing on standard output.
    Case("credit", (Step("credit"),), FailureKind.CREDIT_EXHAUSTED, exit=0, hold=(HOUR,) * 2, on="account"),
    Case("throttle", (Step("throttle", seconds=120),), FailureKind.RATE_LIMIT, exit=0, hold=(110, 135)),
    Case("overloaded", (Step("overloaded"),), FailureKind.OVERLOADED, exit=0, runs=3, hold=(MINUTE,) * 2),
    Case("refused", (Step(),), FailureKind.NETWORK, exit=0, runs=3, hold=(30,) * 2, refused=True),
    Case("toolong", (Step("tool"), Step("too_long")), FailureKind.CONTEXT_OVERFLOW, fails=True),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2),
    Case("unknown", (Step(),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2, more={"model": "mock/none"}),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with the failing tasks begun."""
    with real.stage(tmp_path_factory.mktemp("opencode"), CASES, AGENT, SECOND) as begun:
        yield begun


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised for this failure."""
    made.check(case, partial=False)


def test_it_asks_once(made: Stage) -> None:
    """Each run ends at the first refusal: three runs, three requests, and none for a title."""
    made.world.ended(made.begun["overloaded"])
    assert len(made.requests("overloaded-first")) == 3


def test_a_limit_is_held_until_the_told_reset(made: Stage) -> None:
    """The reset is dropped by opencode, which would ask again in two seconds; our plugin tells it."""
    step = Step("usage_limit", reset_in_s=2 * HOUR)
    made.world.chain_of("limit", [made.tier("limit-first", AGENT, step), made.tier("limit-second", SECOND)])
    assert real.path_of(made.world.do("limit")) == [("limit-first", "usage_limit", 0), ("limit-second", None, 0)]
    (hold,) = made.held("limit")
    assert (hold.kind, hold.on, hold.active) == ("usage_limit", "account", "limit-second")
    reset = made.requests("limit-first")[-1].at_ms // 1000 + 2 * HOUR
    assert reset - 1 <= hold.until <= reset + 30 + 1


@pytest.mark.parametrize(
    ("trouble", "kind", "code"),
    [
        ((Step("e500"),), FailureKind.SERVER_ERROR, (0,)),
        ((Step("error_stream"),), FailureKind.OVERLOADED, (0,)),
        ((Step("cut_stream"),), FailureKind.NETWORK, (0,)),
        ((Step("throttle", seconds=1),), FailureKind.RATE_LIMIT, (0,)),
        # Each of these ends as an answer that was cut off, after which it asks again at once, for ever.
        ((Step("bad_json"),) * 6, FailureKind.SERVER_ERROR, ENDED),
    ],
    ids=["e500", "errorstream", "cutstream", "throttle", "cutloop"],
)
def test_trouble_that_passes_costs_one_attempt(
    made: Stage, trouble: tuple[Step, ...], kind: FailureKind, code: tuple[int, ...]
) -> None:
    """The second attempt goes on with the session of the first, where its work is, and counts only its own."""
    first = f"passes-{trouble[0].behaviour}"
    steps = Step("tool", command="echo the-work-so-far"), *trouble, Step()
    made.world.chain_of(first, [made.tier(first, AGENT, *steps)])
    task = made.world.do(first, "paint the fence green")
    assert [
        (run["failure"], run["exit"] in wanted) for run, wanted in zip(task["runs"], (code, (0,)), strict=True)
    ] == [
        (kind, True),
        (None, True),
    ]
    assert len({run["session"] for run in task["runs"]}) == 1
    asked = made.told(first)[-1]
    assert "Continue; do not redo finished work." in asked
    assert "the-work-so-far" in asked
    assert real.known(task) == made.counted(first) == made.issued(first) != Tokens()
    made.audit()


@pytest.mark.parametrize("steps", [(Step("hang"),), (Step("tool"), Step("hang_stream"))], ids=["hang", "hangstream"])
def test_a_hang_is_a_stall(made: Stage, steps: tuple[Step, ...]) -> None:
    """Silence is ended, by KILL where TERM is not heeded; what was spent before is counted."""
    name = f"hang-{len(steps)}"
    first, second = f"{name}-first", f"{name}-second"
    tiers = [made.tier(first, AGENT, *steps, stall_after="15s"), made.tier(second, SECOND)]
    made.world.chain_of(name, tiers)
    task = made.world.do(name)
    stalled, moved = task["runs"]
    assert (stalled["tier"], stalled["failure"], moved["tier"], moved["failure"]) == (first, "stalled", second, None)
    assert stalled["exit"] in ENDED
    assert made.counted(first) == made.issued(first)
    assert made.counted(second) == made.issued(second) != Tokens()
    made.audit()


@pytest.mark.parametrize(
    ("name", "steps", "answers"),
    [
        ("sse", (Step(),), 1),
        ("tool", (Step("tool"),), 2),
        ("subagent", (Step("subagent"), Step("tool"), Step()), 4),
    ],
)
def test_a_success_is_counted_to_the_token(made: Stage, name: str, steps: tuple[Step, ...], answers: int) -> None:
    """All that went out is what the ledger holds, type by type: a title is not asked for, a subagent is not left out."""
    tier = f"ok-{name}-first"
    made.world.chain_of(f"ok-{name}", [made.tier(tier, AGENT, *steps), made.tier(f"ok-{name}-second", SECOND)])
    task = made.world.do(f"ok-{name}")
    assert real.path_of(task) == [(tier, None, 0)]
    assert task["said"].strip().endswith("done")
    assert real.known(task) == made.counted(tier) == made.issued(tier) != Tokens()
    assert len([entry for entry in made.provider.issued if entry.key == made.key(tier)]) == answers
    assert made.held(f"ok-{name}") == []
    made.audit()


def test_another_agent_takes_over(made: Stage) -> None:
    """What opencode has done is handed over to pi with a note."""
    real.moves_to_the_other_agent(made, AGENT)


def test_a_killed_daemon_finds_its_agent_again(tmp_path: Path) -> None:
    """Kill -9 in the middle of a run loses and doubles nothing, also when the agent ends before the next daemon."""
    real.killed_and_found_again(tmp_path, AGENT, ends_meanwhile=True)


def test_a_stopped_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """A clean stop in the middle of a run costs neither work nor tokens: the session is resumed."""
    real.stopped_and_gone_on_with(tmp_path, AGENT, *ENDED)
