"""Delivers notices: a line a channel, one message at a time, at least once each, in nobody's way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import anyio
import structlog

from locum.config.notify import NotifyChannel
from locum.engine.bell import Bell
from locum.engine.channels import Sender
from locum.engine.channels import Service as Sending
from locum.errors import NotFoundError, StateError
from locum.notify.body import told
from locum.policy.delivery import DeliveryState, Outcome, Wanted
from locum.policy.notice import Notice, sample
from locum.policy.plan import Plan
from locum.store.ledger import Ledger
from locum.store.outbox import Claim

log = structlog.get_logger(__name__)

T = TypeVar("T")
LOOK = 0.2
"""Seconds after which it is looked whether there is a new notice, or something is due: numbers in memory."""
LONGEST_SLEEP = 30.0
PAUSE = 2.0
"""Seconds before something that the disk refused is tried again."""


class Service(Sending, Protocol):
    """What is needed of the supervisor."""

    ledger: Ledger
    bell: Bell


@dataclass
class Outbox:
    """The lines of one supervisor's channels. Without a channel it costs nothing."""

    service: Service
    _lines: dict[str, int | None] = field(default_factory=dict)  # by channel: when it is to look again
    _news: Bell = field(default_factory=Bell)

    def __post_init__(self) -> None:
        """Send as that service does."""
        self.sender = Sender(self.service)

    async def run(self) -> None:
        """Keep a line for each channel, until the service stops; what is under way then is sent by the next daemon."""
        service, seen = self.service, None
        async with anyio.create_task_group() as group:
            while not service.stopping.is_set():
                heard = service.bell.heard()
                for name in sorted({each.name for each in service.loaded.service.notify} - self._lines.keys()):
                    self._lines[name] = None
                    group.start_soon(self._line, name)
                now: tuple[int, Plan] = (service.ledger.outbox.told, service.ledger.plan)
                if now != seen or self._is_due():
                    seen = now
                    self._news.ring()
                await service.bell.wait(heard, service.clock.nap(LOOK if self._lines else LONGEST_SLEEP))
            group.cancel_scope.cancel()

    def _is_due(self) -> bool:
        now_ms = self.service.clock.now_ms()
        return any(due_ms is not None and due_ms <= now_ms for due_ms in self._lines.values())

    async def replay(self, row: int | None, channel: str | None) -> list[tuple[str, int]]:
        """Send again, as the ledger's `replay` says."""
        found = await self.service.ledger.outbox.replay(row, channel, self.service.clock.now_ms())
        self._news.ring()
        return found

    async def test(self, name: str | None) -> list[dict[str, Any]]:
        """Send a sample through a channel (None: through each) at once, past its line; what came of it.

        Raises NotFoundError when there is no such channel.
        """
        channels = [each for each in self.service.loaded.service.notify if name in (None, each.name)]
        if not channels:
            known = ", ".join(each.name for each in self.service.loaded.service.notify)
            raise NotFoundError(
                f"there is no channel {name}" if name else "there is no channel",
                remedy=f"The channels are: {known}." if known else "Add one to `notify` in service.json.",
            )
        found: dict[str, dict[str, Any]] = {}
        async with anyio.create_task_group() as group:
            for channel in channels:
                group.start_soon(self._try, channel, found)
        return [found[channel.name] for channel in channels]

    async def _try(self, channel: NotifyChannel, found: dict[str, dict[str, Any]]) -> None:
        clock = self.service.clock
        notice = sample(f"test_{clock.uuid().replace('-', '')}", channel.name, clock.now_ms())
        began = clock.monotonic()
        outcome = await self.sender.send(channel, self._told(notice), mark=".test")
        outcome = outcome or Outcome(told=False, why="the daemon stops")
        found[channel.name] = {
            "channel": channel.name,
            "type": channel.type,
            "id": notice.id,
            "delivered": outcome.told,
            "refused": outcome.refused,
            "status": outcome.status,
            "milliseconds": round((clock.monotonic() - began) * 1000),
            "answer": outcome.why or None,
        }

    async def _line(self, name: str) -> None:
        """Send what is due in one channel, until it is taken out of service.json."""
        due: Claim | int | None = None
        try:
            await self.sender.clear(name)  # what a daemon that is gone had begun
            while (channel := self._channel(name)) and not self.service.stopping.is_set():
                try:
                    if isinstance(due, Claim):
                        due = await self._serve(channel, due)
                        continue
                    heard = self._news.heard()
                    due = await self.service.ledger.outbox.next(_wanted(channel), self.service.clock.now_ms())
                    if not isinstance(due, Claim):
                        self._lines[name] = due
                        await self._news.wait(heard, self.service.clock.nap(LONGEST_SLEEP))
                        self._lines[name] = None
                except StateError as error:
                    log.error("outbox_state_error", channel=name, error=str(error))  # noqa: TRY400 - a sentence
                    await self._pause()
                except Exception:
                    log.exception("outbox_not_understood", channel=name)  # a bug of ours costs no task its daemon
                    due = None
                    await self._pause()
        finally:
            del self._lines[name]

    async def _serve(self, channel: NotifyChannel, claim: Claim) -> Claim | int | None:
        """Send one message and write down what came of it, unless the service stops first; what is next."""
        try:
            outcome = await self.sender.send(channel, self._told(claim.notice, claim.count, claim.titles))
        except Exception:
            log.exception("delivery_not_understood", channel=channel.name)  # a bug of ours costs one attempt
            outcome = Outcome(told=False, why="locum itself failed to send it: its log says how; please report that")
        if outcome is None:
            return None
        clock, rows, wanted = self.service.clock, self.service.ledger.outbox, _wanted(channel)
        state, due = await self._written(lambda: rows.end(claim, outcome, wanted, clock.now_ms(), clock.fraction()))
        about = {"channel": channel.name, "notice": claim.notice.id, "attempt": claim.attempt, "status": outcome.status}
        if state is DeliveryState.SENT:
            log.info("notice_delivered", **about)
        else:
            log.warning("notice_not_delivered", **about, why=outcome.why, state=state)
        return due

    def _told(self, notice: Notice, count: int = 1, titles: Sequence[str] = ()) -> dict[str, Any]:
        http = self.service.loaded.service.http
        return told(notice, count, titles, http.place if http else "")

    async def _written(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write down what became of a message, as often as the disk needs."""
        while True:
            try:
                return await write()
            except StateError as error:
                log.error("delivery_not_recorded", error=str(error))  # noqa: TRY400 - a sentence, not a bug
                await self._pause()

    def _channel(self, name: str) -> NotifyChannel | None:
        return next((each for each in self.service.loaded.service.notify if each.name == name), None)

    async def _pause(self) -> None:
        with anyio.move_on_after(PAUSE):
            await self.service.stopping.wait()


def _wanted(channel: NotifyChannel) -> Wanted:
    return Wanted(channel.name, channel.kinds, channel.chains, channel.severity)
