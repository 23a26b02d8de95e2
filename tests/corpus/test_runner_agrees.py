"""What a replay makes of a recorded run is what the runner makes of it, from the same files in a spool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from locum.agents.base import Seat
from locum.agents.registry import AGENTS
from locum.agents.replay import STREAMS, TRANSCRIPT, Case
from locum.clock import SystemClock
from locum.engine.runner import EVIDENCE_KEPT, Bounds, Runner, Watched
from locum.engine.spool import Spool
from locum.policy.failure import Failure
from locum.policy.plan import Tier
from locum.policy.usage import NO_TOKENS
from locum.store.ledger import Ledger
from tests.corpus.mangled import MANGLED, without_counts
from tests.corpus.replay import cases
from tests.ledgers import opened, started

pytestmark = pytest.mark.anyio
BOUNDS = Bounds(stall_after=60, time_limit=None, spool=1 << 30, stop_grace=1)


async def run_of(case: Case, number: int, folder: Path, ledger: Ledger) -> Runner:
    """The run as the recorder left it: its files in a spool, its transcript below a home."""
    run = await started(ledger, number, tier=Tier("c", case.agent, "bravo"))
    if chosen := case.meta.get("chosen"):
        await ledger.saw_session(run.id, chosen, run.started_ms)
        run = await ledger.run(run.id)
    spool, home = Spool(folder / "spool"), folder / "home"
    spool.create("do it")
    for path, name in zip((spool.out, spool.err), (name for _, name in STREAMS), strict=True):
        path.write_bytes(case.text(name))
    if place := case.meta.get("place"):
        (home / place).parent.mkdir(parents=True)
        (home / place).write_bytes(case.text(TRANSCRIPT))
    if case.end.exit is not None:
        written = spool.folder / "exit"
        written.write_text(f"{case.end.exit if case.end.exit >= 0 else 128 - case.end.exit}\n")
        os.utime(written, ns=(case.end.ended_ms * 1_000_000,) * 2)
    environ = {"HOME": str(folder / "nobody")} | case.environ(home)
    seat = Seat("c", home=home)
    return Runner(Watched(run, AGENTS[case.agent], seat, spool, BOUNDS, environ, "UTC", 0.0), ledger, SystemClock())


async def test_the_runner_judges_every_recorded_run_alike(tmp_path: Path) -> None:
    """Kind, rule, reset, window, session, tokens, and whether they are known: the corpus proves what the daemon does."""
    ledger = await opened(tmp_path)
    differing = []
    for number, case in enumerate(cases(), 1):
        runner = await run_of(case, number, tmp_path / f"{number}", ledger)
        ending, failure = await runner.watch(None)
        told, reading = case.verdict(), case.replay()
        spent = await ledger.run_tokens(runner.watched.run.id)
        facts = [
            (ending.session or "", reading.session or case.meta.get("chosen", "")),
            (ending.total or spent, reading.spent),
            (ending.usage_known, reading.usage_known(told)),
            (failure is None, not isinstance(told, Failure)),
        ]
        if isinstance(told, Failure) and failure is not None:
            of_exit = told.rule.startswith("exit:")  # the spool tells -15 as 143
            facts += [
                (failure.kind, told.kind),
                (failure.rule if not of_exit else "", told.rule if not of_exit else ""),
                (failure.evidence, told.evidence[:EVIDENCE_KEPT]),
                (failure.reset_ms, told.reset_ms),
                (failure.window, told.window),
                (failure.lost_session, told.lost_session),
            ]
        differing += [(case.name, one, other) for one, other in facts if one != other]
    await ledger.close()
    assert not differing


async def test_the_runner_knows_what_it_was_not_told(tmp_path: Path) -> None:
    """Of every agent's answer without counts: a success whose tokens are unknown, in the ledger and in a replay alike."""
    ledger = await opened(tmp_path)
    good = {case.agent: case for case in cases() if case.expected["kind"] is None}
    assert good.keys() == AGENTS.keys()
    for number, case in enumerate(good.values(), 1):
        runner = await run_of(without_counts(case, MANGLED["nothing"]), number, tmp_path / f"{number}", ledger)
        ending, failure = await runner.watch(None)
        await ledger.end_run(runner.watched.run.id, ending, failure, runner.watched.run.started_ms + 1)
        run = await ledger.run(runner.watched.run.id)
        assert (failure, run.usage_known, run.tokens) == (None, False, NO_TOKENS), case.name
    assert (await ledger.usage("chain:default", run.started_ms)).unknown_runs == len(good)
    await ledger.close()
