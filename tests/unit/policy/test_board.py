"""The board is the fold of its log: random lives of two chains that share an account, checked step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from locum.policy.board import NEW_CHAIN, Board, Event, EventKind, Hold, apply, fold
from locum.policy.chain import bump, is_exhausted, pick, release, settle, succeeded
from locum.policy.failure import HOUR, MINUTE, SECOND, Failure, FailureKind
from locum.policy.plan import Brake, Budget, Chain, Plan, Tier, tier_target
from locum.policy.window import Lifetime
from tests.unit.policy.reference import Model, seen

NOW = 1_800_000_000_000
TASKS = st.sampled_from(["one", "two", "three"])
KINDS = st.sampled_from(FailureKind)
RESETS = st.none() | st.sampled_from([-HOUR, 0, 30 * SECOND, 61 * SECOND, 3 * HOUR, 5000 * HOUR])
STEPS = st.sampled_from([1, SECOND, MINUTE, 30 * MINUTE, 7 * HOUR, -1, -MINUTE, -HOUR])


def tier(name: str, account: str, model: str | None = None, guard: str = "") -> Tier:
    """A tier of some agent."""
    return Tier(name, "agent", account, model, guard)


FIRST = (
    Chain("a", (tier("max", "acc", "opus"), tier("api", "key", "opus"), tier("last", "acc", "sonnet"))),
    Chain("b", (tier("api", "key", "opus"), tier("cousin", "acc", "opus"), tier("own", "else"))),
)


class TwoChains(RuleBasedStateMachine):
    """Failures, successes, clocks that step back, releases and edits, in any order, against the reference model."""

    @initialize()
    def begin(self) -> None:
        """Nothing has happened yet."""
        self.plan = Plan({chain.name: chain for chain in FIRST})
        self.board, self.model = Board(), Model(self.plan)
        self.now, self.edits, self.log = NOW, 0, []
        self.runs = [(chain, each) for chain in FIRST for each in chain.tiers]  # of any configuration there ever was

    def write(self, events: tuple[Event, ...]) -> None:
        """Events go to the log and, one by one, to the board."""
        for event in events:
            self.board = apply(self.board, event)
        self.log.extend(events)

    @rule(which=st.integers(0), kind=KINDS, reset=RESETS, task=TASKS, retries=st.integers(0, 3), model=st.booleans())
    def fail(self, which: int, kind: FailureKind, reset: int | None, task: str, retries: int, *, model: bool) -> None:
        """A run ends badly, perhaps long after its chain has moved or was edited."""
        chain, mine = self.runs[which % len(self.runs)]
        limited = "claude-opus" if model else None
        failure = Failure(kind, reset_ms=None if reset is None else self.now + reset, model=limited)
        self.answer(chain, mine, failure, task, retries, None)

    @rule(which=st.integers(0), kind=KINDS, others=st.integers(1, 4))
    def burst(self, which: int, kind: FailureKind, others: int) -> None:
        """Several runs end badly at the same moment on one tier."""
        chain, mine = self.runs[which % len(self.runs)]
        for number in range(others):
            self.answer(chain, mine, Failure(kind), f"task {number}", 2, None)

    @rule(which=st.integers(0), brake=st.sampled_from(Brake), until=st.sampled_from([1, HOUR, 24 * HOUR]))
    def spend(self, which: int, brake: Brake, until: int) -> None:
        """A budget is reached."""
        chain, mine = self.runs[which % len(self.runs)]
        owner = mine.name if brake is Brake.TIER else chain.name
        failure = Failure(FailureKind.TOKEN_BUDGET, reset_ms=self.now + until)
        self.answer(chain, mine, failure, None, 0, Budget(brake, owner, 10, Lifetime()))

    def answer(
        self, chain: Chain, mine: Tier, failure: Failure, task: str | None, retries: int, budget: Budget | None
    ) -> None:
        """One bump, in both worlds."""
        before = {each.name: pick(self.board, each, self.now) for each in self.plan.chains.values()}
        step = bump(self.board, self.plan, chain, mine, failure, self.now, task=task, retries=retries, budget=budget)
        expected = self.model.bump(chain, mine, failure, self.now, task, retries, budget)
        assert (step.next.value, step.wait_ms) == expected
        told = [event.chain for event in step.events if event.kind is EventKind.EXHAUSTED]
        assert sorted(told) == sorted(self.model.told)
        self.write(step.events)
        for each in self.plan.chains.values():
            was = before[each.name]
            moved = was is not None and pick(self.board, each, self.now) != was
            heard = [event for event in step.events if event.chain == each.name and event.hold]
            assert not moved or heard, "no silent switch"

    @rule(which=st.integers(0))
    def succeed(self, which: int) -> None:
        """A run ends well."""
        chain, mine = self.runs[which % len(self.runs)]
        self.write((succeeded(chain, mine, "good", self.now),))
        self.model.succeeded(chain, mine)

    @rule(step=STEPS, written=st.booleans())
    def pass_time(self, step: int, *, written: bool) -> None:
        """The clock moves, forwards or back; the timer may or may not have noticed."""
        self.now += step
        if written:
            before = dict(self.board.holds)
            self.write(settle(self.board, self.plan, self.now))
            self.model.settle(self.now)
            gone = before.keys() - self.board.holds.keys()
            assert all(any(e.hold and e.hold.key == key for e in self.log) for key in gone), "no silent return"

    @precondition(lambda self: self.board.holds)
    @rule(chain=st.sampled_from("ab"), place=st.none() | st.integers(0, 9), kind=st.none() | KINDS)
    def let_go(self, chain: str, place: int | None, kind: FailureKind | None) -> None:
        """The operator releases one tier or all, of one kind or of all."""
        mine = self.plan.chains[chain]
        one = None if place is None else mine.tiers[place % len(mine.tiers)]
        self.write(release(self.board, self.plan, mine, self.now, tier=one, kind=kind))
        self.model.release(mine, self.now, one, kind)

    @rule(
        chain=st.sampled_from("ab"), place=st.integers(0, 9), how=st.sampled_from(["guard", "rename", "remove", "add"])
    )
    def edit(self, chain: str, place: int, how: str) -> None:
        """The configuration changes: a new login, a renamed, a removed or a new tier."""
        self.edits += 1
        mine = self.plan.chains[chain]
        old = mine.tiers[place % len(mine.tiers)]
        changed = {
            "guard": (replace(old, guard=f"guard {self.edits}"),),
            "rename": (replace(old, name=f"tier{self.edits}"),),
            "remove": () if len(mine.tiers) > 1 else (old,),
            "add": (old, tier(f"tier{self.edits}", "acc" if self.edits % 2 else f"acc{self.edits}")),
        }[how]
        chains = {}
        for each in self.plan.chains.values():  # a tier is one thing, in whatever chains it stands
            lists = each.name == chain or how == "guard"
            tiers = [new for one in each.tiers for new in (changed if lists and one.name == old.name else (one,))]
            chains[each.name] = replace(each, tiers=tuple(tiers))
        self.plan = self.model.plan = Plan(chains)
        self.runs += [(each, one) for each in chains.values() for one in each.tiers]

    @invariant()
    def agree(self) -> None:
        """Both worlds hold, count, doubt and remember the same, and pick the same."""
        assert seen(self.board) == self.model.as_seen()
        busy = frozenset(self.plan.chains["a"].targets(self.plan.chains["a"].tiers[0]))
        for chain in self.plan.chains.values():
            for running in (frozenset(), busy):
                picked = pick(self.board, chain, self.now, busy=running)
                assert (picked.name if picked else None) == self.model.pick(chain, self.now, running)

    def teardown(self) -> None:
        """The log, cut anywhere and taken up again, makes the same board."""
        for cut in range(0, len(self.log) + 1, 1 + len(self.log) // 8):
            assert fold(fold(Board(), self.log[:cut]), self.log[cut:]) == self.board


TwoChains.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
test_random_lives_of_two_chains_agree_with_the_model = TwoChains.TestCase


def hold(kind: FailureKind = FailureKind.CRASH, until_ms: int | None = NOW + 1) -> Hold:
    """A hold of one tier."""
    return Hold(tier_target("t"), kind, NOW, until_ms, "why", "c", "t")


@pytest.mark.parametrize(("until_ms", "held"), [(NOW - 1, False), (NOW, False), (NOW + 1, True), (None, True)])
def test_a_hold_ends_at_its_until_and_not_a_moment_later(until_ms: int | None, *, held: bool) -> None:
    """`until` is the first moment at which the target may be picked again."""
    assert hold(until_ms=until_ms).active(NOW) is held


def test_a_chain_nobody_heard_of_is_new() -> None:
    """Reading it neither fails nor makes it up."""
    board = Board()
    assert board.chain("nobody") == NEW_CHAIN
    assert not board.chains


def test_pausing_moves_nothing_else() -> None:
    """`paused` and `resumed` are remembered of that one chain; `started` changes nothing."""
    board = fold(Board(), [Event(EventKind.BUMPED, "c", NOW, "t", "x", FailureKind.CRASH, hold=hold())])
    paused = apply(board, Event(EventKind.PAUSED, "c", NOW))
    assert paused.chain("c").paused
    assert paused.holds == board.holds
    assert apply(paused, Event(EventKind.RESUMED, "c", NOW)) == board
    assert apply(board, Event(EventKind.STARTED, "c", NOW, "t", "x")) is board


def test_the_fold_leaves_the_board_it_began_with_alone() -> None:
    """A board is a value: those who read an older one keep what they read."""
    board = Board()
    fold(board, [Event(EventKind.BUMPED, "c", NOW, "t", "x", FailureKind.CRASH, hold=hold())])
    assert board == Board()
    assert board.holds_by_target == {}


@pytest.mark.parametrize("kind", [EventKind.BUMPED, EventKind.EXTENDED, EventKind.RETURNED, EventKind.RELEASED])
def test_an_event_about_a_hold_says_which(kind: EventKind) -> None:
    """A log line that lost its hold is refused, not guessed at."""
    with pytest.raises(AssertionError):
        apply(Board(), Event(kind, "c", NOW, "t"))


def test_exhaustion_is_what_it_says() -> None:
    """A chain is exhausted when every tier is held, whoever holds it."""
    chain = Chain("c", (tier("t", "acc"), tier("u", "acc")))
    board = fold(Board(), [Event(EventKind.BUMPED, "c", NOW, "t", "x", FailureKind.CRASH, hold=hold())])
    assert not is_exhausted(board, chain, NOW)
    assert is_exhausted(board, replace(chain, tiers=chain.tiers[:1]), NOW)
    assert not is_exhausted(board, chain, NOW + 1)
