"""The history of agents, very much of it at once: counted set by set, and looked at as a whole when it is all there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from locum.policy.task import Run
from locum.policy.usage import LARGEST, NO_TOKENS, Payer, Tokens, Usage
from locum.store import alerts, tally, transcripts
from locum.store.codec import Write
from locum.store.tally import HOUR_MS, moment, scopes_of
from locum.store.transcripts import Share

_Counts = tuple[int, int, int, int]
_NONE: _Counts = (0, 0, 0, 0)


def record(tx: Write, shares: Sequence[Share], now_ms: int) -> list[Tokens]:
    """Count as `transcripts.record` would, told of each share in turn; returns what was new in each.

    Blocks and budgets are left as they are until `brakes.look_back`: told in no order, history would begin blocks
    where there was no first use, and use up budgets that had room.
    """
    alerts.rest(tx, now_ms)
    batch = _Batch(tx, now_ms, [NO_TOKENS] * len(shares))
    for number, share in enumerate(shares):
        transcripts.save(tx, share.found)
        for run, theirs in _by_run(tx, share, now_ms):
            if run is None:
                batch.gathered.append((number, share.payer, theirs))
            elif run.ended_ms is not None:
                batch.write()
                batch.added[number] += tally.add(tx, run.payer, theirs, now_ms)
    batch.write()
    return batch.added


@dataclass
class _Batch:
    """What is to be written at once: usages by the number of their share. `added` is what was new, by share."""

    tx: Write
    now_ms: int
    added: list[Tokens]
    gathered: list[tuple[int, Payer, Sequence[Usage]]] = field(default_factory=list)

    def write(self) -> None:
        """Write what was gathered, and begin anew."""
        known, changed = self._known(), dict[str, set[str]]()
        entries: list[tuple[object, ...]] = []
        hours: dict[tuple[str, int], _Counts] = {}
        for number, payer, usages in self.gathered:
            share = _Adding(payer, known[payer.agent], changed.setdefault(payer.agent, set()))
            entries += share.entries(usages, self.now_ms)
            for hour, new in share.hours.items():
                self.added[number] += Tokens(*new)
                for scope in scopes_of(payer):
                    hours[scope, hour] = _sum(hours.get((scope, hour), _NONE), new)
        counts = ((agent, key, *known[agent][key]) for agent in sorted(changed) for key in sorted(changed[agent]))
        self.tx.many("count_many", counts)
        self.tx.many("add_entries", entries)
        self.tx.many("add_buckets_many", [(*name, *new) for name, new in sorted(hours.items())])
        self.gathered.clear()

    def _known(self) -> dict[str, dict[str, _Counts]]:
        """The largest counts there are of what was gathered, by agent and key."""
        keys: dict[str, set[str]] = {}
        for _, payer, usages in self.gathered:
            keys.setdefault(payer.agent, set()).update(usage.key for usage in usages)
        return {
            agent: {
                key: (input_, output, read, write)
                for key, input_, output, read, write in self.tx.rows(
                    "counted_many", agent=agent, keys=json.dumps(sorted(wanted))
                )
            }
            for agent, wanted in keys.items()
        }


@dataclass(slots=True)
class _Adding:
    """What one payer's usages add to what is `known` of their agent's keys: written plainly, for there are very many.

    `changed` are the keys that have grown, `hours` the sums of what was new.
    """

    payer: Payer
    known: dict[str, _Counts]
    changed: set[str]
    hours: dict[int, _Counts] = field(default_factory=dict)

    def entries(self, usages: Sequence[Usage], now_ms: int) -> Iterator[tuple[object, ...]]:
        """The rows of what is new, oldest first."""
        payer, known, hours = self.payer, self.known, self.hours
        chain, tier, account, agent, model, session = (
            *(payer.chain, payer.tier, payer.account),
            *(payer.agent, payer.model, payer.session),
        )
        for at_ms, usage in sorted([(moment(payer, usage, now_ms), usage) for usage in usages], key=_first):
            key, tokens = usage.key, usage.tokens
            new = largest = (tokens.input, tokens.output, tokens.cache_read, tokens.cache_write)
            if min(largest) < 0 or max(largest) > LARGEST:
                continue
            before = known.get(key, _NONE)
            if before is not _NONE:
                largest = _largest(largest, before)
                new = _difference(largest, before)
            if largest == before:
                continue
            known[key] = largest
            self.changed.add(key)
            hour = at_ms // HOUR_MS * HOUR_MS
            hours[hour] = _sum(hours[hour], new) if hour in hours else new
            yield (chain, tier, account, agent, key, usage.model or model, usage.session or session, at_ms, *new)


def _by_run(tx: Write, share: Share, now_ms: int) -> Iterable[tuple[Run | None, Sequence[Usage]]]:
    """As `transcripts.by_run`; nearly always no run had any of the sessions, which is quickly seen."""
    payer, usages = share.payer, share.usages
    sessions = {usage.session or payer.session for usage in usages}
    if any(session and tx.one("session_runs", session=session, agent=payer.agent) for session in sessions):
        return transcripts.by_run(tx, payer, usages, now_ms)
    return ((None, usages),)


def _counts(tokens: Tokens) -> _Counts:
    return tokens.input, tokens.output, tokens.cache_read, tokens.cache_write


def _largest(one: _Counts, other: _Counts) -> _Counts:
    return (
        max(other[0], one[0]),
        max(other[1], one[1]),
        max(other[2], one[2]),
        max(other[3], one[3]),
    )


def _sum(one: _Counts, other: _Counts) -> _Counts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


def _difference(one: _Counts, other: _Counts) -> _Counts:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3]


def _first(pair: tuple[int, Usage]) -> int:
    return pair[0]
