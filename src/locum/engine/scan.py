"""Reads a transcript from where it was left, in large pieces, and has its adapter read only the rows that tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import structs

from locum.agents.base import Agent, Line, Mark, Source
from locum.engine.spool import LONGEST_LINE, MOST, REMEMBERED
from locum.engine.stretch import Stretch, before, mark_of, opened, trouble_of
from locum.policy.transcript import Transcript
from locum.policy.usage import Tokens, Usage

CHUNK = 1 << 20
"""Bytes that are read at a time."""
PIECE_ROWS = 4_000
PIECE_BYTES = 32 << 20
"""What is told at once, at most: what it takes in memory is bounded, and so is what an interruption costs."""
KEYS_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class Piece:
    """What a part of a transcript has told, and how far it was read with that. `size` bytes of it were looked at.

    Usages without a session are of the one that `found` names. `trouble`: why not all was read so far, for people.
    """

    found: Transcript
    usages: list[Usage]
    size: int
    trouble: str = ""


def scan(agent: Agent, known: Transcript, folder: str, owners: frozenset[int]) -> Iterator[Piece]:
    """Read what was added to a transcript: piece by piece, the last one up to what stands there now.

    A file that is not the one that was left, or does not hold any more what was read, is read from its start. A last
    line without its end is left for the next time. A usage without a moment was written when the file was.

    Raises:
        OSError: see `opened`.

    """
    stretch = opened(known, folder, owners)
    try:
        reader = _Reader(agent, stretch)
        for usages, size in reader.pieces():
            yield Piece(reader.left(), usages, size, trouble_of(stretch.size, cut=reader.cut))
    finally:
        stretch.close()


@dataclass
class _Reader:
    """Goes through one open file. What is in `buffer` begins at byte `position` of it, which begins a line."""

    agent: Agent
    stretch: Stretch
    buffer: bytearray = field(default_factory=lambda: bytearray(min(CHUNK, LONGEST_LINE + 1)))
    filled: int = 0
    last: bytes = b""
    largest: dict[str, tuple[Tokens, int]] = field(default_factory=dict)
    """The largest count of each key so far, and the latest moment at which it was told."""
    usages: list[Usage] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin where it was left."""
        known, self.descriptor = self.stretch.known, self.stretch.descriptor
        self.cut = known.skipping
        self.position, self.skipping, self.end = known.position, known.skipping, min(self.stretch.size, MOST)
        self.session = known.session or self.agent.session_of(Path(known.path))
        self.message, self.model, self.since_ms = known.message, known.model, known.since_ms
        self.written_ms = self.stretch.mtime_ns // 1_000_000
        self.last = before(self.descriptor, self.position)

    def left(self) -> Transcript:
        """How far it was read."""
        return replace(
            self.stretch.known,
            size=self.stretch.size,
            mtime_ns=self.stretch.mtime_ns,
            position=self.position,
            mark=mark_of(self.last),
            skipping=self.skipping,
            session=self.session,
            message=self.message,
            model=self.model,
        )

    def pieces(self) -> Iterator[tuple[list[Usage], int]]:
        """What the rows tell, with how many bytes they took."""
        begun = self.position
        while self._fill():
            self._take()
            if len(self.usages) >= PIECE_ROWS or self.position - begun >= PIECE_BYTES:
                told, self.usages = self.usages, []
                yield told, self.position - begun
                begun = self.position
        yield self.usages, self.position - begun

    def _fill(self) -> bool:
        """Read on behind what is there; False at the end. No more is held than makes a line too long."""
        at = self.position + self.filled
        if self.filled == len(self.buffer):
            self.buffer.extend(bytes(min(self.filled, LONGEST_LINE + 1 - self.filled)))
        with memoryview(self.buffer) as room:
            size = os.preadv(self.descriptor, [room[self.filled : self.filled + max(0, self.end - at)]], at)
        self.filled += size
        return size > 0

    def _take(self) -> None:
        """Have the whole lines of the buffer read, and keep the begun one; of one that is too long, its beginning."""
        whole = self.buffer.rfind(b"\n", 0, self.filled) + 1
        begin = 0
        if self.skipping and whole:
            begin, self.skipping = self.buffer.find(b"\n") + 1, False
        with memoryview(self.buffer) as view:
            for first, behind in self._telling(begin, whole):
                self._read(bytes(view[first:behind]), self.position + first)
            if self.filled - whole > LONGEST_LINE and not self.skipping:
                self._read(bytes(view[whole : whole + LONGEST_LINE]), self.position + whole, cut=True)
                self.skipping = True
        if self.skipping:
            whole, self.cut = self.filled, True
        self._leave(whole)

    def _leave(self, whole: int) -> None:
        """Go on behind the first `whole` bytes of the buffer."""
        self.last = (self.last + bytes(self.buffer[max(0, whole - REMEMBERED) : whole]))[-REMEMBERED:]
        rest = self.filled - whole
        self.buffer[:rest] = self.buffer[whole : self.filled]
        if len(self.buffer) > CHUNK >= rest:
            del self.buffer[CHUNK:]
        self.position, self.filled = self.position + whole, rest

    def _telling(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where the lines lie, between these places, that hold what every telling line does."""
        find = self.buffer.find
        hits = dict.fromkeys(self.agent.tells or (b"\n",), begin - 1)
        at = begin
        while at < end:
            for tell, hit in hits.items():
                if hit < at:
                    found = find(tell, at, end)
                    hits[tell] = end if found < 0 else found
            hit = min(hits.values())
            if hit >= end:
                return
            first, behind = self.buffer.rfind(b"\n", at, hit) + 1 or at, find(b"\n", hit)
            yield first, behind
            at = behind + 1

    def _read(self, data: bytes, offset: int, *, cut: bool = False) -> None:
        """Have one line read."""
        given = ("", cut, self.session, self.since_ms, self.message, self.model)
        for told in self.agent.read(Line(Source.TRANSCRIPT, data.removesuffix(b"\r"), offset, *given)):
            if isinstance(told, Usage):
                at_ms = self.written_ms if told.at_ms is None else told.at_ms
                if at_ms < self.since_ms:
                    continue
                if self._is_news(told, at_ms):
                    self.usages.append(self._short(told, at_ms))
            elif told.mark is Mark.SESSION:
                self._begin(told.text)
            elif told.mark is Mark.MESSAGE:
                self.message, self.model = told.text, told.model
        if len(self.largest) > KEYS_KEPT:
            self.largest.clear()

    def _is_news(self, told: Usage, at_ms: int) -> bool:
        """Whether it may add anything: what tells no more than earlier lines of this file and is no older does not."""
        known = self.largest.get(told.key)
        if known is None:
            self.largest[told.key] = told.tokens, at_ms
            return True
        before, latest_ms = known
        largest = before.largest(told.tokens)
        if largest == before and at_ms >= latest_ms:
            return False
        self.largest[told.key] = largest, max(at_ms, latest_ms)
        return True

    def _begin(self, session: str) -> None:
        """What follows is of this session; what came before stays that of the one before."""
        if session != self.session and self.session:
            self.usages = [
                each if each.session else structs.replace(each, session=self.session) for each in self.usages
            ]
        self.session = session

    def _short(self, usage: Usage, at_ms: int) -> Usage:
        """A usage without the session that is the whole file's, and with its moment: there are very many of them."""
        session = None if usage.session == self.session else usage.session
        return Usage(usage.key, usage.tokens, usage.model, session, at_ms)
