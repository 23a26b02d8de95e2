"""The real Claude Code as people run it, with locum's hooks installed: counted, stopped, and its failures heard."""

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
AGENT = "claude-code"
# What the provider does, and what must come of it: the kind, how long the hold lasts and what it lies on.
FAILURES = [
    ("auth", "auth_error", 30 * MINUTE, "account"),
    ("forbidden", "auth_error", 30 * MINUTE, "account"),
    ("credit", "credit_exhausted", HOUR, "account"),
    ("throttle", "rate_limit", MINUTE, "tier"),
    ("overloaded", "overloaded", MINUTE, "tier"),
    ("e500", "server_error", MINUTE, "tier"),
    ("e503", "server_error", MINUTE, "tier"),
    ("bad_json", "server_error", MINUTE, "tier"),
    ("not_found", "model_unavailable", 0, ""),  # the model was the person's own choice: it holds nothing
    ("refused", "network", 30, "tier"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file."""
    with real.stage(tmp_path_factory.mktemp("hooks-claude")) as begun:
        yield begun


def person(made: Stage, name: str, *steps: Step, oauth: bool = False, **chain: object) -> Person:
    """Somebody with the hooks installed, whose sessions count for the first tier of a chain of their own."""
    found = Person(made, AGENT, name, steps or (Step(),), oauth)
    found.chain(**chain)
    found.install()
    return found


def test_a_session_is_counted_once_however_often_it_is_told(made: Stage) -> None:
    """Every hook called again, and the session resumed and forked: each answer still counts once, to the token."""
    ann = person(made, "once", Step("tool"), Step())
    assert "usage counts for tier once-first of chain once" in ann.test()
    first = ann.ask("paint the fence green")
    assert (first.exit, first.rows[-1]["result"]) == (0, "done")
    ann.is_counted()
    assert made.issued(ann.tier) != Tokens()
    ann.call_again()
    ann.ask("and the gate", resume=first.session)
    ann.is_counted()
    fork = ann.ask("or blue", resume=first.session, fork=True)
    assert fork.session != first.session
    ann.is_counted()
    assert set(ann.call_again()) == {"{}"}
    ann.is_counted()
    assert len(ann.requests) == 4
    assert {each["session"] for each in hooked.reports(made, ann.tier)} == {first.session, fork.session}
    assert made.held(ann.name) == []
    made.audit()


def test_subagents_are_counted(made: Stage) -> None:
    """What a subagent says stands in a transcript of its own; it counts like all the rest."""
    ann = person(made, "sub", Step("subagent"), Step("tool"), Step())
    assert ann.ask().exit == 0
    assert "SubagentStop" in ann.events
    ann.is_counted()
    assert len(ann.requests) == 4


def test_two_sessions_at_once_are_counted_apart_and_added_up(made: Stage) -> None:
    """Two sessions of one tier run beside each other: their sum is what was issued."""
    ann = person(made, "two", Step("slow", seconds=0.5))
    both = [ann.outside.begin(f"task {number}") for number in (1, 2)]
    sessions = {ended(each).session for each in both}
    ann.is_counted()
    assert len(ann.requests) == len(sessions) == 2
    assert {each["session"] for each in hooked.reports(made, ann.tier)} == sessions


def test_a_tier_that_is_held_stops_the_next_prompt_until_it_is_released(made: Stage) -> None:
    """A bumped tier gets no further prompt: the session says which, why and until when, and nothing is asked."""
    ann = person(made, "held")
    assert made.world.run("bump", "held", "--for", "2h").returncode == 0
    stopped = ann.ask()
    said = stopped.rows[-1]["result"]
    assert (stopped.exit, ann.requests) == (0, [])
    assert "tier held-first is held until" in said
    assert "by the operator" in said
    assert "locum release" in said
    assert made.world.run("release", "held").returncode == 0
    assert ann.ask().rows[-1]["result"] == "done"
    ann.is_counted()


def test_a_sessions_own_usage_crosses_a_budget_and_stops_its_next_prompt(made: Stage) -> None:
    """The turn that crosses the budget ends well; the next prompt of the same session is stopped, with 0 requests."""
    ann = person(made, "budget", Step("tool"), Step(), usage_threshold_tokens=1_000, usage_reset="day")
    first = ann.ask()
    assert first.rows[-1]["result"] == "done"
    ann.is_counted()
    assert ann.last_failure_kind == "token_budget"
    stopped = ann.ask("more", resume=first.session)
    assert "tier budget-first is held until" in stopped.rows[-1]["result"]
    assert "by token_budget" in stopped.rows[-1]["result"]
    assert len(ann.requests) == 2
    (hold,) = made.held(ann.name)
    assert (hold.kind, hold.active) == ("token_budget", "budget-second")


def test_a_halt_stops_the_next_tool(made: Stage, tmp_path: Path) -> None:
    """The chain is halted while the model thinks: the tool it then asks for does not run, and it is not asked again."""
    mark = tmp_path / "ran"
    ann = person(made, "halt", Step("hang_tool", command=f"touch {mark}"), usage_halt_tokens=1_000, usage_reset="day")
    begun = ann.outside.begin()
    assert made.provider.wait_for(lambda each: each.hanging == 1, 30)
    hooked.report(made, ann, 2_000)
    made.provider.release()
    stopped = ended(begun)
    end = stopped.rows[-1]
    assert (stopped.exit, end["terminal_reason"], end["result"]) == (0, "hook_stopped", "")
    assert "every tier of chain halt is held" in stopped.out
    assert (mark.exists(), len(ann.requests)) == (False, 1)
    assert "every tier of chain halt is held" in ann.ask("go on", resume=stopped.session).rows[-1]["result"]
    assert len(ann.requests) == 1


def test_a_loop_of_tools_ends_at_the_halt_that_it_crosses_itself(made: Stage, tmp_path: Path) -> None:
    """A session that would use tools for ever is ended by what it has used, one answer late at most."""
    mark = tmp_path / "ran"
    tools = Step("tools", command=f"echo x >> {mark}; sleep 1", tokens=Tokens(900, 10, 0, 0))
    ann = person(made, "loop", tools, usage_halt_tokens=1_000, usage_reset="day")
    stopped = ann.ask()
    assert (stopped.exit, stopped.rows[-1]["terminal_reason"]) == (0, "hook_stopped")
    assert 2 <= len(ann.requests) <= 3
    assert mark.read_text().count("x") <= len(ann.requests)
    ann.is_counted()
    (hold,) = made.held(ann.name)
    assert (hold.kind, hold.on, hold.active) == ("token_budget", "chain", None)


def fails(made: Stage, behaviour: str) -> Person:
    """Somebody whose every request meets this."""
    refused = behaviour == "refused"
    found = Person(made, AGENT, f"fails-{behaviour}", (Step() if refused else Step(behaviour),), refused=refused)
    found.chain()
    found.install()
    return found


@pytest.fixture(scope="module")
def failed(made: Stage) -> dict[str, Person]:
    """One person for each way to fail, all of whose first turns have failed, at once."""
    people = {behaviour: fails(made, behaviour) for behaviour, *_ in FAILURES}
    begun = [each.outside.begin() for each in people.values()]
    assert [ended(each).exit for each in begun] == [1] * len(people)
    return people


@pytest.mark.parametrize(("behaviour", "kind", "seconds", "on"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_failed_turn_is_named_and_held(
    made: Stage, failed: dict[str, Person], behaviour: str, kind: str, seconds: float, on: str
) -> None:
    """StopFailure moves the chain by the rules of a run of its own: kind, hold and target, once however often told."""
    ann = failed[behaviour]
    assert "StopFailure" in ann.events
    made.world.until(lambda: ann.last_failure_kind == kind, "the failure is heard", 15)
    ann.call_again("StopFailure")
    holds = [(hold.kind, hold.on, hold.active) for hold in made.held(ann.name)]
    assert holds == ([(kind, on, f"{ann.name}-second")] if on else [])
    assert [hold.seconds for hold in made.held(ann.name)] == pytest.approx([seconds] if on else [], rel=0.15)
    assert ann.last_failure_kind == kind
    assert [each["failure"] for each in hooked.reports(made, ann.tier)] == [kind]
    assert made.counted(ann.tier) == Tokens()


def test_after_a_failure_the_next_prompt_is_stopped(made: Stage, failed: dict[str, Person]) -> None:
    """The next prompt on a tier whose login was refused asks nothing, and says what is wrong until when."""
    ann = failed["auth"]
    said = ann.ask("again").rows[-1]["result"]
    assert "tier fails-auth-first is held until" in said
    assert "auth_error" in said
    assert len(ann.requests) == 1


@pytest.mark.parametrize("window", ["five_hour", "seven_day"])
def test_a_subscriptions_limit_is_held_until_its_reset(made: Stage, window: str) -> None:
    """The reset is told in words alone: the account is held until then, to the minute that the words have."""
    ann = person(made, f"limit-{window}", Step("usage_limit", reset_in_s=2 * HOUR, window=window), oauth=True)
    assert ann.ask().exit == 1
    made.world.until(lambda: bool(made.held(ann.name)), "the limit is heard", 15)
    (hold,) = made.held(ann.name)
    assert (hold.kind, hold.on) == ("usage_limit", "account")
    reset = ann.requests[-1].at_ms / 1000 + 2 * HOUR
    assert reset - MINUTE <= hold.until <= reset + MINUTE + 30


def test_a_prompt_that_is_too_long_holds_nothing(made: Stage) -> None:
    """What is the prompt's own fault is named, and the tier stays as it is."""
    ann = person(made, "toolong", Step("too_long"), Step())
    assert ann.ask().exit == 1
    made.world.until(lambda: ann.last_failure_kind is not None, "the failure is heard", 15)
    assert (ann.last_failure_kind, made.held(ann.name)) == ("context_overflow", [])
    assert ann.ask("shorter").rows[-1]["result"] == "done"


def test_a_run_of_the_daemons_own_is_not_counted_twice(made: Stage) -> None:
    """A task whose agent has hooks that name another, held tier runs all the same, and counts once, as its own run."""
    ann = Person(made, AGENT, "own", (Step("tool"), Step()))
    ann.chain()
    ann.install("--chain", "own", "--tier", "own-second")
    assert made.world.run("bump", "own", "--tier", "own-second").returncode == 0
    task = made.world.do("own")
    assert real.path_of(task) == [(ann.tier, None, 0)]
    assert {"UserPromptSubmit", "Stop"} <= set(ann.events), "its hooks were called"
    assert real.known(task) == made.counted(ann.tier) == made.issued(ann.tier) != Tokens()
    assert hooked.reports(made, ann.tier) == hooked.reports(made, "own-second") == []
    ann.call_again()
    assert made.counted(ann.tier) == made.issued(ann.tier)
    assert made.counted("own-second") == Tokens()
    made.audit()


def test_a_session_that_a_task_began_is_gone_on_with_by_hand(made: Stage) -> None:
    """What the task used counts as its run; what its user then has it do counts as theirs: once each, one sum."""
    ann = person(made, "byhand", Step("tool"), Step())
    task = made.world.do("byhand", cwd=ann.outside.work)
    (session,) = {run["session"] for run in task["runs"]}
    by_the_task = real.known(task)
    assert by_the_task == made.counted(ann.tier) == made.issued(ann.tier) != Tokens()
    assert ann.ask("and the gate", resume=session).session == session
    ann.is_counted()
    assert len(ann.requests) == 3
    assert real.known(made.world.task(task["id"])) == by_the_task
    assert [each["session"] for each in hooked.reports(made, ann.tier)] == [session]
    made.audit()


def test_usage_that_fits_two_tiers_counts_for_none(made: Stage) -> None:
    """Without a name, and with two tiers that share this home, usage shows as unattributed, to the token."""
    ann = Person(made, AGENT, "either")
    tiers = [made.tier(f"either-{which}", AGENT) | ann.home for which in ("first", "second")]
    made.world.chain_of("either", tiers)
    before = hooked.unattributed(made)
    ann.install("--json")
    assert "for no single tier has this agent and home" in ann.test()
    assert ann.ask().rows[-1]["result"] == "done"
    wanted = before + made.provider.total(ann.outside.key)
    made.world.until(lambda: hooked.unattributed(made) == wanted != before, "it is counted for nobody", 15)
    assert made.counted("either-first") == made.counted("either-second") == Tokens()


def test_without_a_name_the_only_tier_with_this_home_counts(made: Stage) -> None:
    """Hooks that name nothing count for the one tier whose agent and home they come from."""
    ann = Person(made, AGENT, "unnamed", (Step("tool"), Step()))
    ann.chain()
    ann.install("--json")
    assert ann.ask().exit == 0
    ann.is_counted()
    assert made.counted(ann.tier) != Tokens()


def test_without_a_daemon_the_session_goes_on_and_says_so(tmp_path: Path) -> None:
    """No daemon answers: nothing is lost but the count, and standard error says so."""
    with real.stage(tmp_path) as made:
        ann = person(made, "down", Step("tool"), Step())
        made.world.stop()
        with ann.outside.at_a_terminal() as screen:
            screen.wait_for("bypass permissions on")
            screen.type("say done")
            screen.wait_for("locum: this hook got no answer")
            screen.wait_for("done")
        done = ann.ask()
        assert (done.exit, done.rows[-1]["result"]) == (0, "done")
        assert "locum: this hook got no answer" in done.err
        made.world.start()
        ann.ask("more", resume=done.session)
        made.world.until(lambda: bool(made.counted(ann.tier)), "the next turn counts what was missed", 15)


def test_at_a_terminal_each_turn_is_counted_and_a_stop_is_shown(made: Stage) -> None:
    """A session that stays open has no SessionEnd: each turn counts all the same, and its user reads why it stops.

    The prompts are short: for a longer first one Claude Code asks for a title, which stands in no transcript.
    """
    ann = person(made, "open", Step("tool"), Step(text="first"), Step(text="second"), Step(text="third"))
    with ann.outside.at_a_terminal() as screen:
        screen.wait_for("bypass permissions on")
        screen.type("say one")
        screen.wait_for("first")
        ann.is_counted()
        screen.type("say two")
        screen.wait_for("second")
        ann.is_counted()
        assert len(ann.requests) == 3
        assert made.world.run("bump", "open").returncode == 0
        screen.type("say three")
        screen.wait_for("tier open-first is held")
        assert made.world.run("release", "open").returncode == 0
        screen.type("say four")
        screen.wait_for("third")
        ann.is_counted()
        assert "SessionEnd" not in ann.events
    assert len(ann.requests) == 4
