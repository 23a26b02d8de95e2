"""The plan: which holds and budgets concern which tiers, against brute force."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from locum.policy.failure import ALWAYS_ACT, DEFAULT_TRIGGERS, FailureKind
from locum.policy.plan import (
    Brake,
    Budget,
    Chain,
    Plan,
    Tier,
    account_target,
    chain_target,
    model_target,
    rung_target,
    tier_target,
)
from locum.policy.window import Lifetime

TIERS = [Tier(f"t{n}", "agent", f"acc{n % 3}", [None, "opus", "sonnet"][n % 2 + n % 3 - 1]) for n in range(6)]
LISTS = st.lists(st.sampled_from(TIERS), min_size=1, max_size=4, unique=True)


def plan_of(lists: list[list[Tier]]) -> Plan:
    """Chains c0, c1, … of these tiers."""
    chains = [Chain(f"c{place}", tuple(tiers)) for place, tiers in enumerate(lists)]
    return Plan({chain.name: chain for chain in chains})


@given(st.lists(LISTS, min_size=1, max_size=4))
def test_the_chains_under_a_target_are_those_with_a_tier_that_it_holds(lists: list[list[Tier]]) -> None:
    """The index finds, in the order of the file and each once, what looking at every tier finds."""
    plan = plan_of(lists)
    every = {target for chain in plan.chains.values() for tier in chain.tiers for target in chain.targets(tier)}
    for target in every:
        found = [chain for chain in plan.chains.values() if any(target in chain.targets(tier) for tier in chain.tiers)]
        assert list(plan.chains_under(target)) == found
    assert plan.chains_under(tier_target("nobody")) == ()
    assert plan.tiers == {tier.name: tier for tiers in lists for tier in tiers}


def test_a_tier_is_kept_back_by_its_chain_rung_name_account_and_model() -> None:
    """Five things, four for a tier that names no model; none of them is another tier's or another chain's."""
    chain = Chain("c", (Tier("t", "agent", "acc", "opus"), Tier("plain", "agent", "acc")))
    first, second = chain.tiers
    shared = (chain_target("c"), account_target("acc"))
    own = (rung_target("c", "t"), tier_target("t"), model_target("acc", "opus"))
    assert set(chain.targets(first)) == {*shared, *own}
    assert set(chain.targets(second)) == {*shared, rung_target("c", "plain"), tier_target("plain")}
    assert set(chain.targets(first)) & set(chain.targets(second)) == set(shared)


def test_targets_of_different_sorts_never_meet() -> None:
    """One name used for a chain, a tier, an account and a model holds four things."""
    made = [chain_target("x"), rung_target("x", "x"), tier_target("x"), account_target("x"), model_target("x", "x")]
    assert len(set(made)) == len(made)


def test_a_chain_acts_on_its_triggers_and_on_what_always_acts() -> None:
    """An empty list of triggers still lets the operator and the unknown act, and nothing else."""
    assert {kind for kind in FailureKind if Chain("c", (), frozenset()).acts_on(kind)} == ALWAYS_ACT
    assert {kind for kind in FailureKind if Chain("c", ()).acts_on(kind)} == DEFAULT_TRIGGERS


def test_a_chain_finds_its_tiers_by_name() -> None:
    """A tier of another chain is not found."""
    chain = Chain("c", (TIERS[0], TIERS[1]))
    assert chain.tier("t1") is TIERS[1]
    assert chain.tier("t2") is None


def test_usage_counts_against_the_budgets_of_its_chain_and_its_tier_only() -> None:
    """All three brakes of the run's own chain and tier, none of others that bear the same name."""
    every = [Budget(brake, owner, 5, Lifetime()) for brake in Brake for owner in ("one", "two")]
    plan = Plan({}, tuple(every))
    assert {budget.id for budget in plan.budgets_of("one", "two")} == {"chain:one", "halt:one", "tier:two"}
    assert plan.budgets_of("nobody", "nobody") == ()
    assert len({budget.id for budget in every}) == len(every)
    assert {budget.scope for budget in every} == {"chain:one", "chain:two", "tier:one", "tier:two"}
