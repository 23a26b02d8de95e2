"""What scenarios are made of, with a daemon that answers late."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest

from locum.drill.acts import doubted, finish
from locum.drill.costs import COSTS, target_of
from locum.drill.scenarios import at_a_time
from locum.policy.failure import FailureKind
from locum.policy.plan import Chain, Tier

DUE_MS = 4_000
AUTH, QUOTA, THROTTLE, CRASH = (
    *(FailureKind.AUTH_ERROR, FailureKind.USAGE_LIMIT),
    *(FailureKind.RATE_LIMIT, FailureKind.CRASH),
)
FIRST, SAME, OTHER = (
    *(Tier("first", "claude-code", "acme"), Tier("same", "claude-code", "acme")),
    Tier("other", "codex", "else"),
)


class Busy:
    """A stage whose daemon needs some looks before it notices that time has passed."""

    def __init__(self) -> None:
        self.now_ms, self.looks, self.still = 0, 0, 0
        self.director = SimpleNamespace(on_stage=[])
        self.chains = {"default": SimpleNamespace(tiers=("one",))}

    async def task(self, task: str):
        """A task that waits for its second try until the daemon has noticed."""
        self.looks += self.now_ms >= DUE_MS
        run = {"id": "r", "next": "retry"}
        return {"id": task, "state": "done" if self.looks > 5 else "queued", "runs": [run]}

    def due_ms(self, run: str) -> int:
        """When the second try is due."""
        assert run == "r"
        return DUE_MS

    def leap_to(self, at_ms: int) -> None:
        """Let it be then."""
        self.now_ms = max(self.now_ms, at_ms)

    def leap(self, length_ms: int) -> None:
        """Let so much time pass."""
        self.now_ms += length_ms


def test_a_busy_host_makes_no_time_pass():
    """To a second try it is leapt once, however late the daemon notices: short holds beside it would be over."""
    stage = Busy()
    assert anyio.run(finish, stage, "default", "t")["state"] == "done"
    assert stage.now_ms == DUE_MS


@pytest.mark.parametrize(("fault", "most"), [("throttle", 1), ("cut", 1), ("hang", 5), ("lie", 5), ("quota", 9)])
def test_a_task_gets_past_what_fails(fault, most):
    """With six attempts and nine tiers: a hold that ends while the task is under way would bring it back."""
    assert at_a_time(fault, 9, 6) == most


@pytest.mark.parametrize(
    ("played", "doubtful"),
    [
        ([], False),
        ([("first", QUOTA)], True),  # its vendor held it, and nothing has worked since
        ([("first", THROTTLE)], True),
        ([("first", CRASH)], False),  # held for its own sake: it has nothing to prove
        ([("first", QUOTA), ("first", None)], False),  # it has worked
        ([("first", None), ("first", QUOTA)], True),
        ([("first", QUOTA), ("other", None)], True),  # another account proves nothing
        ([("first", AUTH), ("same", None)], False),  # the account was in doubt, and works
        ([("first", THROTTLE), ("same", None)], True),  # the tier itself was: its account's other one proves nothing
        ([("same", QUOTA)], True),  # what holds the account holds its first tier
        ([("same", THROTTLE)], False),  # and what holds the other tier does not
        ([("same", QUOTA), ("same", None)], False),
        ([("same", QUOTA), ("same", CRASH)], True),  # a crash proves nothing either way
        ([("same", AUTH), ("first", None)], False),
        ([("first", THROTTLE), ("same", QUOTA)], True),
        ([("first", QUOTA), ("same", None), ("same", CRASH)], False),
    ],
)
def test_a_tier_that_came_back_is_doubted_until_it_has_worked(played, doubtful):
    """Told from what was played, oldest first: only what the last failure had held has to be disproved, and only a
    success of just that disproves it.
    """
    chain = Chain("default", (FIRST, SAME, OTHER))
    tiers = {each.name: each for each in chain.tiers}
    assert doubted(chain, tiers, *after(played, tiers)) is doubtful


def test_what_held_nothing_leaves_no_doubt():
    """A failure that its chain does not act on, or that a try in place was the answer to, is no hold to disprove."""
    chain = Chain("default", (FIRST,))
    _, played = after([("first", THROTTLE)], {"first": FIRST})
    assert not doubted(chain, {"first": FIRST}, [], played)


def after(played, tiers):
    """The holds that these failures placed, each over by the next, and the runs: each as (tier, failure)."""
    runs = [SimpleNamespace(tier=tier, kind=kind, ended_ms=number * 10) for number, (tier, kind) in enumerate(played)]
    holds = [
        SimpleNamespace(target=target_of(each.kind, tiers[each.tier]), kind=each.kind, ended_ms=each.ended_ms + 5)
        for each in runs
        if each.kind and not COSTS[each.kind].soft
    ]
    return holds, runs
