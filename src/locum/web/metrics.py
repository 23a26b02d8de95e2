"""Figures for Prometheus: what there is to graph, and to be woken by."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from locum import __version__
from locum.engine.supervisor import Supervisor
from locum.policy.chain import holds_on, is_exhausted, pick
from locum.policy.task import RunState
from locum.policy.usage import NO_TOKENS, TOKEN_TYPES, Tokens
from locum.store.commits import BOUNDS_S
from locum.web.exposition import MEDIA_TYPE, Family, Sample, histogram, written
from locum.web.feed import Feed
from locum.web.network import Network

Source = Callable[[], Awaitable[Sequence[Family]]]
"""Tells families of figures when it is asked."""


class Metrics:
    """The endpoint. Other parts of the daemon add what they count to `sources`."""

    def __init__(self, supervisor: Supervisor, feed: Feed, network: Network) -> None:
        self.supervisor = supervisor
        self.feed = feed
        self.network = network
        self.sources: list[Source] = [
            self._spent,
            self._chains,
            self._counts,
            self._budgets,
            self._outbox,
            self._service,
        ]

    async def answer(self, _: Request) -> Response:
        """Every figure, in Prometheus' text format."""
        families = [family for source in self.sources for family in await source()]
        return Response(written(families), headers={"content-type": MEDIA_TYPE})

    async def _spent(self) -> list[Family]:
        sums: dict[tuple[str, str, str], Tokens] = {}
        for row in await self.supervisor.ledger.spent.ever():
            key = (row.chain or "", row.tier or "", row.model or "")
            sums[key] = sums.get(key, NO_TOKENS) + row.tokens
        samples = [
            Sample(getattr(tokens, kind), (("chain", chain), ("tier", tier), ("model", model), ("type", kind)))
            for (chain, tier, model), tokens in sums.items()
            for kind in TOKEN_TYPES
        ]
        says = "Tokens in the ledger. It falls where an agent has taken a count back, so it is no counter."
        return [Family("locum_tokens", "gauge", says, samples)]

    async def _chains(self) -> list[Family]:
        boss = self.supervisor
        board, now_ms, busy = boss.ledger.board, boss.clock.now_ms(), boss.busy()
        holds: list[Sample] = []
        active: list[Sample] = []
        paused: list[Sample] = []
        exhausted: list[Sample] = []
        for chain in boss.ledger.plan.chains.values():
            picked = pick(board, chain, now_ms, busy=busy)
            own = ("chain", chain.name)
            for tier in chain.tiers:
                held = Counter(str(each.kind) for each in holds_on(board, chain, tier, now_ms))
                holds += [Sample(number, (own, ("tier", tier.name), ("kind", kind))) for kind, number in held.items()]
                is_active = picked is not None and picked.name == tier.name
                active.append(Sample(int(is_active), (own, ("tier", tier.name))))
            paused.append(Sample(int(board.chain(chain.name).paused), (own,)))
            exhausted.append(Sample(int(is_exhausted(board, chain, now_ms)), (own,)))
        return [
            Family("locum_holds", "gauge", "Holds that keep a tier from being picked.", holds),
            Family("locum_tier_active", "gauge", "1 for the tier that the next task of a chain would get.", active),
            Family("locum_chain_paused", "gauge", "1 while a chain is paused.", paused),
            Family("locum_chain_exhausted", "gauge", "1 while every tier of a chain is held.", exhausted),
        ]

    async def _counts(self) -> list[Family]:
        ledger = self.supervisor.ledger
        counts, tasks = await ledger.spent.counts(), await ledger.open_counts()
        bumps = [
            Sample(number, (("chain", chain), ("tier", tier), ("kind", kind)))
            for chain, tier, kind, number in counts.bumps
        ]
        ended = [
            Sample(number, (("chain", chain), ("tier", tier), ("agent", agent), ("outcome", failure or state)))
            for chain, tier, agent, state, failure, number in counts.attempts
            if state != RunState.RUNNING
        ]
        running: Counter[tuple[str, str]] = Counter()
        for chain, tier, _, state, _, number in counts.attempts:
            running[(chain, tier)] += number * (state == RunState.RUNNING)
        runs = [Sample(number, (("chain", chain), ("tier", tier))) for (chain, tier), number in running.items()]
        waiting = [Sample(number, (("chain", chain), ("state", state))) for (chain, state), number in tasks.items()]
        outcome = "Attempts that have ended: succeeded, stopped, lost, or the failure kind."
        return [
            Family("locum_bumps_total", "counter", "How often a tier was bumped, by failure kind.", bumps),
            Family("locum_attempts_total", "counter", outcome, ended),
            Family("locum_runs_open", "gauge", "Runs in progress.", runs),
            Family("locum_tasks_open", "gauge", "Tasks that have not ended.", waiting),
        ]

    async def _budgets(self) -> list[Family]:
        readings = await self.supervisor.ledger.readings(self.supervisor.clock.now_ms())
        used = [Sample(each.budget.weights.whole(each.used), (("budget", each.budget.id),)) for each in readings]
        limit = [Sample(each.budget.limit, (("budget", each.budget.id),)) for each in readings]
        return [
            Family("locum_budget_used_tokens", "gauge", "What counts against a budget in its current window.", used),
            Family("locum_budget_limit_tokens", "gauge", "The limit of a budget.", limit),
        ]

    async def _outbox(self) -> list[Family]:
        found, now_ms = await self.supervisor.ledger.outbox.channels(), self.supervisor.clock.now_ms()
        waiting = [Sample(each.waiting, (("channel", each.name),)) for each in found]
        ages = [Sample(max(0, now_ms - (each.oldest_ms or now_ms)) / 1000, (("channel", each.name),)) for each in found]
        return [
            Family("locum_outbox_waiting", "gauge", "Notices that a channel has yet to look at or to send.", waiting),
            Family("locum_outbox_oldest_seconds", "gauge", "How long the oldest of them has waited.", ages),
        ]

    async def _service(self) -> list[Family]:
        boss, commits = self.supervisor, self.supervisor.ledger.commits
        build = (("version", __version__), ("python", platform.python_version()))

        def gauge(name: str, says: str, value: float) -> Family:
            return Family(f"locum_{name}", "gauge", says, [Sample(value)])

        return [
            Family("locum_build_info", "gauge", "What runs.", [Sample(1, build)]),
            gauge("started_seconds", "When it was started, in seconds since 1970.", boss.started_ms / 1000),
            gauge("config_last_reload_successful", "0 while a newer service.json is refused.", int(not boss.rejected)),
            gauge("disk_low", "1 while nothing is started for want of disk space.", int(boss.low_disk)),
            gauge("event_listeners", "How many listen to the stream of events.", self.feed.listeners),
            Family(
                "locum_http_refused_total",
                "counter",
                "Requests over the network without a good token, or of another site's.",
                [Sample(self.network.refused)],
            ),
            histogram(
                "locum_ledger_commit_seconds",
                "How long the ledger's commits take on the disk.",
                BOUNDS_S,
                tuple(commits.parts),
                commits.seconds,
            ),
        ]
