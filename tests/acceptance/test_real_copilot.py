"""The real GitHub Copilot CLI under the real daemon: every way a provider can fail it, counted to the token."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens
from tests.acceptance import logins, real
from tests.acceptance.install_agents import node_path
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Case, Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]
AGENT = "copilot"
# It tries again by itself, 6 times in 5 to 60 seconds, and nothing of its own bounds that: the longest are stopped.
SOON = {"time_limit": "20s"}
CASES = (
    Case("auth", (Step("auth"),), FailureKind.AUTH_ERROR, hold=(30 * MINUTE,) * 2, on="account"),
    Case("forbidden", (Step("forbidden"),), FailureKind.AUTH_ERROR, hold=(30 * MINUTE,) * 2, on="account"),
    Case(
        "credit", (Step("credit"),), FailureKind.CREDIT_EXHAUSTED, exit=143, hold=(HOUR,) * 2, on="account", more=SOON
    ),
    # It waits out half a minute by itself, and gives up at once where the provider asks for more.
    Case("longthrottle", (Step("throttle", seconds=300),), FailureKind.RATE_LIMIT, hold=(290, 335)),
    Case("overloaded", (Step("overloaded"),), FailureKind.OVERLOADED, runs=3, hold=(MINUTE,) * 2),
    Case("e500", (Step("e500"),), FailureKind.SERVER_ERROR, runs=3, hold=(MINUTE,) * 2),
    Case("badjson", (Step("bad_json"),), FailureKind.SERVER_ERROR, runs=3, hold=(MINUTE,) * 2),
    Case("cutstream", (Step("cut_stream"),), FailureKind.NETWORK, runs=3, hold=(30,) * 2),
    Case("toolong", (Step("tool"), Step("too_long")), FailureKind.CONTEXT_OVERFLOW, fails=True),
    Case("nomodel", (Step("not_found"),), FailureKind.MODEL_UNAVAILABLE, hold=(6 * HOUR,) * 2),
    Case("refused", (Step(),), FailureKind.NETWORK, exit=143, runs=3, hold=(30,) * 2, refused=True, more=SOON),
    Case("hang", (Step("hang"),), FailureKind.STALLED, exit=143, more={"stall_after": "6s"}),
    Case("hangstream", (Step("tool"), Step("hang_stream")), FailureKind.STALLED, exit=143, more={"stall_after": "6s"}),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file, with the failing tasks begun; the program has unpacked itself before."""
    unpacked = logins.login(AGENT, "", "")["env"]["COPILOT_PKG_CACHE_HOME"]
    home = tmp_path_factory.mktemp("unpacking")
    env = os.environ | {"HOME": str(home), "PATH": node_path(), "COPILOT_PKG_CACHE_HOME": unpacked}
    subprocess.run([logins.program(AGENT), "--version"], env=env, check=True, capture_output=True, timeout=120)
    with real.stage(tmp_path_factory.mktemp("copilot"), CASES, AGENT, "claude-code", wait=False) as begun:
        yield begun


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_failure_is_named_held_and_left_behind(made: Stage, case: Case) -> None:
    """Kind, hold, next tier, exit code and tokens are those promised for this failure."""
    made.check(case, partial=False)


def test_a_throttle_that_tells_its_wait_is_waited_out(made: Stage) -> None:
    """The provider's sentence says one second; after its own six tries the same tier is tried once more."""
    steps = (*(Step("throttle", seconds=1) for _ in range(6)), Step())
    made.world.chain_of("throttle", [made.tier("throttle-first", AGENT, *steps), made.tier("throttle-second", AGENT)])
    task = made.world.do("throttle")
    assert real.path_of(task) == [("throttle-first", "rate_limit", 1), ("throttle-first", None, 0)]
    assert real.known(task) == made.counted("throttle-first") == made.issued("throttle-first") != Tokens()
    made.audit()


def test_a_limit_is_held_until_the_told_reset(made: Stage) -> None:
    """The refused call tells when the provider's limit is over; the run's own error does not."""
    step = Step("usage_limit", reset_in_s=2 * HOUR)
    made.world.chain_of("limit", [made.tier("limit-first", AGENT, step, **SOON), made.tier("limit-second", AGENT)])
    task = made.world.do("limit")
    assert real.path_of(task) == [("limit-first", "usage_limit", 143), ("limit-second", None, 0)]
    (hold,) = made.held("limit")
    assert (hold.kind, hold.on, hold.active) == ("usage_limit", "account", "limit-second")
    reset = made.requests("limit-first")[-1].at_ms // 1000 + 2 * HOUR
    assert reset - 1 <= hold.until <= reset + 30 + 1
    assert made.counted("limit-first") == Tokens()
    assert made.counted("limit-second") == made.issued("limit-second") != Tokens()
    made.audit()


@pytest.mark.parametrize(
    ("name", "steps", "answers"),
    [
        ("sse", (Step(),), 1),
        ("tool", (Step("tool"),), 2),
        ("slow", (Step("slow", seconds=2),), 1),
        ("flaky", (Step("e500"), Step("tool")), 2),  # it asks again, and the lost call cost nothing
    ],
)
def test_a_success_is_counted_to_the_token(made: Stage, name: str, steps: tuple[Step, ...], answers: int) -> None:
    """What went out whole is what the ledger holds, type by type, whichever way it came."""
    made.succeeds(name, AGENT, steps, answers)


@pytest.mark.parametrize("kind", ["anthropic", "responses"])
def test_whatever_protocol_the_provider_speaks(made: Stage, kind: str) -> None:
    """Cache writes are told in Anthropic's and in the Responses protocol, and are kept apart."""
    tier = made.tier(f"{kind}-first", AGENT, Step("tool" if kind == "responses" else "ok"))
    own = {"TYPE": "anthropic", "BASE_URL": made.provider.url} if kind == "anthropic" else {"WIRE_API": "responses"}
    tier["env"] |= {f"COPILOT_PROVIDER_{name}": value for name, value in own.items()}
    made.world.chain_of(kind, [tier])
    task = made.world.do(kind)
    assert real.path_of(task) == [(f"{kind}-first", None, 0)]
    assert real.known(task) == made.issued(f"{kind}-first")
    assert made.issued(f"{kind}-first").cache_write > 0


def test_without_a_login_the_account_is_held(made: Stage) -> None:
    """No request is made; GitHub's own sentence decides, for there is no event at all."""
    tier = made.tier("nologin-first", AGENT)
    tier["env"] = {}
    made.world.chain_of("nologin", [tier, made.tier("nologin-second", AGENT)])
    task = made.world.do("nologin")
    assert real.path_of(task) == [("nologin-first", "auth_error", 1), ("nologin-second", None, 0)]
    assert [hold.on for hold in made.held("nologin")] == ["account"]


def test_a_second_attempt_resumes_the_session(made: Stage) -> None:
    """`--resume` is what the second attempt is started with: it knows what the first did."""
    real.a_second_attempt_goes_on_with_the_first(made, AGENT, tries=6)


def test_a_session_that_is_gone_costs_a_start_and_no_hold(made: Stage) -> None:
    """Its folder is removed between two attempts: the task begins anew, on the same tier."""
    steps = Step("tool"), *(Step("e500") for _ in range(6)), Step()
    made.world.chain_of("gone", [made.tier("gone-first", AGENT, *steps), made.tier("gone-second", AGENT)])
    sessions = made.world.folder / "homes" / "gone-first" / "session-state"
    task = made.world.begin("gone")
    made.world.until(lambda: any(run["ended"] for run in made.world.task(task)["runs"]), "the first attempt", 60)
    for folder in sessions.glob("*-*"):
        folder.rename(sessions.parent / folder.name)
    ended = made.world.ended(task)
    assert ended["state"] == "done"
    assert {run["tier"] for run in ended["runs"]} == {"gone-first"}
    assert made.held("gone") == []
    assert made.counted("gone-first") == made.issued("gone-first")


def test_a_budget_moves_the_next_task(made: Stage) -> None:
    """Crossing a budget in mid-task costs that task nothing."""
    real.a_budget_is_crossed_in_the_middle_of_a_chain(made, AGENT)


def test_claude_code_takes_over(made: Stage) -> None:
    """Copilot's work is handed over to Claude Code with a note."""
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
