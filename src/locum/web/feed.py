"""What happens, told to everybody who listens: read from the ledger once, and remembered for who comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import anyio
import structlog

from locum.engine import views
from locum.engine.bell import Bell
from locum.engine.supervisor import Supervisor
from locum.errors import LocumError, StateError, UsageError
from locum.policy.board import Event
from locum.policy.notice import Notice
from locum.web import shapes_of_work as shapes
from locum.web.endpoint import encode

log = structlog.get_logger(__name__)

GAP_S = 0.2
"""The least time between two looks: what happens in it is told together."""
HEARTBEAT_S = 15.0
"""How often something is sent, so that both sides notice when the other is gone."""
MOST_LISTENERS = 600
REMEMBERED = 512
"""How much of what has happened is kept in memory for listeners; who is further behind has it read again."""
PAGE = 200
PIECE = 32
_LOOK_S = 30.0


class CrowdedError(LocumError):
    """Too many listen already."""

    code = "crowded"
    exit_code = 1
    status = 429


class Place(NamedTuple):
    """Up to which rows of the log and of the notices somebody has been told. Written as the id of what is told."""

    event: int
    notice: int

    def __str__(self) -> str:
        return f"{self.event}-{self.notice}"


def place_of(text: str) -> Place:
    """The place that was told as an id. Raises UsageError."""
    event, _, notice = text.partition("-")
    if not all(each.isascii() and each.isdecimal() and len(each) < 19 for each in (event, notice)):
        raise UsageError("Last-Event-ID is no id of this stream", remedy="Send the last `id` that came, or none.")
    return Place(int(event), int(notice))


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that is told. `number` counts them since the daemon looks; `data` is all of it but its id."""

    number: int
    row: int
    chain: str | None
    notice: bool
    data: bytes

    def behind(self, place: Place) -> Place:
        """The place of who has been told this too."""
        return place._replace(notice=self.row) if self.notice else place._replace(event=self.row)


class Feed:
    """One for all listeners. It sleeps while there are none; `run` must run for them to be told anything new."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.listeners = 0
        self.changes = 0
        self._place = Place(0, 0)
        self._number = 0
        self._recent: deque[Happening] = deque(maxlen=REMEMBERED)
        self._bell = Bell()
        self._wanted = anyio.Event()

    async def run(self) -> None:
        """Look for what is new whenever the supervisor says that something has changed, until it stops."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look)
            await self.supervisor.stopping.wait()
            tasks.cancel_scope.cancel()

    async def _look(self) -> None:
        bell = self.supervisor.bell
        while True:
            await self._wanted.wait()
            heard = bell.heard()
            try:
                await self._gather()
            except StateError as error:
                log.error("state_error", error=str(error))  # noqa: TRY400 - it is a sentence, not a bug
            except Exception:
                log.exception("happening_not_understood")
                with suppress(StateError):  # a bug of ours costs listeners what was new, and nobody else anything
                    self._place = Place(*await self.supervisor.ledger.ends())
            self._bell.ring()
            await anyio.sleep(GAP_S)
            await bell.wait(heard, _LOOK_S)
            self.changes += bell.heard() != heard

    async def _gather(self) -> None:
        """Read what is new, and keep it."""
        while found := await self._after(self._place):
            for each in found:
                self._place = each.behind(self._place)
            self._number += len(found)
            self._recent += found

    async def _after(self, place: Place, upto: Place | None = None) -> list[Happening]:
        """What follows a place, some of it: events first, then notices."""
        ledger = self.supervisor.ledger
        events = await ledger.events(place.event, PAGE)
        notices = await ledger.notices(place.notice, PAGE)
        if upto is not None:
            events = [each for each in events if each[0] <= upto.event]
            notices = [each for each in notices if each[0] <= upto.notice]
        told: list[tuple[int, str | None, bool, bytes]] = [
            (seq, each.chain, False, _event(seq, each)) for seq, each in events
        ]
        told += [(seq, each.chain, True, _notice(seq, each)) for seq, each in notices]
        return [Happening(number, *each) for number, each in enumerate(told, self._number + 1)]

    async def begin(self, place: Place | None, chain: str | None) -> AsyncGenerator[bytes, None]:
        """What happens behind `place` (None: from now on), of one chain or all, as server-sent events.

        Raises CrowdedError when too many listen already.
        """
        if self.listeners >= MOST_LISTENERS:
            raise CrowdedError(f"{MOST_LISTENERS:,} listen already", remedy="Close what is not needed, or ask again.")
        if not self.listeners:
            self._place = Place(*await self.supervisor.ledger.ends())
            self._recent.clear()
        # A place behind the end is another ledger's: an older copy was put back.
        ends = self._place
        began = Place(min(place.event, ends.event), min(place.notice, ends.notice)) if place else ends
        return self._listen(began, chain)

    async def _listen(self, place: Place, chain: str | None) -> AsyncGenerator[bytes, None]:
        self.listeners += 1
        self._wanted.set()
        try:
            yield b"retry: 2000\nevent: ready\nid: %s\ndata: {}\n\n" % str(place).encode()
            number, changes, caught_up = self._number, self.changes, False
            while True:
                heard = self._bell.heard()
                if not caught_up:
                    number, upto = self._number, self._place
                    while found := await self._after(place, upto):
                        for some in _pieces(found):
                            told, place = _written(some, place, chain)
                            yield told
                    caught_up = True
                new = self._since(number)
                if new is None:
                    caught_up = False
                    continue
                number += len(new)
                for some in _pieces(new):
                    told, place = _written(some, place, chain)
                    yield told
                if changes != self.changes:
                    changes = self.changes
                    yield b'event: changed\ndata: {"schema":1}\n\n'
                await self._bell.wait(heard, HEARTBEAT_S)
                if self._bell.heard() == heard:
                    yield b": still here\n\n"
        finally:
            self.listeners -= 1
            if not self.listeners:
                self._wanted = anyio.Event()

    def _since(self, number: int) -> list[Happening] | None:
        """What came behind that number; None when that is not remembered any more."""
        missing = self._number - number
        if missing > len(self._recent):
            return None
        return [self._recent[at] for at in range(len(self._recent) - missing, len(self._recent))]


def _pieces(found: Sequence[Happening]) -> Iterator[Sequence[Happening]]:
    """So much at a time as may wait for one listener."""
    return (found[at : at + PIECE] for at in range(0, len(found), PIECE))


def _written(found: Iterable[Happening], place: Place, chain: str | None) -> tuple[bytes, Place]:
    """Happenings as they are sent, each with the place behind it, and the last of these places."""
    lines = []
    for each in found:
        place = each.behind(place)
        if chain in (None, each.chain) or each.chain is None:
            lines.append(b"id: %s\n%s\n\n" % (str(place).encode(), each.data))
    return b"".join(lines), place


def _event(seq: int, each: Event) -> bytes:
    told = encode({"seq": seq, **views.event(each)}, shapes.Event)
    return b"event: event\ndata: " + told


def _notice(seq: int, each: Notice) -> bytes:
    told = encode({"seq": seq, **views.notice(each)}, shapes.Notice)
    return b"event: notice\ndata: " + told
