"""The real opencode under the real daemon: it retries in silence, ends aborted runs with code 0 and ignores TERM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.engine.runner import MOST_CUTS
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
    Case("refused", (Step(),), FailureKind.NETWORK, exit=0, runs=3, hold=(30,) * 2, refused=True),
    Case("toolong", (Step("tool"), Step("too_long")), FailureKind.CONTEXT_OVERFLOW, fails=True),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2),
    Case("unknown", (Step(),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2, more={"model": "mock/none"}),
)
WORKED = Step("tool", command="echo the-work-so-far")
PASSES = {  # trouble in the middle of the work that goes away
    "e500": (Step("e500"), FailureKind.SERVER_ERROR),
    "overloaded": (Step("overloaded"), FailureKind.OVERLOADED),
    "cutstream": (Step("cut_stream"), FailureKind.NETWORK),
    "shortly": (Step("throttle", seconds=1), FailureKind.RATE_LIMIT),
}
SUCCESSES = {  # and how many answers it takes
    "sse": ((Step(),), 1),
    "tool": ((Step("tool"),), 2),
    "subagent": ((Step("subagent"), Step("tool"), Step()), 4),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with all their tasks begun: it is slow to start, and waits a lot."""
    with real.stage(tmp_path_factory.mktemp("opencode")) as made:
        made.patience = 240
        for case in CASES:
            made.begin(case, AGENT, SECOND, wait=False)
        for name, (trouble, _) in PASSES.items():
            _begin(made, name, WORKED, trouble, Step())
        for name, (steps, _) in SUCCESSES.items():
            _begin(made, name, *steps)
        _begin(made, "limit", Step("usage_limit", reset_in_s=2 * HOUR))
        _begin(made, "hang", Step("hang"), stall_after="15s")
        yield made


def _begin(made: Stage, name: str, *steps: Step, **more: str) -> None:
    """Start a task on a tier of this agent, with one of another behind it."""
    first, second = made.tier(f"{name}-first", AGENT, *steps, **more), made.tier(f"{name}-second", SECOND)
    made.world.chain_of(name, [first, second])
    made.begun[name] = made.world.begin(name, "paint the fence green")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised for this failure."""
    made.check(case, partial=False)


def test_a_limit_is_held_until_the_told_reset(made: Stage) -> None:
    """The reset is dropped by opencode, which would ask again in two seconds; our plugin tells it."""
    assert real.path_of(made.ended("limit")) == [("limit-first", "usage_limit", 0), ("limit-second", None, 0)]
    (hold,) = made.held("limit")
    assert (hold.kind, hold.on, hold.active) == ("usage_limit", "account", "limit-second")
    (asked,) = made.requests("limit-first")  # once, and not for a title either
    reset = asked.at_ms // 1000 + 2 * HOUR
    assert reset - 1 <= hold.until <= reset + 30 + 1


@pytest.mark.parametrize("name", PASSES)
def test_trouble_that_passes_costs_one_attempt(made: Stage, name: str) -> None:
    """The second attempt goes on with the session of the first, where its work is, and counts only its own."""
    _went_on(made, name, PASSES[name][1], 0)
    assert len(made.requests(f"{name}-first")) == 3, "nothing was asked for but the work, its trouble and its end"


def test_answers_that_are_cut_off_for_ever_are_stopped(made: Stage) -> None:
    """Each ends as if it were whole, and it asks again at once: a few in a row end the run, and its work stays."""
    _begin(made, "cutloop", WORKED, Step("bad_json"))
    task = made.begun["cutloop"]
    stopped = lambda: any(run["ended"] for run in made.world.task(task)["runs"])  # noqa: E731 - what is waited for
    made.world.until(stopped, "the loop is stopped", made.patience)
    looped = len(made.requests("cutloop-first"))
    made.provider.script(made.key("cutloop-first"), [Step()])
    assert MOST_CUTS < looped < 10 * MOST_CUTS
    _went_on(made, "cutloop", FailureKind.SERVER_ERROR, *ENDED)


def _went_on(made: Stage, name: str, kind: FailureKind, *codes: int) -> None:
    """The task failed once, and then ended well in the same session; all of it is counted once."""
    task, first = made.ended(name), f"{name}-first"
    failed, went_on = task["runs"]
    assert (failed["tier"], failed["failure"], went_on["tier"], went_on["failure"]) == (first, kind, first, None)
    assert failed["exit"] in codes
    assert failed["session"] == went_on["session"] is not None
    asked = made.told(first)[-1]
    assert "Continue; do not redo finished work." in asked
    assert "the-work-so-far" in asked
    assert real.known(task) == made.counted(first) == made.issued(first) != Tokens()
    made.audit()


def test_a_hang_is_a_stall(made: Stage) -> None:
    """Silence is ended, by KILL where TERM is not heeded."""
    stalled, moved = made.ended("hang")["runs"]
    assert (stalled["tier"], stalled["failure"]) == ("hang-first", "stalled")
    assert (moved["tier"], moved["failure"]) == ("hang-second", None)
    assert stalled["exit"] in ENDED
    assert made.counted("hang-second") == made.issued("hang-second") != Tokens()
    made.audit()


@pytest.mark.parametrize("name", SUCCESSES)
def test_a_success_is_counted_to_the_token(made: Stage, name: str) -> None:
    """All that went out is what the ledger holds, type by type: a title is not asked for, a subagent is not left out."""
    made.counts(made.ended(name), name, SUCCESSES[name][1])


def test_another_agent_takes_over(made: Stage) -> None:
    """What opencode has done is handed over to pi with a note."""
    real.moves_to_the_other_agent(made, AGENT)


def test_a_killed_daemon_finds_its_agent_again(tmp_path: Path) -> None:
    """Kill -9 in the middle of a run loses and doubles nothing, also when the agent ends before the next daemon."""
    real.killed_and_found_again(tmp_path, AGENT, ends_meanwhile=True)


def test_a_stopped_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """A clean stop in the middle of a run costs neither work nor tokens: the session is resumed."""
    real.stopped_and_gone_on_with(tmp_path, AGENT, *ENDED)
