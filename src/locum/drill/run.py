"""Plays scenarios with a configuration, some at a time, and judges each."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from locum.clock import SystemClock
from locum.config.load import Loaded
from locum.drill import report
from locum.drill.acts import tidy
from locum.drill.evidence import gather
from locum.drill.judge import judge
from locum.drill.promises import NO_TASK_LOST, OUTLIVE, Breach
from locum.drill.report import Result
from locum.drill.scenarios import SCENARIOS, Scenario
from locum.drill.stage import SERVE, BrokenPromiseError, Stage, UsedUpError, remove, staged
from locum.errors import LocumError, StateError, UsageError
from locum.policy.plan import Chain

_LONGEST_PATH = 60
"""Bytes that the path of a world may have, for the sockets in it to have addresses."""
_LONGEST = 600.0
"""Real seconds after which a scenario has failed whatever it is waiting for."""

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Told = Callable[[Result], None]


def drill(
    loaded: Loaded,
    environ: Mapping[str, str],
    names: Sequence[str] = (),
    *,
    told: Told = lambda _: None,
    stopping: Callable[[], None] = lambda: None,
    serve: Sequence[str] = SERVE,
) -> list[Result]:
    """Rehearse `loaded` in these scenarios (none named: all), and say what came of each, in their order.

    `told` hears of each as soon as it is over, `stopping` of an interrupt before anything is taken away; `serve` is
    what is started as the daemon.

    Raises:
        UsageError: there is no such scenario.
        StateError: there is nowhere to keep a rehearsal.
        KeyboardInterrupt: it was told to stop, and nothing of it is left.
        OSError: what `told` raised, and nothing is left then either.

    """
    scenarios = chosen(names)
    top = _scratch()
    plays = partial(_rehearse, loaded, environ, serve=tuple(serve))
    try:
        found: dict[str, Result] = anyio.run(_play, plays, scenarios, top, told, stopping)
    except ExceptionGroup as many:
        raise _first(many) from many.__cause__
    finally:
        remove(top)
    return [found[each.name] for each in scenarios]


def _first(error: Exception) -> Exception:
    """What went wrong first, of things that may have gone wrong side by side."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def chosen(names: Sequence[str]) -> tuple[Scenario, ...]:
    """The scenarios of these names, all without any. Raises UsageError for a name there is not."""
    known = {each.name: each for each in SCENARIOS}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no scenario {name}", remedy=f"The scenarios are {', '.join(known)}.")
    return tuple(each for each in SCENARIOS if not names or each.name in names)


def _scratch() -> Path:
    try:
        top = Path(tempfile.mkdtemp(prefix="locum-drill-"))
        if len(os.fsencode(top)) > _LONGEST_PATH:
            top.rmdir()
            top = Path(tempfile.mkdtemp(prefix="locum-drill-", dir="/tmp"))
    except OSError as error:
        remedy = "Name a folder with TMPDIR that you may write to."
        raise StateError(f"there is nowhere to rehearse ({error.strerror})", remedy=remedy) from error
    return top


async def _play(
    plays: Callable[[Scenario, Path], Awaitable[Result]],
    scenarios: Sequence[Scenario],
    top: Path,
    told: Told,
    stopping: Callable[[], None],
) -> dict[str, Result]:
    """Some scenarios at a time, until all are over or somebody has had enough."""
    found: dict[str, Result] = {}
    places = anyio.CapacityLimiter(max(2, len(os.sched_getaffinity(0))))
    enough = False

    async def one(scenario: Scenario) -> None:
        async with places:
            result = found[scenario.name] = await plays(scenario, top / scenario.name)
        remove(top / scenario.name)
        told(result)

    async def interrupted(scope: anyio.CancelScope) -> None:
        nonlocal enough
        async for _ in signals:
            if not enough:
                enough = True
                stopping()
                scope.cancel()

    heeded = [each for each in _INTERRUPTS if signal.getsignal(each) is not signal.SIG_IGN]  # not below nohup
    with anyio.open_signal_receiver(*heeded) as signals:
        async with anyio.create_task_group() as watch:
            async with anyio.create_task_group() as group:
                watch.start_soon(interrupted, group.cancel_scope)
                for each in scenarios:
                    group.start_soon(one, each)
            watch.cancel_scope.cancel()
    if enough:
        raise KeyboardInterrupt
    return found


async def _rehearse(
    loaded: Loaded, environ: Mapping[str, str], scenario: Scenario, top: Path, *, serve: Sequence[str]
) -> Result:
    """One scenario with every chain, one after the other, and what is to be said of it."""
    began, breaches = SystemClock().monotonic(), list[Breach]()
    async with staged(loaded, top, environ, serve) as stage:
        try:
            with anyio.fail_after(_LONGEST):
                await stage.start()
                for chain in stage.chains.values():
                    await _act(stage, scenario, chain)
        except BrokenPromiseError as error:
            breaches.append(Breach(error.promise, error.detail))
        except TimeoutError:
            breaches.append(Breach(NO_TASK_LOST, f"it did not end in {_LONGEST:.0f} s"))
        stage.director.calm()
        result = await _judged(stage, scenario, breaches)
    return replace(result, seconds=SystemClock().monotonic() - began)


async def _act(stage: Stage, scenario: Scenario, chain: Chain) -> None:
    """One scenario with one chain, as far as the tokens go that it may spend at all."""
    try:
        await scenario.play(stage, chain)
    except UsedUpError:
        await tidy(stage, chain)
        stage.notes.append(
            f"{chain.name} was not rehearsed further: what it may spend is used up until somebody raises a limit"
        )


async def _judged(stage: Stage, scenario: Scenario, breaches: list[Breach]) -> Result:
    """What came of a scenario that was played, or broke off."""
    director = stage.director
    result = Result(
        scenario.name,
        scenario.says,
        stage.began_ms,
        notes=tuple(dict.fromkeys(stage.notes)),
        unrehearsed=dict(director.unrehearsed),
        runs=len(director.played),
        tokens=sum(each.tokens.total for each in director.played),
    )
    try:
        evidence = await gather(stage)
        breaches = [*breaches, *judge(evidence)]
        result = replace(
            result,
            rehearsed=scenario.shown(evidence),
            holds=tuple(hold for hold in evidence.holds if hold.target not in evidence.bumped),
            failovers=report.failovers(evidence),
            timeline=report.timeline(evidence, stage.began_ms),
        )
    except LocumError as error:
        breaches = [*breaches, Breach(OUTLIVE, f"its record cannot be read any more: {error.detail}")]
    return replace(result, breaches=tuple(dict.fromkeys(breaches)), log=stage.log if breaches else "")
