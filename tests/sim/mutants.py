"""Broken policies: each is one promise less, put into the real code for a while, and must be noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from msgspec import structs

from locum.config.reload import Rejected, Reloader
from locum.engine import supervisor
from locum.engine.attempts import Attempts
from locum.engine.seats import Seats
from locum.engine.supervisor import Supervisor
from locum.policy import chain, failure
from locum.policy.board import EventKind
from locum.policy.chain import Next
from locum.policy.failure import FailureKind
from locum.policy.notice import NoticeKind
from locum.policy.plan import Chain, Threshold, tier_target
from locum.policy.usage import NO_TOKENS, Tokens, Weights
from locum.store import brakes, endings, log, notices, readings, tally, tasks, transcripts
from locum.store.transcripts import Share, Transcripts
from locum.store.views import Recorded

Patch = tuple[Any, str, Any]
MUTANTS: dict[str, Callable[[], list[Patch]]] = {}


def mutant(make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    """Enter a mutant under its name."""
    MUTANTS[make.__name__] = make
    return make


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The real code with one promise less."""
    patches = MUTANTS[name]()
    before = [(owner, key, owner[key] if isinstance(owner, dict) else owner.__dict__[key]) for owner, key, _ in patches]
    for owner, key, value in patches:
        _set(owner, key, value)
    try:
        yield
    finally:
        for owner, key, value in before:
            _set(owner, key, value)


def _set(owner: Any, key: Any, value: Any) -> None:
    if isinstance(owner, dict):
        owner[key] = value
    else:
        setattr(owner, key, value)


# ── holds ────────────────────────────────────────────────────────────────────────────────────────────────


@mutant
def hold_dropped() -> list[Patch]:
    """A failure that must hold is only noted."""
    return [(chain, "_placed", lambda _board, _plan, _chain, failed, _hold: (failed,))]


@mutant
def wrong_tier_held() -> list[Patch]:
    """The next tier is held instead of the one that failed."""

    def target(on: Any, tier: Any, _failure: Any, _budget: Any) -> Any:
        names = [each.name for each in on.tiers]
        at = names.index(tier.name) + 1 if tier.name in names else 0
        return tier_target(names[at % len(names)])

    return [(chain, "_target", target)]


@mutant
def late_failure_moves_the_chain() -> list[Patch]:
    """A failure is laid on the tier that is active now, not on the one that failed."""
    real = endings.bump

    def bump(board: Any, plan: Any, on: Any, tier: Any, told: Any, now_ms: int, **more: Any) -> Any:
        return real(board, plan, on, chain.pick(board, on, now_ms) or tier, told, now_ms, **more)

    return [(endings, "bump", bump)]


@mutant
def account_forgotten() -> list[Patch]:
    """What belongs to the account is held for one tier only."""
    real = chain._target
    return [
        (
            chain,
            "_target",
            lambda on, tier, told, budget: real(on, tier, told, budget) if budget else tier_target(tier.name),
        )
    ]


@mutant
def hold_ends_early() -> list[Patch]:
    """A tenth of each hold is missing."""
    return [(chain, "hold_until_ms", _scaled(0.9))]


@mutant
def hold_too_long() -> list[Patch]:
    """Each hold lasts a tenth longer."""
    return [(chain, "hold_until_ms", _scaled(1.1))]


def _scaled(factor: float) -> Callable[..., int | None]:
    real = chain.hold_until_ms

    def until(told: Any, strikes: int, now_ms: int, jitter_ms: int = 0) -> int | None:
        end = real(told, strikes, now_ms, jitter_ms)
        return (
            end if end is None or told.kind in ("operator", "token_budget") else now_ms + int((end - now_ms) * factor)
        )

    return until


@mutant
def no_doubling() -> list[Patch]:
    """Each failure in a row holds as long as the first."""
    real = chain.hold_until_ms
    return [(chain, "hold_until_ms", lambda told, _strikes, now_ms, jitter_ms=0: real(told, 1, now_ms, jitter_ms))]


@mutant
def success_ends_nothing() -> list[Patch]:
    """A success does not end the doubling."""
    real = endings.succeeded
    return [(endings, "succeeded", lambda *told: real(*told)._replace(targets=()))]


@mutant
def absurd_reset_believed() -> list[Patch]:
    """A vendor that says sixty days is obeyed."""
    return [(failure, "LONGEST_UNNAMED_MS", 10**12), (failure, "LONGEST_THROTTLE_MS", 10**12)]


@mutant
def stale_reset_believed() -> list[Patch]:
    """A reset that passed an hour ago counts as one."""
    return [(failure, "JUST_PASSED_MS", 10**12)]


@mutant
def probation_ignored() -> list[Patch]:
    """Everybody runs at once on a tier that has just come back."""
    return [(chain, "_doubts", lambda *_: set())]


@mutant
def one_bad_task_holds() -> list[Patch]:
    """One crash is enough for a hold."""
    answers = failure.ANSWERS
    return [(answers, kind, replace(answers[kind], soft=False)) for kind in (FailureKind.CRASH, FailureKind.STALLED)]


@mutant
def new_login_ignored() -> list[Patch]:
    """Nobody looks at the login files."""
    return [(Seats, "_guard", lambda _self, _tier, config: config)]


@mutant
def return_never_written() -> list[Patch]:
    """A hold that has run out stays where it is."""
    real = chain.settle
    return [(chain, "settle", lambda *given: tuple(e for e in real(*given) if e.kind is not EventKind.RETURNED))]


@mutant
def start_not_looked_at_again() -> list[Patch]:
    """What was picked is started, whatever has happened since."""
    return [(tasks, "holds_on", lambda *_: ())]


# ── retries and tasks ────────────────────────────────────────────────────────────────────────────────────


@mutant
def lost_retry() -> list[Patch]:
    """Nothing is tried again in place."""
    return [(chain, "_wait_in_place_ms", lambda *_: None)]


@mutant
def endless_retry() -> list[Patch]:
    """Everything is tried again in place, for ever."""
    return [(endings, "retries_in_place", lambda *_: 0)]


@mutant
def endless_attempts() -> list[Patch]:
    """Attempts are not counted."""
    return [(endings, "attempts", lambda _runs: 0)]


@mutant
def forgotten_on_crash() -> list[Patch]:
    """A daemon that starts does not look for the runs of the last one."""

    async def adopt(_self: Any, _group: Any) -> None:
        return None

    return [(Attempts, "adopt", adopt)]


@mutant
def agents_not_found() -> list[Patch]:
    """A daemon that starts takes every run of the last one for one that has never started."""
    real = Attempts.adopt

    async def adopt(self: Any, group: Any) -> None:
        for run in await self.ledger.open_runs():
            await self.ledger.forget_run(run.id, self.clock.now_ms())
        await real(self, group)

    return [(Attempts, "adopt", adopt)]


@mutant
def host_end_blamed() -> list[Patch]:
    """What a power cut has ended counts as a crash of its agent."""
    return [(tasks, "booted", lambda *_: False)]


@mutant
def cancel_ignored() -> list[Patch]:
    """A task that was to be cancelled goes back into the queue."""
    real = tasks.again
    return [(tasks, "again", lambda tx, task, *more: real(tx, replace(task, cancel_asked=False), *more))]


@mutant
def directory_shared() -> list[Patch]:
    """Two runs in one directory."""
    real = Supervisor._has_place
    return [(Supervisor, "_has_place", lambda self, task: real(self, replace(task, shared_cwd=True)))]


@mutant
def parallel_ignored() -> list[Patch]:
    """As many runs as there are tasks."""

    def has_place(self: Any, task: Any) -> bool:
        if self.ledger.board.chain(task.chain).paused:
            return False
        return task.shared_cwd or task.cwd not in {run.cwd for run in self.attempts}

    return [(Supervisor, "_has_place", has_place)]


@mutant
def preferred_tier_forgotten() -> list[Patch]:
    """The last free tier is picked, not the first."""
    real = chain.pick

    def pick(board: Any, on: Any, now_ms: int, **more: Any) -> Any:
        return real(board, replace(on, tiers=on.tiers[::-1]), now_ms, **more)

    return [(supervisor, "pick", pick)]


# ── books ────────────────────────────────────────────────────────────────────────────────────────────────


@mutant
def counted_per_read() -> list[Patch]:
    """Reading again counts again."""
    return [(tally, "_counted", lambda *_: NO_TOKENS)]


@mutant
def last_count_wins() -> list[Patch]:
    """A smaller count told later is believed."""
    return [(Tokens, "largest", lambda _self, other: other)]


@mutant
def total_ignored() -> list[Patch]:
    """The agent's own total is not asked for."""
    return [(tally, "reconcile", lambda *_: NO_TOKENS)]


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────────


@mutant
def double_fire() -> list[Patch]:
    """A crossing is not remembered."""
    return [(brakes, "_on_record", lambda *_: None), (brakes, "_put_on_record", lambda *_, **__: None)]


@mutant
def next_tier_held_too() -> list[Patch]:
    """A budget that has fired holds the next tier as soon as that spends anything."""
    real = brakes._on_record

    def on_record(tx: Any, reading: Any) -> Any:
        found = real(tx, reading)
        return replace(found, acted=False) if found else None

    return [(brakes, "_on_record", on_record)]


@mutant
def limit_passed_by() -> list[Patch]:
    """A budget fires only above its limit by a tenth."""
    real = Weights.reached
    return [(Weights, "reached", lambda self, tokens, limit: real(self, tokens, limit * 11 // 10))]


@mutant
def halt_holds_one_tier() -> list[Patch]:
    """usage_halt_tokens is treated as usage_threshold_tokens."""
    real = chain._target

    def target(on: Any, tier: Any, told: Any, budget: Any) -> Any:
        halts = budget and budget.brake is chain.Brake.HALT
        return real(on, tier, told, replace(budget, brake=chain.Brake.CHAIN) if halts else budget)

    return [(chain, "_target", target)]


@mutant
def window_ends_early() -> list[Patch]:
    """A budget's hold ends an hour before its window."""
    real = readings.frees_ms

    def frees(tx: Any, reading: Any, now_ms: int) -> int | None:
        end = real(tx, reading, now_ms)
        return end if end is None else max(now_ms + 1, end - 3_600_000)

    return [(readings, "frees_ms", frees)]


# ── people ───────────────────────────────────────────────────────────────────────────────────────────────


@mutant
def silent_return() -> list[Patch]:
    """Nobody hears of a return."""
    real = notices.add

    def add(tx: Any, notice: Any, event: int | None = None) -> int:
        return 0 if notice.kind is NoticeKind.TIER_RETURNED else real(tx, notice, event)

    return [(notices, "add", add)]


@mutant
def silent_threshold() -> list[Patch]:
    """Of 90 % nobody hears."""
    real = Threshold.reached_by
    return [(Threshold, "reached_by", lambda self, used: self.at != 90 and real(self, used))]


@mutant
def threshold_rounded_up() -> list[Patch]:
    """99.5 % is told as 100 %, 79.5 % as 80 %."""
    return [(Threshold, "reached_by", lambda self, used: self.weights.thousandths(used) >= self.thousandths * 0.995)]


@mutant
def silent_bump_elsewhere() -> list[Patch]:
    """A chain that loses its tier to another chain's failure is not told."""
    real = log.emit

    def emit(tx: Any, events: Any) -> Any:
        own = events[0].chain if events and events[0].kind is EventKind.BUMPED else None
        return real(tx, [e for e in events if own is None or e.chain == own])

    return [(log, "emit", emit)]


@mutant
def exhaustion_untold() -> list[Patch]:
    """The last tier goes, and nobody says so."""
    real = chain._placed
    return [(chain, "_placed", lambda *given: tuple(e for e in real(*given) if e.kind is not EventKind.EXHAUSTED))]


@mutant
def rejection_told_again() -> list[Patch]:
    """A bad file is told at every look."""

    def reject(self: Any, problems: Any, judged: str) -> Any:
        self.rejected, self._judged = Rejected(problems), ""
        return self.rejected

    return [(Reloader, "_reject", reject)]


@mutant
def release_does_nothing() -> list[Patch]:
    """`locum release` is answered, and not done."""
    return [(chain, "release", lambda *_, **__: ())]


@mutant
def triggers_ignored() -> list[Patch]:
    """A kind that may not move the chain moves it."""
    return [(Chain, "acts_on", lambda _self, kind: kind is not FailureKind.TOKEN_BUDGET)]


@mutant
def invalid_request_moves() -> list[Patch]:
    """A task that cannot be done is tried on every tier."""
    real = endings.bump

    def bump(*given: Any, **more: Any) -> Any:
        step = real(*given, **more)
        return replace(step, next=Next.MOVE) if step.next is Next.FAIL else step

    return [(endings, "bump", bump)]


@mutant
def session_never_claimed() -> list[Patch]:
    """What was counted of a run's session before the run has told it stays somebody else's."""
    return [(transcripts, "claim", lambda *_: ())]


@mutant
def counted_per_file() -> list[Patch]:
    """A transcript that was copied counts again."""
    real = Transcripts.record

    async def record(self: Transcripts, shares: Sequence[Share], now_ms: int) -> Recorded:
        apart = [
            replace(
                each, usages=[structs.replace(told, key=f"{told.key} in {each.found.path}") for told in each.usages]
            )
            for each in shares
        ]
        return await real(self, apart, now_ms)

    return [(Transcripts, "record", record)]


@mutant
def place_kept_ahead() -> list[Patch]:
    """How far a transcript was read is on record before what it told."""
    real = Transcripts.record

    async def record(self: Transcripts, shares: Sequence[Share], now_ms: int) -> Recorded:
        await self.save([each.found for each in shares])
        return await real(self, shares, now_ms)

    return [(Transcripts, "record", record)]
