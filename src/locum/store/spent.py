"""What was spent by hour, chain, tier, account and model, and what is counted of runs: for people who look at it."""

from __future__ import annotations

from typing import NamedTuple, cast

from locum.policy.usage import Tokens
from locum.store.codec import Memory, Write
from locum.store.sqlite import Database, Row, Sql

AT_ONCE = 10_000
"""Entries that are summed up in one commit: nobody's own waits long behind it."""


class SpentRow(NamedTuple):
    """One sum; None is what is not known, `hour_ms` (epoch milliseconds) 0 for all time."""

    hour_ms: int
    chain: str | None
    tier: str | None
    account: str | None
    model: str | None
    tokens: Tokens


class Counts(NamedTuple):
    """Bumps by (chain, tier, kind), attempts by (chain, tier, agent, state, failure), each with its number."""

    bumps: list[tuple[str, str, str, int]]
    attempts: list[tuple[str, str, str, str, str, int]]


class Spent:
    """The sums. They are brought up to date when somebody asks, so that who spends never waits for them."""

    def __init__(self, database: Database[Memory]) -> None:
        self._database = database

    async def between(
        self,
        start_ms: int,
        end_ms: int,
        *,
        chain: str | None = None,
        tier: str | None = None,
        account: str | None = None,
        model: str | None = None,
    ) -> list[SpentRow]:
        """The sums of the whole hours that begin within a time (epoch milliseconds), oldest first."""
        await self._catch_up()
        asked = {"chain": chain, "tier": tier, "account": account, "model": model}
        return await self._database.read(
            lambda sql: [_of(row) for row in sql.rows("spent", start_ms=start_ms, end_ms=end_ms, **asked)]
        )

    async def ever(self) -> list[SpentRow]:
        """The sums of all time."""
        await self._catch_up()
        return await self._database.read(lambda sql: [_of(row) for row in sql.rows("spent_ever")])

    async def counts(self) -> Counts:
        """How often tiers were bumped, and how attempts on them ended, ever."""

        def script(sql: Sql) -> Counts:
            return Counts(cast("list[tuple[str, str, str, int]]", sql.all("bumps")), _attempts(sql))

        return await self._database.read(script)

    async def _catch_up(self) -> None:
        """Sum up the entries that are new. Two who do so at once do it one after the other: nothing counts twice."""
        last = await self._database.read(_missing)
        while last is not None:
            last = await self._database.write(_sum_up)


def _missing(sql: Sql) -> int | None:
    """The last entry, when it is not in the sums yet."""
    done, last = cast("tuple[int, int]", sql.one("spent_upto"))
    return last if last > done else None


def _sum_up(tx: Write) -> int | None:
    """Sum up some entries; the last there is, while that is not in the sums yet."""
    done, last = cast("tuple[int, int]", tx.one("spent_upto"))
    upto = min(last, done + AT_ONCE)
    if upto > done:
        tx.run("sum_up", after=done, upto=upto)
        tx.run("save_spent_upto", upto=upto)
    return last if last > upto else None


def _of(row: Row) -> SpentRow:
    hour_ms, chain, tier, account, model, *tokens = row
    return SpentRow(hour_ms, chain or None, tier or None, account or None, model or None, Tokens(*tokens))


def _attempts(sql: Sql) -> list[tuple[str, str, str, str, str, int]]:
    return cast("list[tuple[str, str, str, str, str, int]]", sql.all("attempts"))
