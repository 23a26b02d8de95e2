"""Runs and tasks: what starts may start, and what ends has ended so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.sim.accounts import Refusal
from tests.sim.agents import Truth
from tests.sim.law import RULES, Law, Wanted
from tests.sim.setups import TierSetup
from tests.sim.witness import Commit, RunRow

SUCCESS = "success"


@dataclass
class Seen:
    """What has been seen of one task."""

    runs: list[tuple[RunRow, Wanted | None]] = field(default_factory=list)
    enough: int = 1000  # limits.attempts when a run of it failed last

    def retried(self, tier: str) -> int:
        """How often, in a row and until now, it was retried in place on this tier."""
        count = 0
        for row, wanted in reversed(self.runs):
            if row.state in ("stopped", "lost"):
                continue
            if row.tier != tier or wanted is None or wanted.next != "retry":
                break
            count += 1
        return count

    @property
    def avoided(self) -> set[str]:
        """The tiers on which it has failed softly."""
        return {row.tier for row, _ in self.runs if row.failure and RULES[row.failure].soft}

    @property
    def attempts(self) -> int:
        """How many attempts count."""
        return sum(row.state in ("succeeded", "failed") for row, _ in self.runs)

    @property
    def tokens(self) -> int:
        """What its runs have spent."""
        return sum(sum(row.tokens) for row, _ in self.runs)


def verdicts(truth: Truth, agent: str) -> set[str]:
    """What the end of this agent may be called."""
    if not truth.started:
        return {"crash"}
    if isinstance(truth.told, Refusal):
        return {truth.told.kind}
    killed = truth.code is None or truth.code > 128
    if truth.told == "ok" and (agent != "command" or truth.code == 0 or killed):
        return {SUCCESS}
    if killed:
        return {"crash", "stalled"} if truth.hangs else {"crash"}
    if truth.code == 0:
        return {SUCCESS} if agent == "command" else {"no_result"}
    return {"crash"} if agent == "command" or truth.code in (126, 127) else {"unknown"}


@dataclass
class Tasks:
    """Every start and every end, held against the truth."""

    law: Law
    truths: dict[str, Truth]
    broken: Callable[[str, str], None]
    may_stop: Callable[[RunRow], bool]
    limit: Callable[[str], int]  # limits.parallel
    seen: dict[str, Seen] = field(default_factory=dict)
    open: dict[str, RunRow] = field(default_factory=dict)
    ended_at: dict[str, float] = field(default_factory=dict)  # by chain: when a run there ended last
    freed: dict[tuple[str, str], float] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)  # what people were told is cancelled
    failed_tasks: set[str] = field(default_factory=set)
    starts: int = 0
    _shared: dict[str, float] = field(default_factory=dict)  # runs that share their directory: when they started
    cut: set[str] = field(default_factory=set)  # runs that were in progress when the power went
    last_end: float = -1.0  # when a run has ended: for a moment it still counts as one in progress
    _vouched: dict[str, float] = field(default_factory=dict)  # by target: when a run on it has ended last
    put_off: float = -1.0  # when a run was last put off, or not wanted any more
    _claims: list[tuple[float, set[str], str]] = field(default_factory=list)

    def of(self, task: str) -> Seen:
        """What has been seen of that task."""
        return self.seen.setdefault(task, Seen())

    # ── starts ───────────────────────────────────────────────────────────────────────────────────────────

    def start(self, row: RunRow, commit: Commit, *, shared: bool) -> None:
        """A run may start only where nothing forbids it, on the first tier that nothing forbids."""
        law, now, broken = self.law, commit.now, self.broken
        self.starts += 1
        if row.chain not in law.setup.chains:
            return broken("start", f"{row.id} starts in {row.chain}, which is not configured")
        tier = TierSetup(row.tier, row.agent, row.account, row.model)
        if held := law.held(row.chain, tier, now):
            broken("start", f"{row.id} starts on {row.tier}, which is held: {held}")
        if row.chain in law.paused:
            broken("start", f"{row.id} starts in {row.chain}, which is paused")
        if any(other.task == row.task for other in self.open.values()):
            broken("start", f"task {row.task} runs twice at the same time")
        if shared:
            self._shared[row.id] = commit.at
        if not shared and any(
            # One that shares may be written first, though it was decided after this one, in the very same moment.
            other.cwd == row.cwd and self._shared.get(other.id) != commit.at
            for other in self.open.values()
        ):
            broken("start", f"{row.id} starts in a directory that is in use")
        if sum(other.chain == row.chain for other in self.open.values()) >= self.limit(row.chain):
            broken("start", f"{row.id} is one more than limits.parallel")
        if row.tier in self.of(row.task).avoided:
            broken("start", f"{row.task} comes back to {row.tier}, where it has failed softly")
        if self.of(row.task).attempts >= self.of(row.task).enough:
            broken("start", f"{row.task} has had its attempts")
        if doubts := self._busy(row.chain, tier, now):
            broken("probation", f"{row.id} is a second run on {row.tier}, which is on probation: {doubts}")
        self.open[row.id] = row
        mine = set(law.targets(row.chain, tier))
        self._claims = [claim for claim in self._claims if claim[0] != commit.at or not claim[1] & mine]
        return self._passed_over(row, commit)

    def _busy(self, chain: str, tier: TierSetup, now: int) -> set[str]:
        """What of this tier is doubted and tried out by somebody else."""
        running: set[str] = set()
        for other in self.open.values():
            running.update(
                self.law.targets(other.chain, TierSetup(other.tier, other.agent, other.account, other.model))
            )
        return self.law.doubts(chain, tier, now) & running

    def ended_with_the_host(self) -> None:
        """What was in progress when the power went has failed nobody."""
        self.cut |= set(self.open)

    def settle_claims(self, commit: Commit) -> None:
        """Who left a tier on probation to somebody else was right only if somebody came."""
        for at, _, text in self._claims:
            if at not in (commit.at, self.put_off) and not commit.shaky:
                self.broken("start", text)
        self._claims = [claim for claim in self._claims if claim[0] == commit.at]

    def _passed_over(self, row: RunRow, commit: Commit) -> None:
        """No tier that is preferred and free is passed over."""
        for tier in self.law.tiers(row.chain):
            if tier.name == row.tier:
                return
            if self.law.held(row.chain, tier, commit.now) or tier.name in self.of(row.task).avoided:
                continue
            if self._busy(row.chain, tier, commit.now):
                continue
            targets = self.law.targets(row.chain, tier)
            if doubts := self.law.doubts(row.chain, tier, commit.now):
                if self.last_end != commit.at:
                    self._claims.append((commit.at, doubts, f"{row.id} leaves {tier.name} to nobody"))
                continue  # somebody else was picked to try it out, and starts in this very moment
            if any(at == commit.at for (target, _), at in self.freed.items() if target in targets):
                continue  # it came back in this very moment
            if any(self._vouched.get(target) == commit.at for target in targets):
                continue  # when this was picked, the run that has tried it out was still at work
            self.broken("start", f"{row.id} starts on {row.tier}, though {tier.name} is free and preferred")

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────

    def end(self, row: RunRow, commit: Commit) -> tuple[RunRow, str, Wanted] | None:
        """What this end must lead to, if it is a failure that the chain has to hear of."""
        self.open.pop(row.id, None)
        self.ended_at[row.chain] = self.last_end = commit.at
        setup = TierSetup(row.tier, row.agent, row.account, row.model)
        self._vouched |= dict.fromkeys(self.law.targets(row.chain, setup), commit.at)
        truth = self.truths.get(row.id)
        if row.state == "lost":
            if truth is not None and truth.started and (truth.code is not None or truth.tokens != (0, 0, 0, 0)):
                self.broken("books", f"{row.id} is said to have never started")
            self.of(row.task).runs.append((row, None))
            return None
        if truth is None:
            self.broken("books", f"{row.id} has ended, and nothing was ever started")
            return None
        if not truth.over:
            self.broken("end", f"{row.id} has ended in the ledger, and its agent lives")
        self._books(row, truth)
        found = self._verdict(row, truth)
        if found is None or row.chain not in self.law.setup.chains:
            self.of(row.task).runs.append((row, None))
            return None
        told = truth.told if isinstance(truth.told, Refusal) and truth.told.kind == found else None
        tier = TierSetup(row.tier, row.agent, row.account, row.model)
        at = next((ev.at for ev in commit.events if ev.failure and ev.task == row.task), commit.now)
        wanted = self.law.answer(row.chain, tier, row.task, found, told, self.of(row.task).retried(row.tier), at)
        low, high = wanted.wait
        if row.next != wanted.next or not low <= row.wait_ms <= high:
            self.broken("retry", f"{row.id} failed ({found}): {row.next} after {row.wait_ms} ms is not {wanted}")
        self.of(row.task).runs.append((row, wanted))
        return row, found, wanted

    def _books(self, row: RunRow, truth: Truth) -> None:
        if row.tokens != truth.tokens:
            self.broken("books", f"{row.id}: the ledger has {row.tokens}, the agent spent {truth.tokens}")
        if (row.task, row.chain, row.tier, row.account) != (truth.task, truth.chain, truth.tier, truth.account):
            self.broken("books", f"{row} was really {truth}")

    def _verdict(self, row: RunRow, truth: Truth) -> str | None:
        """The failure kind that it ended with; None: none."""
        lawful = verdicts(truth, row.agent)
        if row.id in self.cut and row.state == "failed":
            self.broken("end", f"{row.id} ended with its host, and is said to have failed with {row.failure}")
        if row.state == "stopped":
            if row.id not in self.cut and not self.may_stop(row):
                self.broken("end", f"{row.id} was stopped, and nobody asked for that")
            if SUCCESS in lawful:
                self.broken("end", f"{row.id} was done when it was stopped: {truth}")
            return None
        if row.state == "succeeded":
            if SUCCESS not in lawful:
                self.broken("end", f"{row.id} is said to be done: {truth}")
            return None
        if row.failure not in lawful:
            self.broken("end", f"{row.id} is said to have failed with {row.failure}, not {lawful}: {truth}")
        return row.failure

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────────────

    def after(self, row: RunRow, wanted: Wanted | None, task: dict[str, Any], commit: Commit) -> None:
        """What became of the task whose run has ended."""
        seen, limits = self.of(row.task), self.law.setup.limits
        if row.task in self.cancelled and task["state"] == "queued":
            self.broken("task", f"{row.task} was cancelled, and waits again")
        seen.enough = limits["attempts"] if row.state == "failed" else seen.enough
        if row.state in ("stopped", "lost"):
            states = {("cancelled", "")} if task["cancel_asked"] else {("queued", "")}
        elif row.state == "succeeded":
            states = {("done", "")}
        elif wanted is None:
            states = {("failed", "chain_gone")}
        elif wanted.next == "fail":
            states = {("failed", row.failure or "")}
        elif task["cancel_asked"]:
            states = {("cancelled", "")}
        else:
            codes = {
                "attempts": seen.attempts >= limits["attempts"],
                "task_tokens": bool(limits.get("task_tokens")) and seen.tokens >= limits["task_tokens"],
                "every_tier": seen.avoided >= set(self.law.setup.chains[row.chain].tiers),
            }
            states = {("failed", code) for code, true in codes.items() if true} or {("queued", "")}
        if (task["state"], task["reason_code"]) not in states:
            self.broken("task", f"{row.task} is {task}, not {states}")
        wait = (task["not_before_ms"] - commit.now) if task["state"] == "queued" else 0
        if wanted and wanted.next == "retry" and task["state"] == "queued" and row.wait_ms and wait != row.wait_ms:
            self.broken("retry", f"{row.task} waits {wait} ms, not {row.wait_ms}")
