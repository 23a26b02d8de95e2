"""The history of agents, very much of it at once: counted set by set, and looked at as a whole when it is all there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from locum.policy.task import Run
from locum.policy.transcript import Transcript
from locum.policy.usage import LARGEST, NO_TOKENS, Payer, Tokens, Usage
from locum.store import tally, transcripts
from locum.store.codec import Write
from locum.store.tally import HOUR_MS, moment, scopes_of

_Counts = tuple[int, int, int, int]
_NONE: _Counts = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Share:
    """What a part of a transcript told, who pays for it, and how far it was read with that. `payer` has no run."""

    found: Transcript
    payer: Payer
    usages: Sequence[Usage]


def record(tx: Write, shares: Sequence[Share], now_ms: int) -> list[Tokens]:
    """Count as `transcripts.record` would, told of each share in turn; returns what was new in each.

    Blocks and budgets are left as they are until `brakes.look_back`: told in no order, history would begin blocks
    where there was no first use, and use up budgets that had room.
    """
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
        known, changed = self._known(), set[tuple[str, str]]()
        entries: list[tuple[object, ...]] = []
        hours: dict[tuple[str, int], _Counts] = {}
        for number, payer, usages in self.gathered:
            own: dict[int, _Counts] = {}
            paid = (payer.chain, payer.tier, payer.account, payer.agent)
            for at_ms, usage in sorted(((moment(payer, usage, self.now_ms), usage) for usage in usages), key=_first):
                name, counts = (payer.agent, usage.key), _counts(usage.tokens)
                before = known.get(name, _NONE)
                largest = counts if before is _NONE else _largest(counts, before)
                if largest == before or min(counts) < 0 or max(counts) > LARGEST:
                    continue
                known[name] = largest
                changed.add(name)
                new, hour = _difference(largest, before), at_ms // HOUR_MS * HOUR_MS
                told = (usage.key, usage.model or payer.model, usage.session or payer.session, at_ms)
                entries.append((*paid, *told, *new))
                own[hour] = _sum(own.get(hour, _NONE), new)
            for hour, new in own.items():
                self.added[number] += Tokens(*new)
                for scope in scopes_of(payer):
                    hours[scope, hour] = _sum(hours.get((scope, hour), _NONE), new)
        self.tx.many("count_many", [(*name, *known[name]) for name in sorted(changed)])
        self.tx.many("add_entries", entries)
        self.tx.many("add_buckets_many", [(*name, *new) for name, new in sorted(hours.items())])
        self.gathered.clear()

    def _known(self) -> dict[tuple[str, str], _Counts]:
        """The largest counts there are of what was gathered, by agent and key."""
        keys: dict[str, set[str]] = {}
        for _, payer, usages in self.gathered:
            keys.setdefault(payer.agent, set()).update(usage.key for usage in usages)
        return {
            (agent, key): (input_, output, read, write)
            for agent, wanted in keys.items()
            for key, input_, output, read, write in self.tx.rows(
                "counted_many", agent=agent, keys=json.dumps(sorted(wanted))
            )
        }


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
