"""The real Gemini CLI as people run it, with locum's hooks installed: counted and stopped. Its failures nobody hears."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import hooked, real
from tests.acceptance.hooked import Person
from tests.acceptance.outside import ended
from tests.acceptance.provider_steps import Step
from tests.acceptance.real import Stage

pytestmark = [pytest.mark.agents, pytest.mark.timeout(120)]
AGENT = "gemini"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all tests of this file."""
    with real.stage(tmp_path_factory.mktemp("hooks-gemini")) as begun:
        yield begun


def person(made: Stage, name: str, *steps: Step, **chain: object) -> Person:
    """Somebody with the hooks installed, whose sessions count for the first tier of a chain of their own."""
    found = Person(made, AGENT, name, steps or (Step(),))
    found.chain(**chain)
    found.install()
    return found


def test_a_session_is_counted_once_however_often_it_is_told(made: Stage) -> None:
    """Every hook called again, and the session resumed: each answer still counts once, thoughts and all."""
    eve = person(made, "once", Step("tool"), Step())
    first = eve.ask("paint the fence green")
    assert (first.exit, first.rows[-1]["status"]) == (0, "success")
    eve.is_counted()
    assert set(eve.call_again()) == {"{}"}
    assert eve.ask("and the gate", resume=first.session).session == first.session
    eve.is_counted()
    eve.call_again("AfterAgent")
    eve.is_counted()
    assert len(eve.requests) == 3
    assert {each["session"] for each in hooked.reports(made, eve.tier)} == {first.session}
    assert made.held(eve.name) == []
    made.audit()


def test_two_sessions_at_once_are_counted_apart_and_added_up(made: Stage) -> None:
    """Two sessions of one tier run beside each other: their sum is what was issued."""
    eve = person(made, "two", Step("slow", seconds=0.5))
    both = [eve.outside.begin(f"task {number}") for number in (1, 2)]
    sessions = {ended(each).session for each in both}
    eve.is_counted()
    assert len(eve.requests) == len(sessions) == 2
    assert {each["session"] for each in hooked.reports(made, eve.tier)} == sessions


def test_a_budget_that_a_session_crosses_stops_its_next_prompt_until_it_is_released(made: Stage) -> None:
    """The turn that crosses the budget ends well; the next prompt asks nothing, and says why; released, it runs."""
    eve = person(made, "budget", Step("tool"), Step(), usage_threshold_tokens=1_000, usage_reset="day")
    first = eve.ask()
    eve.is_counted()
    assert eve.last_failure_kind == "token_budget"
    stopped = eve.ask("more", resume=first.session)
    assert (stopped.exit, len(eve.requests)) == (0, 2)
    assert "tier budget-first is held until" in stopped.out
    assert "by token_budget" in stopped.out
    (hold,) = made.held(eve.name)
    assert (hold.kind, hold.active) == ("token_budget", "budget-second")
    assert made.world.run("release", "budget").returncode == 0
    eve.ask("now", resume=first.session)
    assert len(eve.requests) == 3
    eve.is_counted()


def test_a_halt_stops_the_next_tool(made: Stage, tmp_path: Path) -> None:
    """The chain is halted while the model thinks: the tool it then asks for does not run, and it is not asked again."""
    mark = tmp_path / "ran"
    eve = person(made, "halt", Step("hang_tool", command=f"touch {mark}"), usage_halt_tokens=1_000, usage_reset="day")
    begun = eve.outside.begin()
    assert made.provider.wait_for(lambda each: each.hanging == 1, 30)
    hooked.report(made, eve, 2_000)
    made.provider.release()
    stopped = ended(begun)
    assert (stopped.exit, mark.exists(), len(eve.requests)) == (0, False, 1)
    assert "every tier of chain halt is held" in stopped.err


def test_without_a_daemon_the_session_goes_on_and_says_so(tmp_path: Path) -> None:
    """No daemon answers, and none hears of a failure: the session goes on and says so, and is counted later."""
    with real.stage(tmp_path) as made:
        eve = person(made, "down", Step("tool"), Step(), Step("auth"), Step())
        made.world.stop()
        done = eve.ask()
        assert (done.exit, len(eve.requests)) == (0, 2)
        assert "locum: this hook got no answer" in done.err
        made.world.start()
        assert eve.ask("more", resume=done.session).exit != 0
        assert eve.last_failure_kind is None, "nothing that Gemini CLI tells says that a turn has failed"
        eve.ask("once more", resume=done.session)
        eve.is_counted()
        assert len(eve.requests) == 4
