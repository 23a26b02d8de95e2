"""The outbox: how far each channel has come along the notices, what it has yet to send, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from locum.errors import ConflictError, NotFoundError
from locum.policy.delivery import (
    ABOUT_DELIVERY,
    FOLD_AFTER,
    FOLD_MS,
    HOLDS_LINE,
    MOST_RETRY_AFTER_MS,
    OUTAGE,
    Delivery,
    DeliveryState,
    Outcome,
    Wanted,
    is_due,
    next_try_ms,
)
from locum.policy.notice import Notice, channel_disabled, delivery_failed
from locum.policy.plan import Plan
from locum.store import notices
from locum.store.codec import Memory, Write, notice_of_row
from locum.store.sqlite import Database, Row, Sql
from locum.store.views import ChannelView

AHEAD = 64
"""How many messages of a channel are laid out ahead of the one that is sent: memory does not grow with what waits."""
FEW = 8
"""More are laid out when no more than so many are."""
TITLES = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that is to be sent now, for the `attempt`-th time. `titles` are of what it tells beside the notice."""

    channel: str
    row: int
    notice: Notice
    attempt: int
    count: int
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Channel:
    """How a channel stands, as its row has it."""

    name: str
    guard: str
    cursor: int
    cursor_ms: int
    failures: int
    failing_ms: int | None
    quiet_ms: int
    sent_ms: int | None
    disabled: str | None
    disabled_ms: int | None


class Outbox:
    """The rows of `channel` and `delivery`. Every method that changes something is one transaction, as the ledger's."""

    def __init__(self, database: Database[Memory]) -> None:
        self._database = database

    @property
    def told(self) -> int:
        """The row of the newest notice, as committed; 0 without one."""
        return self._database.memory.told

    async def next(self, wanted: Wanted, now_ms: int) -> Claim | int | None:
        """What the channel is to send now, claimed; else when to ask again (None: when something new is told).

        Whoever asks has no attempt of this channel under way: one that seems so is one whose end nobody saw.
        """
        return await self._database.write(lambda tx: _next(tx, wanted, now_ms))

    async def end(
        self, claim: Claim, outcome: Outcome, wanted: Wanted, now_ms: int, fraction: float
    ) -> tuple[DeliveryState, Claim | int | None]:
        """Write what came of an attempt; where its message stands then, and what is next, as `next` has it."""
        return await self._database.write(
            lambda tx: (_end(tx, claim, outcome, now_ms, fraction), _next(tx, wanted, now_ms))
        )

    async def replay(self, row: int | None, channel: str | None, now_ms: int) -> list[tuple[str, int]]:
        """Send a notice once more through a channel (None: through all), or (row None) whatever that was not told.

        Returns how many messages each channel sends now. Raises `NotFoundError` or `ConflictError`.
        """
        return await self._database.write(lambda tx: _replay(tx, row, channel, now_ms))

    async def channels(self) -> list[ChannelView]:
        """How every channel stands."""
        return await self._database.read(lambda sql: [_view(sql, each) for each in _channels(sql)])

    async def alerts(
        self, *, before: int | None, limit: int, kind: str | None = None, chain: str | None = None, failed: bool = False
    ) -> list[tuple[int, Notice, list[Delivery]]]:
        """The newest notices below row `before`, each with its row and what became of it in each channel."""

        def script(sql: Sql) -> list[tuple[int, Notice, list[Delivery]]]:
            rows = sql.all("alerts", before=before or 1 << 62, limit=limit, kind=kind, chain=chain, failed=failed)
            return [(seq, notice_of_row(tuple(row)), _deliveries(sql, seq)) for seq, *row in rows]

        return await self._database.read(script)

    async def alert(self, name: str) -> tuple[int, Notice, list[Delivery]]:
        """One notice by its name, as in `alerts`. Raises `NotFoundError`."""

        def script(sql: Sql) -> tuple[int, Notice, list[Delivery]]:
            row, notice = notices.find(sql, name)
            return row, notice, _deliveries(sql, row)

        return await self._database.read(script)


def take_over(tx: Write, plan: Plan, now_ms: int) -> None:
    """Know the channels of a plan: a new one hears of what is told from now on, one that is gone of nothing more."""
    known = {each.name: each for each in _channels(tx)}
    for name in known.keys() - plan.channels.keys():
        tx.run("drop_channel", name=name)
        tx.run("drop_deliveries", channel=name, now_ms=now_ms)
    for name, guard in plan.channels.items():
        if name not in known:
            tx.run("add_channel", name=name, guard=guard, cursor=last(tx), now_ms=now_ms)
        elif known[name].guard != guard:
            tx.run("mend_channel", name=name, guard=guard)
            tx.run("hurry_deliveries", channel=name, now_ms=now_ms)


def last(sql: Sql) -> int:
    """The row of the newest notice, 0 without one."""
    row = sql.one("last_notice")
    return (row and row[0]) or 0


def _next(tx: Write, wanted: Wanted, now_ms: int) -> Claim | int | None:
    row = tx.one("channel", name=wanted.channel)
    if row is None or _Channel(*row).disabled is not None:
        return None
    channel = _lay_out(tx, _Channel(*row), wanted, now_ms)
    if not is_due(channel.quiet_ms, now_ms):
        return channel.quiet_ms
    later: list[int] = []
    for notice, attempts, due_ms, until_ms, count in tx.rows("open_deliveries", channel=channel.name):
        if until_ms is not None and not attempts and not _is_whole(tx, channel, until_ms, now_ms):
            later += [until_ms] if until_ms > now_ms else []
        elif is_due(due_ms, now_ms):
            return _claim(tx, channel.name, notice, attempts, count, now_ms)
        else:
            later.append(due_ms)
            if 0 < attempts < HOLDS_LINE:
                break  # those behind it wait, for their order
    return min(later, default=None)


def _lay_out(tx: Write, channel: _Channel, wanted: Wanted, now_ms: int) -> _Channel:
    """Look at the notices behind the cursor until enough messages wait; what gathers others does not count."""
    row = tx.one("laid_out", channel=channel.name)
    assert row is not None, "a count has a row"
    if channel.cursor >= tx.memory.told or row[0] > FEW:
        return channel
    ahead, cursor, cursor_ms = row[0], channel.cursor, channel.cursor_ms
    while ahead < AHEAD and cursor < tx.memory.told:
        for seq, notice in notices.notices_after(tx, cursor, AHEAD):
            cursor, cursor_ms = seq, notice.at_ms
            ahead += wanted(notice) and _add(tx, channel.name, seq, notice, now_ms)
            if ahead == AHEAD:
                break
    tx.run("move_cursor", name=channel.name, cursor=cursor, cursor_ms=cursor_ms)
    return replace(channel, cursor=cursor, cursor_ms=cursor_ms)


def _add(tx: Write, channel: str, seq: int, notice: Notice, now_ms: int) -> bool:
    """Lay out one notice; whether it is a message of its own that is due."""
    like = {"channel": channel, "kind": str(notice.kind), "chain": notice.chain}
    values = {**like, "notice": seq, "at_ms": notice.at_ms, "due_ms": now_ms, "until_ms": None, "fold": None}
    lately = tx.one("told_lately", **like, from_ms=notice.at_ms - FOLD_MS, to_ms=notice.at_ms + FOLD_MS)
    assert lately is not None, "a count has a row"
    if lately[0] < FOLD_AFTER:
        tx.run("add_delivery", **values, state=DeliveryState.WAITING.value)
        return True
    into = tx.one("gathering", **like, from_ms=notice.at_ms - FOLD_MS, at_ms=notice.at_ms)
    if into is None:
        until_ms = notice.at_ms + FOLD_MS
        tx.run(
            "add_delivery",
            **(values | {"due_ms": min(until_ms, now_ms + FOLD_MS), "until_ms": until_ms}),
            state=DeliveryState.WAITING.value,
        )
    else:
        tx.run("add_delivery", **(values | {"fold": into[0]}), state=DeliveryState.FOLDED.value)
        tx.run("gather", channel=channel, notice=into[0])
    return False


def _is_whole(tx: Write, channel: _Channel, until_ms: int, now_ms: int) -> bool:
    """Whether nothing more comes into a message that gathers: its minute is over, and looked at to its end."""
    if now_ms < until_ms <= now_ms + FOLD_MS:  # one that seems further away was set by a clock that was set back since
        return False
    return channel.cursor_ms >= until_ms or channel.cursor >= tx.memory.told


def _claim(tx: Write, channel: str, row: int, attempts: int, count: int, now_ms: int) -> Claim:
    claimed = tx.run("claim_delivery", channel=channel, notice=row, now_ms=now_ms)
    assert claimed, "it waited a moment ago"
    [(_, notice)] = notices.notices_after(tx, row - 1, 1)
    titles = tx.all("folded_titles", channel=channel, notice=row, limit=TITLES) if count > 1 else []
    return Claim(channel, row, notice, attempts + 1, count, tuple(title for (title,) in titles))


def _end(tx: Write, claim: Claim, outcome: Outcome, now_ms: int, fraction: float) -> DeliveryState:
    row, found = tx.one("channel", name=claim.channel), tx.one("delivery", channel=claim.channel, notice=claim.row)
    if row is None or found is None:
        return DeliveryState.DROPPED  # its channel was taken out meanwhile
    channel, first_ms = _Channel(*row), now_ms if found[0] is None else found[0]
    due_ms: int | None = now_ms
    if outcome.told:
        state = DeliveryState.SENT
    elif outcome.gone:
        state = DeliveryState.WAITING
    else:
        due_ms = next_try_ms(claim.attempt, first_ms, now_ms, outcome.after_ms, fraction)
        state = DeliveryState.WAITING if due_ms is not None else DeliveryState.GIVEN_UP
    tx.run(
        "end_delivery",
        channel=claim.channel,
        notice=claim.row,
        state=state.value,
        due_ms=now_ms if due_ms is None else due_ms,
        ended_ms=None if state is DeliveryState.WAITING else now_ms,
        status=outcome.status,
        answer=outcome.why,
    )
    _channel_after(tx, channel, outcome, now_ms)
    if state is DeliveryState.GIVEN_UP and claim.notice.kind not in ABOUT_DELIVERY:
        notices.add(tx, delivery_failed(claim.notice, claim.channel, claim.attempt, outcome.why, now_ms))
    return state


def _channel_after(tx: Write, channel: _Channel, outcome: Outcome, now_ms: int) -> None:
    if outcome.told:
        if channel.failures >= OUTAGE:
            tx.run("hurry_deliveries", channel=channel.name, now_ms=now_ms)
        tx.run("channel_works", name=channel.name, now_ms=now_ms)
        return
    quiet_ms = now_ms + min(outcome.after_ms or 0, MOST_RETRY_AFTER_MS)
    tx.run("channel_fails", name=channel.name, now_ms=now_ms, quiet_ms=quiet_ms)
    if outcome.gone:
        tx.run("disable_channel", name=channel.name, why=outcome.why, now_ms=now_ms)
        notices.add(tx, channel_disabled(channel.name, outcome.why, now_ms))


def _replay(tx: Write, row: int | None, channel: str | None, now_ms: int) -> list[tuple[str, int]]:
    known = _channels(tx)
    chosen = [each for each in known if channel in (None, each.name)]
    if not chosen:
        names = ", ".join(each.name for each in known) or "none: `notify` in service.json names them"
        raise NotFoundError(
            f"there is no channel {channel}" if channel else "there is no channel", remedy=f"The channels are: {names}."
        )
    if channel is not None and chosen[0].disabled is not None:
        remedy = "Mend its entry in service.json first: then it goes on."
        raise ConflictError(f"channel {channel} is disabled: {chosen[0].disabled}", remedy=remedy)
    return [(each.name, _replay_in(tx, each, row, now_ms)) for each in chosen if each.disabled is None]


def _replay_in(tx: Write, channel: _Channel, row: int | None, now_ms: int) -> int:
    if row is None:
        return tx.run("replay_given_up", channel=channel.name, now_ms=now_ms)
    if row > channel.cursor:
        return 1  # its turn has not come yet: it is sent anyhow, if the channel takes it
    if tx.run("replay_delivery", channel=channel.name, notice=row, now_ms=now_ms):
        return 1
    if tx.one("delivery", channel=channel.name, notice=row) is not None:
        return 1  # it is being sent in this very moment
    [(_, notice)] = notices.notices_after(tx, row - 1, 1)
    tx.run(
        "add_delivery",
        channel=channel.name,
        notice=row,
        kind=str(notice.kind),
        chain=notice.chain,
        at_ms=notice.at_ms,
        state=DeliveryState.WAITING.value,
        due_ms=now_ms,
        until_ms=None,
        fold=None,
    )
    return 1


def _channels(sql: Sql) -> list[_Channel]:
    return [_Channel(*row) for row in sql.all("channels")]


def _view(sql: Sql, channel: _Channel) -> ChannelView:
    waiting, given_up = (
        sql.one("waiting_deliveries", channel=channel.name),
        sql.one("given_up_deliveries", channel=channel.name),
    )
    unseen = sql.one("unseen_notices", cursor=channel.cursor)
    assert waiting is not None and unseen is not None and given_up is not None, "counts have rows"  # noqa: PT018
    moments = [at_ms for at_ms in (waiting[1], unseen[1]) if at_ms is not None]
    return ChannelView(
        channel.name,
        waiting=waiting[0] + unseen[0],
        oldest_ms=min(moments, default=None),
        given_up=given_up[0],
        failures=channel.failures,
        failing_ms=channel.failing_ms,
        sent_ms=channel.sent_ms,
        disabled=channel.disabled,
        disabled_ms=channel.disabled_ms,
    )


def _deliveries(sql: Sql, row: int) -> list[Delivery]:
    return [_delivery(each) for each in sql.all("deliveries_of", notice=row)]


def _delivery(row: Row) -> Delivery:
    channel, notice, state, *more = row
    return Delivery(channel, notice, DeliveryState(state), *more)
