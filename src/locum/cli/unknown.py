"""The failures that no rule knew when they happened, and what the rules in force now make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from locum.agents.base import Agent
from locum.agents.own import own_rules
from locum.agents.registry import agents
from locum.agents.replay import Held
from locum.agents.rules import Rule, rules_for
from locum.cli.client import Json
from locum.config.load import Loaded
from locum.engine.kept import meta_of, recorded
from locum.engine.redact import Redactor
from locum.engine.spool import Spool
from locum.places import state_dir
from locum.policy.failure import Failure, FailureKind
from locum.policy.task import Run
from locum.store.peek import unknown_runs
from locum.words import iso

LARGEST = 64 << 20
"""Bytes of output beyond which a run is not judged anew: it stays in the list."""


def failures(agent: str | None, loaded: Loaded | None, environ: Mapping[str, str]) -> tuple[list[Json], list[Json]]:
    """The failures (of `agent`; None: of all) whose files are still kept: those that are still unknown, and those that
    a rule reads now, newest first.

    Raises StateError when the ledger cannot be read.
    """
    state, own = state_dir(environ), own_rules(loaded) if loaded else ()
    known = agents(own)
    unknown, explained = list[Json](), list[Json]()
    for run in unknown_runs(state / "locum.db"):
        spool = Spool(state / "runs" / run.id)
        if agent not in (None, run.tier.agent) or not spool.folder.is_dir():
            continue
        told = {"run": run.id, "task": run.task, "tier": run.tier.name, "agent": run.tier.agent, "exit": run.exit}
        told |= {"ended": iso(run.ended_ms), "reason": run.reason}
        rule = _rule(run, spool, known[run.tier.agent], own) if run.tier.agent in known else None
        if rule is None:
            unknown.append(told)
        else:
            explained.append({**told, "rule": rule})
    return unknown, explained


def _rule(run: Run, spool: Spool, agent: Agent, own: Sequence[Rule]) -> str | None:
    """The rule by which the run would be judged now; None when there is none, or it was much too long to ask again."""
    if spool.size() > LARGEST:
        return None
    case = Held(Path(), meta_of(run, spool, run.id), {}, recorded(run, agent, spool, Redactor()))
    told = case.replay({agent.name: agent}).verdict(case.end)
    if not isinstance(told, Failure) or told.kind is FailureKind.UNKNOWN:
        return None
    return told.rule if told.rule in {each.id for each in rules_for(agent.name, own)} else None
