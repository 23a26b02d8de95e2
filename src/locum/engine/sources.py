"""Counts what sessions spend that nobody tells of, from the transcripts that agents keep in their homes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import structlog
from msgspec import structs

from locum.agents import lines
from locum.agents.base import Line, Mark, Signal, Source
from locum.clock import Clock
from locum.engine.bell import Bell
from locum.engine.events import Events, listen
from locum.engine.homes import Home, homes, owners
from locum.engine.redact import Redactor
from locum.engine.seats import Seats
from locum.engine.stretch import Stretch, opened
from locum.engine.tree import State, Tree
from locum.engine.vendor import readings
from locum.errors import StateError
from locum.policy.gate import Place, placed
from locum.policy.report import payer_of
from locum.policy.transcript import Transcript
from locum.policy.usage import Payer, Usage
from locum.policy.vendor import VendorWindow
from locum.store.ledger import Ledger
from locum.store.transcripts import Share
from locum.store.worker import Worker

log = structlog.get_logger(__name__)

Split = Iterator[tuple[int, bytes, bool]]

LOOK_EVERY = 30.0
"""Seconds between two looks at every file: they make good what no event told of."""
LOOK_WITHOUT_EVENTS = 1.0
"""Seconds between two looks where the host allows no watches."""
SHARE = 20
"""How many times longer than a look the pause after it is at least, without events."""
TRY_AGAIN = 60.0
"""Seconds after which the host is asked again for watches that it refused."""
COARSE_MS = 2_000
"""How much earlier than it was written a file may say it was: what it holds is then looked at row by row."""
DISK_PAUSE = 2.0
"""Seconds before what the disk refused is tried again."""
ROWS_A_COMMIT = 2_000
SHARES_A_COMMIT = 256
"""What is committed at once, at most: other writers wait no longer than that takes."""


@dataclass
class Watched:
    """One home and what is known of its files. `read` is how far each was read, `pending` what is still to be read,
    `unsaved` those of which no row told anything since it was kept how far they were read.
    """

    home: Home
    since_ms: int
    tree: Tree
    read: dict[str, Transcript]
    pending: dict[str, State] = field(default_factory=dict)
    unsaved: set[str] = field(default_factory=set)
    troubles: dict[str, str] = field(default_factory=dict)
    last_counted_ms: int | None = None

    @property
    def trouble(self) -> str:
        """Why not everything is counted, for people; "" when it is."""
        if self.tree.full:
            return "there are more folders or files than are watched"
        return self.tree.unread or next(iter(self.troubles.values()), "")


@dataclass
class _Gathered:
    """What was read, and is to be committed at once: a commit costs a sync, however much is in it.

    `places` is how far files were read, and whether that was told by a share, `done` what then is not pending any more.
    """

    shares: list[Share] = field(default_factory=list)
    limits: list[VendorWindow] = field(default_factory=list)
    places: list[tuple[Watched, Transcript, bool]] = field(default_factory=list)
    done: list[tuple[Watched, str]] = field(default_factory=list)
    rows: int = 0

    @property
    def full(self) -> bool:
        """Whether it is enough for a commit."""
        return self.rows >= ROWS_A_COMMIT or len(self.shares) >= SHARES_A_COMMIT

    def add(self, watched: Watched, share: Share) -> None:
        """A part of a transcript has told something."""
        self.shares.append(share)
        self.places.append((watched, share.found, True))
        self.rows += len(share.usages)

    def clear(self) -> None:
        """It is committed."""
        for each in (self.shares, self.limits, self.places, self.done):
            each.clear()
        self.rows = 0


@dataclass
class Sources:
    """All homes that are watched. `seats`, `redactor` and `place_of` (the tier that hooks have named for a session)
    give what is known at the moment; `events` tells of changes.
    """

    ledger: Ledger
    clock: Clock
    seats: Callable[[], Seats]
    redactor: Callable[[], Redactor]
    place_of: Callable[[str], Place | None]
    bell: Bell
    stopping: anyio.Event
    worker: Worker
    events: Events = listen
    watched: list[Watched] = field(default_factory=list)
    without_events: str = ""
    """Why there are no file events, so that the files are looked at again and again; "" while there are."""
    _again: anyio.Event = field(default_factory=anyio.Event)

    def refresh(self) -> None:
        """The configuration has changed, or what the ledger knows of the files: begin anew."""
        self._again.set()

    async def run(self) -> None:
        """Watch until `stopping` is set; then keep how far everything was read."""
        while not self.stopping.is_set():
            self._again = anyio.Event()
            try:
                await self._begin()
                await self._watch()
            except StateError as error:
                log.error("usage_not_recorded", error=str(error))  # noqa: TRY400 - it is a sentence, not a bug
                await self._pause(DISK_PAUSE)
            except Exception:
                log.exception("sources_not_understood")  # a bug of ours ends nothing else
                await self._pause(LOOK_EVERY)
        with suppress(StateError):
            await self._keep()

    # ── what is watched ──────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        """Take over what the configuration and the ledger say."""
        await self._keep()
        found = homes(self.seats())
        before = {(each.home.agent.name, each.home.folder): each for each in self.watched}
        watched = []
        for key, home in found.items():
            known = before.get(key)
            since_ms = (await self.ledger.transcripts.begin(*key, self.clock.now_ms())).since_ms
            tree = known.tree if known and known.tree.levels == home.levels else Tree(home.folder, home.levels)
            made = Watched(home, since_ms, tree, await self.ledger.transcripts.below(*key))
            if known:
                made.last_counted_ms, made.pending, made.troubles = known.last_counted_ms, known.pending, known.troubles
            watched.append(made)
        self.watched = watched

    async def _watch(self) -> None:
        """Look at everything, then at what events tell of, until something else is to be watched."""
        while not self._again.is_set() and not self.stopping.is_set():
            await self._look()
            folders = [folder for each in self.watched for folder in _folders(each)]
            if not folders:
                await self._again.wait()  # nothing is watched
                return
            try:
                await self._listen(folders)
            except FileNotFoundError:
                await self._pause(LOOK_WITHOUT_EVENTS)  # a folder has just gone
            except OSError as error:
                self.without_events = (error.strerror or str(error)).lower()
                log.warning("no_file_events", error=str(error))
                await self._look_on()

    async def _listen(self, folders: list[str]) -> None:
        """Read what events tell of; return when all is to be looked at, or other folders are to be watched."""
        wanted = self._wanted(folders)
        due = self.clock.monotonic() + LOOK_EVERY
        fresh = True
        async with aclosing(self.events(sorted(set(folders)), wanted, stop=self._again)) as events:
            async for paths in events:
                self.without_events = ""
                if self.stopping.is_set() or self.clock.monotonic() >= due:
                    return
                if fresh or self._glance(paths):  # there may have been something before there were events
                    fresh = False
                    await self._look()
                    if {folder for each in self.watched for folder in _folders(each)} != set(folders):
                        return
                elif any(each.pending for each in self.watched):
                    await self._read_all()

    def _glance(self, paths: set[str]) -> bool:
        """Note the files that have changed; whether everything is to be looked at instead."""
        for path in paths:
            fitting = [each for each in self.watched if each.tree.fits(path)]
            for each in fitting:
                state = each.tree.glance(path)
                if state is None:
                    return True
                if _is_news(each, path, state):
                    each.pending[path] = state
            if not fitting:
                return True
        return False

    def _wanted(self, folders: list[str]) -> Callable[[str], bool]:
        """Which of the names in `folders` matter: transcripts, folders that are new or gone, and the way to a home."""
        known = set(folders)
        trees = [each.tree for each in self.watched]
        above = {f"{each.home.folder}/" for each in self.watched}

        def wanted(path: str) -> bool:
            if any(tree.fits(path) for tree in trees):
                return True
            if any(home.startswith(f"{path}/") for home in above):
                return True
            return any(path.startswith(home) for home in above) and (path in known or os.path.isdir(path))  # noqa: PTH112

        return wanted

    async def _look_on(self) -> None:
        """Do without events for a while."""
        tried = self.clock.monotonic()
        while not self._again.is_set() and self.clock.monotonic() - tried < TRY_AGAIN and not self.stopping.is_set():
            began = self.clock.monotonic()
            await self._look()
            await self._pause(max(LOOK_WITHOUT_EVENTS, SHARE * (self.clock.monotonic() - began)))

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._again.wait()

    # ── what is read ─────────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        """Look at every file, read what is new, and keep how far that went."""
        for each in self.watched:
            found = await self.worker.aside(partial(each.tree.look, self.clock.now_ms() * 1_000_000))
            for path, state in found.changed:
                if _is_news(each, path, state):
                    each.pending[path] = state
            for path in found.gone:
                each.pending.pop(path, None)
                each.troubles.pop(path, None)
            gone = [path for path in found.gone if each.read.pop(path, None)]
            if gone:
                each.unsaved.difference_update(gone)
                await self.ledger.transcripts.forget(gone)
        await self._read_all()
        await self._keep()

    async def _read_all(self) -> None:
        """Read everything that is pending; what the ledger cannot take stays so."""
        gathered = _Gathered()
        pending = [(watched, path) for watched in self.watched for path in watched.pending]
        for each, path in pending:
            if self.stopping.is_set():
                break
            try:
                before = each.troubles.pop(path, "")
                if trouble := await self._read(each, path, gathered):
                    each.troubles[path] = f"{path}: {trouble}"
                    if each.troubles[path] != before:
                        log.warning("transcript_not_read_whole", path=path, why=trouble)
            except FileNotFoundError:
                pass  # it is gone again
            except StateError:
                raise
            except OSError as error:
                each.troubles[path] = f"{path}: {(error.strerror or str(error)).lower()}"
            except Exception:
                log.exception("transcript_not_understood", path=path)  # a bug of ours costs this file its count
                each.troubles[path] = f"{path}: locum itself failed to read it: its log says how; please report that"
            gathered.done.append((each, path))
        await self._count(gathered)

    async def _count(self, gathered: _Gathered) -> None:
        """Commit what was gathered, and gather anew."""
        now_ms = self.clock.now_ms()
        if gathered.shares:
            found = await self.ledger.transcripts.record(gathered.shares, now_ms)
            if found.events:
                self.bell.ring()
        if gathered.limits:
            await self.ledger.saw_vendor(gathered.limits)
        for watched, place, told in gathered.places:
            if told:
                watched.last_counted_ms = now_ms
            _was_read(watched, place, saved=told)
        for watched, path in gathered.done:
            watched.pending.pop(path, None)
        gathered.clear()

    async def _keep(self) -> None:
        """Keep how far files were read of which no row told anything."""
        for each in self.watched:
            if each.unsaved:
                await self.ledger.transcripts.save([each.read[path] for path in sorted(each.unsaved)])
                each.unsaved.clear()

    async def _read(self, watched: Watched, path: str, gathered: _Gathered) -> str:
        """Read what was added to one transcript, chunk by chunk; why not all of it, "" when it was."""
        home = watched.home
        known = watched.read.get(path) or Transcript(path, home.agent.name, watched.since_ms)
        stretch = opened(known, home.folder, owners(home.folder))
        try:
            while not self.stopping.is_set() and (split := stretch.read()) is not None:
                usages, limits = self._understood(home, stretch, split)
                payer = self.payer(home, stretch.known.session)
                if limits and payer.account:
                    gathered.limits += readings(payer.account, limits, self.clock.now_ms())
                if usages:
                    gathered.add(watched, Share(stretch.place(), payer, usages))
                if gathered.full:
                    await self._count(gathered)
                await anyio.lowlevel.checkpoint()
            gathered.places.append((watched, stretch.place(), False))
            return stretch.trouble
        finally:
            stretch.close()

    def _understood(self, home: Home, stretch: Stretch, split: Split) -> tuple[list[Usage], list[Signal]]:
        """What a chunk tells: usage from when on the file counts, and the last reading of each vendor's window."""
        agent, known, redact = home.agent, stretch.known, self.redactor()
        session, message, model = known.session or agent.session_of(Path(known.path)), known.message, known.model
        written_ms = min(stretch.mtime_ns // 1_000_000, self.clock.now_ms())
        usages: list[Usage] = []
        limits: dict[tuple[str | None, str | None], Signal] = {}
        for offset, data, cut in split:
            stretch.cut |= cut
            if not lines.holds(data, agent.tells):
                continue
            told = Line(Source.TRANSCRIPT, data, offset, "", cut, session, known.since_ms, message, model)
            for each in agent.read(redact.line(told)):
                if isinstance(each, Usage):
                    at_ms = written_ms if each.at_ms is None else each.at_ms
                    if at_ms >= known.since_ms:
                        whose = each.session or session or None
                        usages.append(redact.told(structs.replace(each, at_ms=at_ms, session=whose)))
                elif each.mark is Mark.SESSION:
                    session = each.text
                elif each.mark is Mark.MESSAGE:
                    message, model = each.text, each.model
                elif each.mark is Mark.LIMIT:
                    limits[each.window, each.model] = redact.told(each)
        stretch.told(session, message, model)
        return usages, list(limits.values())

    def payer(self, home: Home, session: str) -> Payer:
        """Whose usage a session's is: that of the tier its hooks have named, else of the home's only tier, else of the
        account that all its tiers share.
        """
        place = self.place_of(session) or placed(self.ledger.plan, None, None, home.tiers)
        if place is not None:
            return payer_of(home.agent.name, place, session)
        return Payer(home.agent.name, account=home.account, session=session)


def _was_read(watched: Watched, place: Transcript, *, saved: bool) -> None:
    """A file was read that far, which the ledger knows already (`saved`) or is still to be told."""
    if saved:
        watched.unsaved.discard(place.path)
    elif place != watched.read.get(place.path):
        watched.unsaved.add(place.path)
    watched.read[place.path] = place


def _is_news(watched: Watched, path: str, state: State) -> bool:
    """Whether a file is to be read: one that has changed since, or was not read to its end; of those that were never
    read, one that was written since its rows count.
    """
    mtime_ns, size, inode = state
    known = watched.read.get(path)
    if known is None:
        return mtime_ns // 1_000_000 + COARSE_MS >= watched.since_ms
    return known.position < size or (known.mtime_ns, known.size, known.inode) != (mtime_ns, size, inode)


def _folders(watched: Watched) -> list[str]:
    """The folders in which something may happen that matters: those of the home and the one it lies in, else the
    nearest that is there on the way to it.
    """
    above = os.path.dirname(watched.home.folder)  # noqa: PTH120 - a text that may hold anything
    while above != "/" and not os.path.isdir(above):  # noqa: PTH112 - as above
        above = os.path.dirname(above)  # noqa: PTH120 - as above
    return [above, *watched.tree.folders]
