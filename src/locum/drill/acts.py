"""What scenarios are made of: work brought to its end, tiers that come back, a tier that has to prove itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import anyio

from locum.drill.ask import Json
from locum.drill.costs import COSTS
from locum.drill.director import Fault, Played
from locum.drill.evidence import Held, all_rows, holds_of
from locum.drill.promises import COMES_BACK, NO_TASK_LOST, ONE_PATH
from locum.drill.stage import LOOK_EVERY, PATIENCE, BrokenPromiseError, Stage, UsedUpError
from locum.policy.plan import Chain, Tier
from locum.words import from_iso

AHEAD_MS = 2_000
"""How long before the end of a hold it is looked whether it still stands."""
_IDLE = 0.4
"""Real seconds without a run after which a waiting task waits for time to pass."""
_NOTICED = 0.2
"""Real seconds in which the daemon notices a leap."""
_FEW_ATTEMPTS = 3
"""Attempts with which a task may fail ahead of a tier that works."""
_TO_DISPROVE = frozenset(str(kind) for kind, cost in COSTS.items() if cost.proves)


async def finish(stage: Stage, chain: str, task: str, *, wait: bool = True) -> Json:
    """See a task to its end, leaping over what nobody waits for; the task.

    When every tier is held, whatever was wrong is mended, as vendors' limits end, and the first to come back is
    waited for; with `wait` False the task is returned as it stands. Raises BrokenPromiseError when it never ends, and
    UsedUpError when every tier is held for good.
    """
    idle = 0.0
    with anyio.move_on_after(PATIENCE + 2 * len(stage.chains[chain].tiers)):
        while True:
            found = await stage.task(task)
            if found["state"] in ("done", "failed", "cancelled"):
                return found
            busy = bool(stage.director.on_stage)
            idle = 0.0 if busy or found["state"] != "queued" else idle + LOOK_EVERY
            if busy:
                await stage.hurry()
            elif idle and found["runs"] and found["runs"][-1]["next"] == "retry":
                stage.leap_to(stage.due_ms(found["runs"][-1]["id"]))
            elif idle > _IDLE:
                standing = await stage.standing(chain)
                if standing["exhausted"] and not wait:
                    return found
                if standing["exhausted"] and stage.still:
                    stage.still -= 1
                elif standing["exhausted"]:
                    stage.director.faults.clear()
                if not await _next_return(stage) and _for_good(standing):
                    raise UsedUpError(chain)
                idle = 0.0
            await anyio.sleep(LOOK_EVERY)
    raise BrokenPromiseError(NO_TASK_LOST, f"task {task} of {chain} did not end")


async def do(stage: Stage, chain: str) -> Json:
    """A task from its submission to its end."""
    return await finish(stage, chain, await stage.submit(chain))


async def make_room(stage: Stage, chain: str) -> None:
    """Let holds run out until a tier of the chain is free. Raises UsedUpError when none ever is."""
    while (standing := await stage.standing(chain))["exhausted"]:
        if not await _next_return(stage) and _for_good(standing):
            raise UsedUpError(chain)


def _for_good(standing: Json) -> bool:
    """Whether every tier of a chain is held, and none of them ever comes back by itself."""
    return bool(standing["exhausted"]) and earliest(standing) is None


async def tidy(stage: Stage, chain: Chain) -> None:
    """Take everything back that was done to have a chain fail, wherever that broke off; what waits is cancelled."""
    stage.director.calm()
    stage.still = 0
    await stage.post(f"/chains/{chain.name}/release", {"kind": "operator"})
    for task in stage.tasks:
        if (await stage.task(task))["state"] == "queued":
            stage.cancelled.add(task)
            await stage.post(f"/tasks/{task}/cancel")


async def come_back(stage: Stage) -> None:
    """Let every hold run out that ever does, looking at each just before and just after its end."""
    while await _next_return(stage):
        pass


async def _next_return(stage: Stage) -> bool:
    """Let the next holds run out; whether there were any. Raises BrokenPromiseError when they do not end."""
    last = await _last_event(stage)
    ends = {key: until for key, until in (await stage.holds()).items() if until is not None}
    if not ends:
        return False
    due_ms = min(ends.values())
    stage.leap_to(due_ms - AHEAD_MS)
    await anyio.sleep(_NOTICED)
    stage.leap_to(due_ms + 1)

    async def over() -> bool:
        told = (await stage.get("/events", after=last, limit=1000))["events"]
        ended = {(each["hold"]["target"], each["hold"]["kind"]) for each in told if each["kind"] in _ENDINGS}
        moved = any(each["kind"] == "extended" for each in told)
        return moved or all(key in ended for key, until in ends.items() if until == due_ms)

    await stage.until(over, COMES_BACK, f"no hold ended at its time ({', '.join(target for target, _ in ends)})")
    return True


_ENDINGS = ("returned", "released")


async def _last_event(stage: Stage) -> int:
    last = 0
    while page := (await stage.get("/events", after=last, limit=1000))["events"]:
        last = page[-1]["seq"]
    return last


async def on_stage(stage: Stage, task: str, promise: str) -> Played:
    """The run of a task that is in progress, once there is one."""

    def found() -> bool:
        return any(each.task == task for each in stage.director.on_stage)

    await stage.until(found, promise, f"task {task} was not started")
    return next(each for each in stage.director.on_stage if each.task == task)


async def walk(stage: Stage, chain: Chain, faults: Mapping[str, Fault], *, rounds: int = 1, times: int = 1) -> None:
    """Have tasks meet these faults, tier by tier, until `rounds` of them are done; then everything works again.

    `times`: that often, each time as soon as the holds of the last have run out, with no success between.
    """
    stage.still = times - 1
    while True:
        stage.director.faults.update(faults)
        await _stand_aside(stage, chain, faults)
        await _meet(stage, chain, rounds)
        stage.director.faults.clear()
        for tier in chain.tiers:
            await stage.post(f"/chains/{chain.name}/release", {"tier": tier.name, "kind": "operator"})
        await come_back(stage)
        if not stage.still:
            break
        stage.still -= 1
    await prove(stage, chain)


async def _meet(stage: Stage, chain: Chain, rounds: int) -> None:
    """Task after task, until so many are done."""
    done = 0
    for _ in range(rounds * (len(chain.tiers) + 2)):
        task = await do(stage, chain.name)
        if task["state"] == "failed" and task["reason_code"] not in ("attempts", "every_tier", "task_tokens"):
            stage.notes.append(f"{chain.name} does not move for {task['reason_code']}: it is not among its triggers")
            return
        few = stage.loaded.plan.attempts <= _FEW_ATTEMPTS and task["reason_code"] == "attempts"
        done += task["state"] == "done" or task["reason_code"] == "every_tier" or few
        if done >= rounds:
            return
    raise BrokenPromiseError(NO_TASK_LOST, f"no task of {chain.name} was done, and its last tier works")


async def _stand_aside(stage: Stage, chain: Chain, faults: Mapping[str, Fault]) -> None:
    """Take the chain off the tiers that work ahead of those that fail: work would not get there."""
    names = [tier.name for tier in chain.tiers]
    last = max(names.index(tier) for tier in faults)
    for name in names[:last]:
        if name not in faults:
            await stage.post(f"/chains/{chain.name}/bump", {"tier": name, "reason": "others are rehearsed"})
            stage.bumped.add(f"tier:{name}")


def but_last(chain: Chain) -> tuple[str, ...]:
    """The tiers that may fail for work to go on: all but the last, and the only one of a chain with one."""
    names = tuple(tier.name for tier in chain.tiers)
    return names[:-1] or names


def doubted(chain: Chain, tiers: Mapping[str, Tier], holds: Iterable[Held], played: Iterable[Played]) -> bool:
    """Whether the first tier has come back from a hold that it has to disprove, and nothing has disproved it since."""
    targets = chain.targets(chain.tiers[0])
    good = [each for each in played if each.kind is None and each.ended_ms is not None]
    for hold in holds:
        if hold.target not in targets or hold.ended_ms is None or hold.kind not in _TO_DISPROVE:
            continue
        if not any((each.ended_ms or 0) >= hold.ended_ms and _of(tiers[each.tier], hold.target) for each in good):
            return True
    return False


def _of(tier: Tier, target: str) -> bool:
    """Whether a success of `tier` speaks for what was held."""
    mine = (f"tier:{tier.name}", f"account:{tier.account}", f"model:{tier.account}|{tier.model}")
    return target in mine


async def prove(stage: Stage, chain: Chain) -> None:
    """What has come back is preferred again; if it was held by its vendor, one task at a time until one succeeds."""
    first, standing = chain.tiers[0].name, await stage.standing(chain.name)
    if standing["tiers"][0]["state"] == "held":
        return  # for good: until somebody raises a limit
    holds = holds_of(await all_rows(stage, "events"))
    doubtful = doubted(chain, stage.loaded.plan.tiers, holds, stage.director.played)
    if doubtful != (standing["tiers"][0]["state"] == "probation"):
        was = "came back without probation" if doubtful else f"is {standing['tiers'][0]['state']} for no reason"
        raise BrokenPromiseError(COMES_BACK, f"{first} {was}")
    gate = stage.director.gates[first] = anyio.Event()
    try:
        one = await stage.submit(chain.name)
        if (began := await on_stage(stage, one, COMES_BACK)).tier != first:
            raise BrokenPromiseError(COMES_BACK, f"{first} is back, and {began.tier} was used")
        if doubtful and stage.loaded.service.limits.parallel > 1:
            await _another(stage, chain, first)
    finally:
        gate.set()
        stage.director.gates.pop(first)
    for task in stage.tasks[stage.tasks.index(one) :]:
        await finish(stage, chain.name, task)


async def _another(stage: Stage, chain: Chain, first: str) -> None:
    """A second task beside the one that tries a tier: it takes another tier, or waits."""
    task = await stage.submit(chain.name)
    for _ in range(round(_IDLE * 2 / LOOK_EVERY)):
        if any(each.task == task for each in stage.director.played):
            break
        await anyio.sleep(LOOK_EVERY)
    if any(each.task == task and each.tier == first for each in stage.director.played):
        raise BrokenPromiseError(ONE_PATH, f"{first} is on probation, and was given two tasks at a time")


def earliest(standing: Json) -> int | None:
    """When the first tier of a chain has no hold left (epoch milliseconds); None: none ever by itself."""
    ends: list[int] = []
    for tier in standing["tiers"]:
        untils = [from_iso(hold["until"]) for hold in tier["holds"]]
        if None not in untils:
            ends.append(max((each for each in untils if each is not None), default=0))
    return min(ends, default=None)


def playable(stage: Stage, tiers: Iterable[str], fault: Fault) -> dict[str, Fault]:
    """The fault on each of these tiers whose agent can show it; which cannot is noted."""
    return {tier: fault for tier in tiers if stage.director.can(tier, fault.name)}
