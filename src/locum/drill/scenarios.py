"""The scenarios: what goes wrong in each, and how that is played with every chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import anyio

from locum.drill import acts
from locum.drill.acts import but_last, come_back, do, finish, on_stage, playable, walk
from locum.drill.ask import Json
from locum.drill.director import Fault
from locum.drill.evidence import Evidence
from locum.drill.promises import COMES_BACK, LAST_GOOD, NO_TASK_LOST, OUTLIVE, REFUSE
from locum.drill.recordings import FAULTS, choose, success
from locum.drill.spending import crossing, spent_on, used_up
from locum.drill.stage import BrokenPromiseError, Stage
from locum.policy.plan import Brake, Budget, Chain
from locum.policy.usage import LARGEST, NO_TOKENS

HOUR_MS = 3_600_000
_LATE_MS = 400 * 24 * HOUR_MS
_NOTICED = 0.3
_MOST_RUNS = 30
"""Runs in which a budget must be used up; one that is larger is not rehearsed."""
_RUNS = {"hang": 1, "lie": 1, "cut": 3}
"""How many runs a task may make on a tier with a fault whose hold is short."""
_SECONDS = frozenset({"throttle"})
"""Faults whose hold may be of seconds: as long as the next tier waits before its second try."""
_EVERYTHING = ("quota", "auth", "overload", "quota-no-reset", "cut")

Play = Callable[[Stage, Chain], Awaitable[None]]
Shown = Callable[[Evidence], bool]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One rehearsal: `says` what goes wrong; `play` has it go wrong with one chain; `shown`: it was seen to."""

    name: str
    says: str
    play: Play
    shown: Shown


async def calm(stage: Stage, chain: Chain) -> None:
    """Nothing fails, and a bad edit of service.json changes nothing."""
    await do(stage, chain.name)
    path = stage.folders.config
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"failover"', b'"fialover"', 1))
    try:
        result = await stage.post("/reload")
        if result["result"] == "applied" or not result["problems"]:
            raise BrokenPromiseError(LAST_GOOD, f"a misspelled service.json was {result['result']}")
        await do(stage, chain.name)
    finally:
        path.write_bytes(good)
    await stage.post("/reload")


async def fail(stage: Stage, chain: Chain, *, fault: str, rounds: int = 1, times: int = 1) -> None:
    """Every tier but the last fails so, in `rounds` tasks, and that so many `times` in a row.

    Where none of them can, the last one does: it works again when its hold ends.
    """
    names = but_last(chain)
    faults = playable(stage, names, Fault(fault)) or playable(stage, [chain.tiers[-1].name], Fault(fault))
    for part in _batched(faults.items(), at_a_time(fault, len(faults), stage.loaded.plan.attempts)):
        await walk(stage, chain, dict(part), rounds=rounds, times=times)


def at_a_time(fault: str, tiers: int, attempts: int) -> int:
    """How many of so many tiers may fail so at a time for a task with these attempts to get past them.

    Short holds may be over before it has walked a long chain: then some at a time; those of seconds one by one.
    """
    if fault in _SECONDS:
        return 1
    return max(1, (attempts - 1) // _RUNS[fault]) if fault in _RUNS else tiers


def _batched(items: Iterable[tuple[str, Fault]], size: int) -> Iterator[tuple[tuple[str, Fault], ...]]:
    """The items, so many at a time."""
    left = tuple(items)
    while left:
        yield left[:size]
        left = left[size:]


async def late_reset(stage: Stage, chain: Chain) -> None:
    """Limits whose told end has long passed, or is absurdly far; then one that is still reached at its end."""
    now_ms, faults = stage.now_ms(), {}
    for number, tier in enumerate(playable(stage, but_last(chain), Fault("quota"))):
        if stage.director.exact(tier):
            reset_ms = now_ms - 2 * HOUR_MS if number % 2 == 0 else now_ms + _LATE_MS
            faults[tier] = Fault("quota", reset_ms=reset_ms)
        else:
            stage.director.unrehearsed[tier, "late-reset"] = (
                "it tells the end of a limit as a time of day or a span only"
            )
    if faults:
        await walk(stage, chain, faults)
    again = playable(stage, but_last(chain)[:1], Fault("quota"))
    for _ in range(2 if again else 0):  # the second time as soon as the first has ended: the limit has not
        stage.director.faults.update(again)
        await do(stage, chain.name)
        await come_back(stage)
    stage.director.faults.clear()
    await come_back(stage)
    await do(stage, chain.name)


async def everything(stage: Stage, chain: Chain) -> None:
    """Every tier fails, each in its own way; work waits for the first that comes back."""
    names = [tier.name for tier in chain.tiers]
    for number, tier in enumerate(names):
        ways = _EVERYTHING[number % len(_EVERYTHING) :] + _EVERYTHING
        way = next((each for each in ways if choose(stage.tier(tier).agent, FAULTS[each])), None)
        if way:
            stage.director.faults[tier] = Fault(way)
        else:
            stage.director.unrehearsed[tier, "everything"] = "no run of its agent was recorded that fails"
    for _ in range(2 * len(names) + 2):
        waiting = await finish(stage, chain.name, await stage.submit(chain.name), wait=False)
        standing = await stage.standing(chain.name)
        if standing["exhausted"]:
            break
    else:
        stage.notes.append(f"{chain.name} was not exhausted: not every tier of it can fail, or moves for it")
        stage.director.faults.clear()
        await come_back(stage)
        return
    if waiting["state"] != "queued":
        waiting = await stage.task(await stage.submit(chain.name))
    await _refused(stage, chain)
    stage.director.faults.clear()
    free_ms = acts.earliest(standing)
    if free_ms is not None:
        stage.leap_to(free_ms - acts.AHEAD_MS)
        await anyio.sleep(_NOTICED)
        if any(each.chain == chain.name for each in stage.director.on_stage):
            raise BrokenPromiseError(COMES_BACK, f"a task of {chain.name} was run while every tier of it was held")
        await finish(stage, chain.name, waiting["id"])
        await come_back(stage)


async def _refused(stage: Stage, chain: Chain) -> None:
    """Who does not want to wait is told so."""
    task = await finish(stage, chain.name, await stage.submit(chain.name, no_wait=True), wait=False)
    if task["reason_code"] != "no_tier" or not task["reason"]:
        raise BrokenPromiseError(REFUSE, f"a task that is not to wait is {task['state']} ({task['reason_code']})")


async def budget(stage: Stage, chain: Chain) -> None:
    """Every budget is used up, tier by tier, and then the one that halts."""
    over: set[str] = set()
    for _ in range(_MOST_RUNS):
        tier = (await stage.standing(chain.name))["active_tier"]
        open_ = [each for each in (_open(stage, chain, tier) if tier else []) if each.id not in over]
        if not open_:
            break
        factor = _factor(stage, tier, open_)
        if factor is None:
            break
        stage.director.factors[tier] = factor
        await do(stage, chain.name)
        stage.director.factors.clear()
        over |= {each.id for each in open_ if _crossed(stage, each)}
    for tier_ in chain.tiers:
        stage.director.factors[tier_.name] = 1
    if not (await stage.standing(chain.name))["exhausted"]:
        await do(stage, chain.name)  # what has fired does not fire again
    await come_back(stage)
    if not (await stage.standing(chain.name))["exhausted"]:
        await do(stage, chain.name)
    stage.director.factors.clear()


def _crossed(stage: Stage, budget: Budget) -> bool:
    """Whether the last run used a budget up, even if its window has moved on since."""
    played = sorted(stage.director.played, key=lambda each: each.at_ms)
    return crossing(budget, spent_on(budget, played, played[-1].at_ms)) is not None


def _open(stage: Stage, chain: Chain, tier: str) -> list[Budget]:
    """The budgets that a run there counts against and that have room; one that halts only when no other has."""
    played = sorted(stage.director.played, key=lambda each: each.at_ms)
    budgets, now_ms = stage.loaded.plan.budgets_of(chain.name, tier), stage.now_ms()
    found = [each for each in budgets if crossing(each, spent_on(each, played, now_ms)) is None]
    return [each for each in found if each.brake is not Brake.HALT] or found


def _factor(stage: Stage, tier: str, open_: list[Budget]) -> int | None:
    """How many times its recorded tokens a run must spend to use these up, as far as one run can; None: it cannot."""
    recording, factors = success(stage.tier(tier).agent), []
    assert recording is not None, "a stand-in can always succeed"
    tokens = recording.tokens
    most = (LARGEST - 1) // max(1, *tokens)
    for each in open_:
        unit = each.weights.thousandths(tokens)
        played = spent_on(each, sorted(stage.director.played, key=lambda one: one.at_ms), stage.now_ms())
        used = sum((one.tokens for one in played), NO_TOKENS)
        left = each.limit * 1000 - each.weights.thousandths(used)
        if not unit or -(-left // unit) > most * _MOST_RUNS:
            why = "is too large to be used up" if unit else f"counts no tokens that {recording.agent} tells"
            stage.director.unrehearsed[tier, "budget"] = f"the budget {each.id} {why}"
            continue
        factors.append(min(most, -(-left // unit)))
    return max(factors, default=None)


async def kill(stage: Stage, chain: Chain) -> None:
    """Kill -9 in mid-run: agents that end later, or while there is no daemon; and while something is held."""
    task = await _killed(stage, chain, ends_alone=False)
    states = [run["state"] for run in task["runs"]]
    if states != ["succeeded"]:
        raise BrokenPromiseError(OUTLIVE, f"a run that lived on was not adopted: {', '.join(states)}")
    stage.director.faults.update(playable(stage, but_last(chain)[:1], Fault("quota")))
    await _killed(stage, chain, ends_alone=True)
    stage.director.faults.clear()
    before = await stage.holds()
    await stage.kill()
    await stage.start()
    after, now_ms = await stage.holds(), stage.now_ms()
    lasting = {key: until for key, until in before.items() if until is None or until > now_ms}
    if not lasting.items() <= after.items() <= before.items():
        raise BrokenPromiseError(OUTLIVE, "what was held before a kill is not what is held after it")
    await come_back(stage)
    if (await do(stage, chain.name))["state"] != "done":
        raise BrokenPromiseError(NO_TASK_LOST, f"no task of {chain.name} is done after all that")


async def _killed(stage: Stage, chain: Chain, *, ends_alone: bool) -> Json:
    """A task in whose middle the daemon is killed; its agent ends before the next daemon starts, or after.

    It runs wherever it can: a budget may have taken the chain off its first tier by now.
    """
    await acts.make_room(stage, chain.name)
    gate = anyio.Event()
    stage.director.gates.update({tier.name: gate for tier in chain.tiers})
    task = await stage.submit(chain.name)
    played = await on_stage(stage, task, OUTLIVE)
    await anyio.sleep(_NOTICED)
    await stage.kill()
    if ends_alone:
        gate.set()
        await stage.until(lambda: played.ended is not None, OUTLIVE, "an agent without a daemon did not end")
    stage.director.gates.clear()
    await stage.start()
    gate.set()
    return await finish(stage, chain.name, task)


def _ran(evidence: Evidence) -> bool:
    return bool(evidence.played)


def _failed(evidence: Evidence) -> bool:
    return any(each.kind for each in evidence.played)


def _reset_came(evidence: Evidence) -> bool:
    return any(each.kind and each.part.reset_ms for each in evidence.played)


def _spent(evidence: Evidence) -> bool:
    return bool(used_up(evidence))


_NO_RESET = partial(fail, fault="quota-no-reset", times=2)
SCENARIOS = (
    Scenario("calm", "nothing fails; a bad edit of service.json is refused", calm, _ran),
    Scenario("auth", "logins and keys are refused", partial(fail, fault="auth"), _failed),
    Scenario("throttle", "too many requests", partial(fail, fault="throttle"), _failed),
    Scenario("quota", "limits are reached whose end is told", partial(fail, fault="quota"), _failed),
    Scenario("quota-no-reset", "limits are reached, and nobody says until when", _NO_RESET, _failed),
    Scenario("hang", "agents fall silent and do not end", partial(fail, fault="hang", rounds=2), _failed),
    Scenario("lie", "agents end with exit code 0 and have done nothing", partial(fail, fault="lie", rounds=2), _failed),
    Scenario("cut", "the vendor's answers break off", partial(fail, fault="cut"), _failed),
    Scenario("budget", "every token budget is used up", budget, _spent),
    Scenario("everything", "every tier fails at once", everything, _failed),
    Scenario("late-reset", "limits end in the past, in years, or later than told", late_reset, _reset_came),
    Scenario("kill", "the daemon is killed in mid-run", kill, _ran),
)
