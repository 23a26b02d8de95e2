"""The three brakes: what happens in the very commit in which a budget is used up, or is found to have room again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from locum.policy import chain as policy
from locum.policy.board import Event, Hold
from locum.policy.budget import Reading, spent
from locum.policy.plan import Brake, Budget, Chain, Plan, Tier, tier_target
from locum.policy.usage import Payer
from locum.policy.window import Rolling
from locum.store import alerts, log, readings, tally
from locum.store.codec import Write


@dataclass(frozen=True, slots=True)
class _Fired:
    """A crossing on record. `until_ms` is when it was expected to have room again."""

    seq: int
    acted: bool
    until_ms: int | None


def check(tx: Write, chain: str, tier: Tier, now_ms: int) -> tuple[Event, ...]:
    """Tell of what usage of `tier` in `chain` has reached, and fire the budgets that are now over, once a window."""
    plan = tx.memory.plan
    found = [readings.read(tx, budget, now_ms) for budget in plan.budgets_of(chain, tier.name)]
    used = _used(found)
    for scope in (f"chain:{chain}", f"tier:{tier.name}"):
        alerts.tell(tx, scope, chain, now_ms, used)
    events: list[Event] = []
    for reading in found:
        events += _follow(tx, reading, now_ms)
        if reading.over:
            at = plan.chains.get(chain) or _home(plan, reading.budget) or Chain(chain, (tier,))
            events += _fire(tx, reading, at, tier, now_ms)
    return tuple(events)


def check_payer(tx: Write, payer: Payer, now_ms: int) -> tuple[Event, ...]:
    """`check` for usage of a session that is not ours; that of nobody's tier counts against no budget."""
    if payer.chain is None or payer.tier is None or payer.account is None:
        return ()
    tier = tx.memory.plan.tiers.get(payer.tier) or Tier(payer.tier, payer.agent, payer.account, payer.model)
    return check(tx, payer.chain, tier, now_ms)


def replan(tx: Write, plan: Plan, now_ms: int) -> tuple[Event, ...]:
    """Take over a plan: tell of what is reached by it, lift what its budgets hold no more, fire those newly over."""
    tx.memory = replace(tx.memory, plan=plan)
    tally.trace_blocks(tx, plan)
    found = {budget.id: readings.read(tx, budget, now_ms) for budget in plan.budgets}
    alerts.tell_all(tx, now_ms, _used(found.values()))
    events = list(_review(tx, found, now_ms))
    for reading in found.values():
        if reading.over:
            chain, tier = _seat(tx, reading.budget, now_ms)
            events += _fire(tx, reading, chain, tier, now_ms)
    return tuple(events)


def look_back(tx: Write, payers: Iterable[Payer], now_ms: int) -> tuple[Event, ...]:
    """Look at every budget anew after history of `payers` has come in, in no order and unseen by any budget.

    Blocks begin where they would if all had been told in its time; a hold that stands ends when its block now ends.
    """
    plan = tx.memory.plan
    events = list(settle(tx, now_ms))
    before = alerts.open_blocks(tx, now_ms)
    for scope, rules in plan.blocks.items():
        for rule in rules:
            tx.run("forget_blocks", scope=scope, length_ms=rule.length_ms)
    tally.trace_blocks(tx, plan)
    alerts.carry_over(tx, before, now_ms)
    events += _review(tx, {budget.id: readings.read(tx, budget, now_ms) for budget in plan.budgets}, now_ms)
    for payer in payers:
        events += check_payer(tx, payer, now_ms)
    return tuple(events)


def settle(tx: Write, now_ms: int) -> tuple[Event, ...]:
    """Write what has ended by now. Rolling budgets whose holds are due are read again first: if over, they hold on.

    Comes ahead of any usage recorded at the same moment, which would look as if it had never been below.
    """
    alerts.rest(tx, now_ms)
    if not policy.settle(tx.memory.board, tx.memory.plan, now_ms):
        return ()
    events = _overdue(tx, now_ms)
    return events + log.emit(tx, policy.settle(tx.memory.board, tx.memory.plan, now_ms))


def _overdue(tx: Write, now_ms: int) -> tuple[Event, ...]:
    budgets = {budget.id: budget for budget in tx.memory.plan.budgets}
    events: list[Event] = []
    for hold in _budget_holds(tx):
        budget = budgets.get(hold.budget or "")
        if budget is None or hold.active(now_ms) or not (budget.acts and isinstance(budget.window, Rolling)):
            continue
        reading = readings.read(tx, budget, now_ms)
        found = _on_record(tx, reading)
        if reading.over:
            until_ms = readings.frees_ms(tx, reading, now_ms)
            events += _extend(tx, hold, until_ms, now_ms)
            if found is not None:
                tx.run("move_episode", seq=found.seq, until_ms=until_ms)
        elif found is not None:
            tx.run("close_episode", seq=found.seq, at_ms=now_ms)
    return tuple(events)


def _fire(tx: Write, reading: Reading, chain: Chain, tier: Tier | None, now_ms: int) -> tuple[Event, ...]:
    """Remember a crossing that is not on record, and hold what it has not held; without a tier there is nothing to."""
    budget, found = reading.budget, _on_record(tx, reading)
    acts = budget.acts and tier is not None
    if found is None:
        until_ms = readings.frees_ms(tx, reading, now_ms)
        _put_on_record(tx, reading, until_ms, now_ms, acted=acts)
    elif acts and not found.acted:
        until_ms = readings.frees_ms(tx, reading, now_ms)
        tx.run("mark_acted", seq=found.seq)
    else:
        return ()
    if not acts or tier is None:
        return ()
    failure, plan = spent(reading, until_ms), tx.memory.plan
    step = policy.bump(tx.memory.board, plan, chain, tier, failure, now_ms, budget=budget)
    return log.emit(tx, step.events)


def _follow(tx: Write, reading: Reading, now_ms: int) -> tuple[Event, ...]:
    """Keep a rolling window's open episode in step with its sum: it ends, or is expected to end at another time."""
    if not isinstance(reading.budget.window, Rolling):
        return ()
    found = _on_record(tx, reading)
    if found is None:
        return ()
    holds = [hold for hold in _budget_holds(tx) if hold.budget == reading.budget.id and hold.active(now_ms)]
    if not reading.over:
        tx.run("close_episode", seq=found.seq, at_ms=now_ms)
        return _lift(tx, holds, now_ms)
    assert found.until_ms is not None, "a rolling window always frees up by itself"
    if found.until_ms <= now_ms:  # it ended before this usage came
        tx.run("close_episode", seq=found.seq, at_ms=found.until_ms)
        return ()
    until_ms = readings.frees_ms(tx, reading, now_ms)
    assert until_ms is not None
    if until_ms == found.until_ms:
        return ()
    tx.run("move_episode", seq=found.seq, until_ms=until_ms)
    return tuple(event for hold in holds for event in _extend(tx, hold, until_ms, now_ms))


def _revise(tx: Write, known: dict[str, Reading], now_ms: int) -> tuple[Event, ...]:
    """Lift the budget holds that the plan does not ask for any more; the others end when it says."""
    events: list[Event] = []
    lifted: list[Hold] = []
    for hold in _budget_holds(tx):
        if not hold.active(now_ms):
            continue
        reading = known.get(hold.budget or "")
        if reading is None or not reading.budget.acts or not reading.over:
            lifted.append(hold)
            tx.run("forget_acted", budget=hold.budget)
            continue
        until_ms = readings.frees_ms(tx, reading, now_ms)
        if _on_record(tx, reading) is None:  # over before and over now: the edit is no new crossing
            _put_on_record(tx, reading, until_ms, now_ms, acted=True)
        events += _extend(tx, hold, until_ms, now_ms)
    return (*_lift(tx, lifted, now_ms), *events)


def _review(tx: Write, known: dict[str, Reading], now_ms: int) -> tuple[Event, ...]:
    """Let go of what budgets do not ask for any more."""
    _close_gone(tx, known, now_ms)
    return _revise(tx, known, now_ms)


def _close_gone(tx: Write, known: dict[str, Reading], now_ms: int) -> None:
    """Close the rolling episodes of budgets that were edited away or have room again."""
    for seq, budget, limit, rule in tx.all("open_episodes"):
        reading = known.get(budget)
        same = reading is not None and (reading.budget.limit, _rule(reading.budget)) == (limit, rule)
        if reading is None or not same or not reading.over:
            tx.run("close_episode", seq=seq, at_ms=now_ms)


def _lift(tx: Write, holds: Iterable[Hold], now_ms: int) -> tuple[Event, ...]:
    memory = tx.memory
    reason = "its budget has room again"
    return log.emit(tx, policy.lift(memory.board, memory.plan, holds, now_ms, reason))


def _extend(tx: Write, hold: Hold, until_ms: int | None, now_ms: int) -> tuple[Event, ...]:
    if until_ms == hold.until_ms:
        return ()
    chain = tx.memory.plan.chains.get(hold.chain) or Chain(hold.chain, ())
    moved = replace(hold, until_ms=until_ms)
    return log.emit(tx, (policy.extended(moved, chain, now_ms, hold.reason),))


def _budget_holds(tx: Write) -> list[Hold]:
    return [hold for hold in tx.memory.board.holds.values() if hold.budget is not None]


def _home(plan: Plan, budget: Budget) -> Chain | None:
    """A chain that a budget's hold shows in, when the run's own chain has left the plan."""
    return next(iter(plan.chains_under(tier_target(budget.owner))), None) if budget.brake is Brake.TIER else None


def _used(found: Iterable[Reading]) -> alerts.Used:
    """What was added up for budgets, for whoever asks next."""
    return {(each.budget.scope, each.budget.window): (each.window, each.used) for each in found}


def _seat(tx: Write, budget: Budget, now_ms: int) -> tuple[Chain, Tier | None]:
    """The chain and tier that a budget fires on when no run has crossed it just now."""
    plan = tx.memory.plan
    if budget.brake is Brake.TIER:
        chain = _home(plan, budget) or Chain(budget.owner, ())
        return chain, chain.tier(budget.owner)
    chain = plan.chains.get(budget.owner) or Chain(budget.owner, ())
    picked = policy.pick(tx.memory.board, chain, now_ms)
    return chain, picked or (chain.tiers[0] if budget.brake is Brake.HALT and chain.tiers else None)


def _rule(budget: Budget) -> str:
    """What a budget counts, apart from its limit: an edit of it makes another budget."""
    return f"{budget.window} {budget.weights}"


def _on_record(tx: Write, reading: Reading) -> _Fired | None:
    budget = reading.budget
    values = {"budget": budget.id, "limit": budget.limit, "rule": _rule(budget)}
    if isinstance(budget.window, Rolling):
        row = tx.one("episode", **values)
    else:
        row = tx.one("fired", window_ms=reading.window.start_ms, **values)
    return None if row is None else _Fired(row[0], bool(row[1]), row[2])


def _put_on_record(tx: Write, reading: Reading, until_ms: int | None, now_ms: int, *, acted: bool) -> None:
    budget = reading.budget
    tx.run(
        "fire",
        budget=budget.id,
        limit=budget.limit,
        rule=_rule(budget),
        window_ms=reading.window.start_ms,
        rolling=isinstance(budget.window, Rolling),
        at_ms=now_ms,
        until_ms=until_ms,
        acted=acted,
    )
