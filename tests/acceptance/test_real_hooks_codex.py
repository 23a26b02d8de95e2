"""The real Codex as people run it, with locum's hooks installed: counted, stopped as far as it can be, and overheard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from locum.policy.usage import Tokens
from tests.acceptance import hooked, real
from tests.acceptance.hooked import Person
from tests.acceptance.outside import ended
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import HOUR, MINUTE, Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(120)]
AGENT = "codex"
# What the provider does, and what must come of it: the kind, how long the hold lasts and what it lies on.
FAILURES = [
    ("auth", "auth_error", 30 * MINUTE, "account"),
    ("forbidden", "auth_error", 30 * MINUTE, "account"),
    ("credit", "credit_exhausted", HOUR, "account"),
    ("usage_limit", "usage_limit", HOUR, "account"),
    ("throttle", "rate_limit", MINUTE, "tier"),
    ("overloaded", "overloaded", MINUTE, "tier"),
    ("e500", "server_error", MINUTE, "tier"),
    ("bad_json", "server_error", MINUTE, "tier"),
    ("cut_stream", "network", 30, "tier"),
    ("not_found", "model_unavailable", 0, ""),  # the model was the person's own choice: it holds nothing
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file."""
    with real.stage(tmp_path_factory.mktemp("hooks-codex")) as begun:
        yield begun


def person(made: Stage, name: str, *steps: Step, **chain: object) -> Person:
    """Somebody with the hooks installed, whose sessions count for the first tier of a chain of their own."""
    found = Person(made, AGENT, name, steps or (Step(),))
    found.chain(**chain)
    found.install()
    return found


def test_a_session_is_counted_once_however_often_it_is_told(made: Stage) -> None:
    """Every hook called again, and the session resumed and forked: each answer still counts once, to the token."""
    bob = person(made, "once", Step("tool"), Step())
    first = bob.ask("paint the fence green")
    assert first.exit == 0
    bob.is_counted()
    bob.call_again()
    assert bob.ask("and the gate", resume=first.session).session == first.session
    bob.is_counted()
    fork = bob.ask("or blue", resume=first.session, fork=True)
    assert fork.session != first.session
    bob.is_counted()
    assert set(bob.call_again()) == {"{}"}
    bob.is_counted()
    assert len(bob.requests) == 4
    assert {each["session"] for each in hooked.reports(made, bob.tier)} == {first.session, fork.session}
    assert made.held(bob.name) == []
    made.audit()


def test_two_sessions_at_once_are_counted_apart_and_added_up(made: Stage) -> None:
    """Two sessions of one tier run beside each other: their sum is what was issued."""
    bob = person(made, "two", Step("slow", seconds=0.5))
    both = [bob.outside.begin(f"task {number}") for number in (1, 2)]
    sessions = {ended(each).session for each in both}
    bob.is_counted()
    assert len(bob.requests) == len(sessions) == 2
    assert {each["session"] for each in hooked.reports(made, bob.tier)} == sessions


def test_a_tier_that_is_held_stops_the_next_prompt_until_it_is_released(made: Stage) -> None:
    """A bumped tier gets no further prompt, and a released one does. `codex exec` itself does not say why."""
    bob = person(made, "held")
    assert made.world.run("bump", "held", "--for", "2h").returncode == 0
    assert (bob.ask().exit, bob.requests) == (0, [])
    (answer,) = bob.call_again("UserPromptSubmit")
    assert "tier held-first is held until" in answer
    assert "by the operator" in answer
    assert made.world.run("release", "held").returncode == 0
    bob.ask()
    assert len(bob.requests) == 1
    bob.is_counted()


def test_a_sessions_own_usage_crosses_a_budget_and_stops_its_next_prompt(made: Stage) -> None:
    """The turn that crosses the budget ends well; the next prompt of the same session is stopped, with 0 requests."""
    bob = person(made, "budget", Step("tool"), Step(), usage_threshold_tokens=1_000, usage_reset="day")
    first = bob.ask()
    bob.is_counted()
    assert bob.last_failure_kind == "token_budget"
    bob.ask("more", resume=first.session)
    assert len(bob.requests) == 2
    (hold,) = made.held(bob.name)
    assert (hold.kind, hold.active) == ("token_budget", "budget-second")


def test_a_halt_denies_the_next_tool(made: Stage, tmp_path: Path) -> None:
    """The tool that is asked for after a halt does not run, and the model is told why; more Codex's hooks cannot do."""
    mark = tmp_path / "ran"
    steps = Step("hang_tool", command=f"touch {mark}"), Step()
    bob = person(made, "halt", *steps, usage_halt_tokens=1_000, usage_reset="day")
    begun = bob.outside.begin()
    assert made.provider.wait_for(lambda each: each.hanging == 1, 30)
    hooked.report(made, bob, 2_000)
    made.provider.release()
    stopped = ended(begun)
    assert (stopped.exit, mark.exists(), len(bob.requests)) == (0, False, 2)
    assert "every tier of chain halt is held" in str(bob.requests[-1].body)
    bob.ask("go on", resume=stopped.session)
    assert len(bob.requests) == 2


@pytest.fixture(scope="module")
def failed(made: Stage) -> dict[str, Person]:
    """One person for each way to fail, all of whose first turns have failed, at once."""
    people = {row[0]: person(made, f"fails-{row[0]}", Step(row[0])) for row in FAILURES}
    begun = [each.outside.begin() for each in people.values()]
    assert [ended(each).exit for each in begun] == [1] * len(people)
    return people


@pytest.mark.parametrize(("behaviour", "kind", "seconds", "on"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_failed_turn_is_named_and_held(
    made: Stage, failed: dict[str, Person], behaviour: str, kind: str, seconds: float, on: str
) -> None:
    """No hook names these failures but a limit's; the rollout does: kind, hold and target, once however often told."""
    bob = failed[behaviour]
    made.world.until(lambda: bob.last_failure_kind == kind, "the failure is heard", 15)
    bob.call_again("SessionEnd")
    holds = [(hold.kind, hold.on, hold.active) for hold in made.held(bob.name)]
    assert holds == ([(kind, on, f"{bob.name}-second")] if on else [])
    assert [hold.seconds for hold in made.held(bob.name)] == pytest.approx([seconds] if on else [], rel=0.15)
    assert bob.last_failure_kind == kind
    assert made.counted(bob.tier) == Tokens()


def test_a_prompt_that_is_too_long_holds_nothing(made: Stage) -> None:
    """What is the prompt's own fault is named, and the tier stays as it is; the next turn counts, and so does what it
    takes to make the session shorter first.
    """
    bob = person(made, "toolong", Step("too_long"), Step())
    failed = bob.ask()
    assert failed.exit == 1
    made.world.until(lambda: bob.last_failure_kind is not None, "the failure is heard", 15)
    assert (bob.last_failure_kind, made.held(bob.name)) == ("context_overflow", [])
    assert bob.ask("shorter", resume=failed.session).exit == 0
    bob.is_counted()
    assert len(bob.requests) == 3


def test_after_a_failure_the_next_prompt_is_stopped(failed: dict[str, Person]) -> None:
    """The next prompt on a tier whose login was refused asks nothing."""
    bob = failed["auth"]
    bob.ask("again")
    assert len(bob.requests) == 1


def test_a_run_of_the_daemons_own_is_not_counted_twice(made: Stage) -> None:
    """A task whose agent has hooks that name another, held tier runs all the same, and counts once, as its own run."""
    bob = Person(made, AGENT, "own", (Step("tool"), Step()))
    first = made.tier(bob.tier, AGENT, *bob.steps) | bob.home
    first["args"] = ["--dangerously-bypass-hook-trust", *first["args"]]
    made.world.chain_of("own", [first, made.tier("own-second", AGENT)])
    bob.install("--chain", "own", "--tier", "own-second")
    assert made.world.run("bump", "own", "--tier", "own-second").returncode == 0
    task = made.world.do("own")
    assert real.path_of(task) == [(bob.tier, None, 0)]
    assert {"UserPromptSubmit", "Stop"} <= set(bob.events), "its hooks were called"
    assert hooked.reports(made, bob.tier) == []
    assert real.known(task) == made.counted(bob.tier) == made.issued(bob.tier) != Tokens()
    bob.call_again()
    assert made.counted(bob.tier) == made.issued(bob.tier)
    assert made.counted("own-second") == Tokens()
    made.audit()


def test_a_session_that_a_task_began_is_gone_on_with_by_hand(made: Stage) -> None:
    """What the task used counts as its run; what its user then has it do counts as theirs: once each, one sum."""
    bob = person(made, "byhand", Step("tool"), Step())
    task = made.world.do("byhand", cwd=bob.outside.work)
    (session,) = {run["session"] for run in task["runs"]}
    by_the_task = real.known(task)
    assert by_the_task == made.counted(bob.tier) == made.issued(bob.tier) != Tokens()
    assert bob.ask("and the gate", resume=session).session == session
    bob.is_counted()
    assert len(bob.requests) == 3
    assert real.known(made.world.task(task["id"])) == by_the_task
    assert [each["session"] for each in hooked.reports(made, bob.tier)] == [session]
    made.audit()


def test_without_a_name_the_only_tier_with_this_home_counts(made: Stage) -> None:
    """Hooks that name nothing count for the one tier whose agent and home they come from."""
    bob = Person(made, AGENT, "unnamed", (Step("tool"), Step()))
    bob.chain()
    bob.install("--json")
    assert bob.ask().exit == 0
    bob.is_counted()
    assert made.counted(bob.tier) != Tokens()


def test_without_a_daemon_the_session_goes_on(tmp_path: Path) -> None:
    """No daemon answers: the session goes on, and what it used meanwhile is counted with its next turn."""
    with real.stage(tmp_path) as made:
        bob = person(made, "down", Step("tool"), Step())
        made.world.stop()
        done = bob.ask()
        assert (done.exit, len(bob.requests)) == (0, 2)
        made.world.start()
        bob.ask("more", resume=done.session)
        bob.is_counted()
        assert len(bob.requests) == 3
