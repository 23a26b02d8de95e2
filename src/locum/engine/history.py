"""Counts the history that agents have kept of their sessions: once, all of it, and as fast as the disk is read."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from locum.engine.bell import Bell
from locum.engine.crew import CrewError, spread
from locum.engine.homes import Home, owners
from locum.engine.process import clean_environment
from locum.engine.scanner import Order, Told
from locum.engine.sources import Sources
from locum.engine.tree import State, Tree
from locum.errors import ConflictError, LocumError, StateError
from locum.policy.board import Event
from locum.policy.transcript import Transcript
from locum.policy.usage import NO_TOKENS, Payer, Tokens
from locum.store.transcripts import Share

log = structlog.get_logger(__name__)

MOST_READERS = 4
"""Processes that read at once: with so many, counting is what takes the time."""
ROWS_A_COMMIT = 16_000
BYTES_A_COMMIT = 128 << 20
"""What is committed at once: what it takes in memory is bounded, and so is what an interruption costs."""
TELL_EVERY = 0.2
"""Seconds after which progress is told again."""
TROUBLES_TOLD = 20

_told_of = msgspec.json.Decoder(Told).decode


@dataclass
class Import:
    """One import, from its beginning to its end. Rows dated before `since_ms` are not counted.

    `files` and `size` (bytes) are what there is to read, `done` and `read` what is counted of it; `known` are files in
    which nothing has changed since they were counted. `counted` is what was new, and by whom it was paid in `shares`.
    """

    homes: list[Home]
    since_ms: int
    bell: Bell = field(default_factory=Bell)
    stop: anyio.Event = field(default_factory=anyio.Event)
    files: int = 0
    size: int = 0
    known: int = 0
    done: int = 0
    read: int = 0
    counted: Tokens = NO_TOKENS
    shares: dict[tuple[str, str], Tokens] = field(default_factory=dict)
    payers: set[Payer] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)
    troubled: int = 0
    events: tuple[Event, ...] = ()
    ended: str = ""
    """"" while it goes on, then `done`, `stopped` or `failed`."""
    error: LocumError | None = None

    def doubt(self, trouble: str) -> None:
        """Something was not read."""
        self.troubled += 1
        if len(self.troubles) < TROUBLES_TOLD:
            self.troubles.append(trouble)


@dataclass
class _Batch:
    """What is to be committed at once."""

    shares: list[Share] = field(default_factory=list)
    homes: list[Home] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    done: int = 0


@dataclass
class History:
    """Imports, one at a time. `sources` are the homes that are watched meanwhile."""

    sources: Sources
    environ: Mapping[str, str]
    going_on: Import | None = None
    _group: TaskGroup | None = None

    def __post_init__(self) -> None:
        """Count where and when the others do."""
        self.ledger, self.clock = self.sources.ledger, self.sources.clock

    def begin(self, group: TaskGroup) -> None:
        """Imports run in this group from now on."""
        self._group = group

    def end(self) -> None:
        """Stop what goes on: what is counted by then is whole."""
        self._group = None
        if self.going_on:
            self.going_on.stop.set()

    def start(self, homes: list[Home], since_ms: int) -> Import:
        """Begin to import the transcripts in these homes.

        Raises:
            ConflictError: an import goes on already, or the daemon is about to stop.

        """
        if self.going_on is not None:
            share = f"{self.going_on.done:,} of {self.going_on.files:,} files are counted"
            raise ConflictError(f"an import goes on already ({share})", remedy="Wait until it has ended.")
        if self._group is None:
            raise ConflictError("the daemon is starting or stopping", remedy="Try again in a moment.")
        self.going_on = Import(homes, since_ms)
        self._group.start_soon(self._run, self.going_on)
        return self.going_on

    async def follow(self, job: Import) -> AsyncGenerator[Import, None]:
        """The import again and again as it goes on, last when it has ended; it is stopped when nobody follows it."""
        try:
            while not job.ended:
                heard = job.bell.heard()
                yield job
                await job.bell.wait(heard, 30)
                if not job.ended:
                    await anyio.sleep(TELL_EVERY if job.read else 0)
            yield job
        finally:
            job.stop.set()

    async def _run(self, job: Import) -> None:
        """The whole of an import; nothing that goes wrong in it ends anything else."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop, job, group.cancel_scope)
                await self._read(job, await self._find(job))
                group.cancel_scope.cancel()
            done = job.done == job.files
            with anyio.CancelScope(shield=True):
                await self._close(job, reach_back=done)
            job.ended = "done" if done else "stopped"
        except BaseExceptionGroup as errors:
            self._fail(job, errors)
        except StateError as error:
            job.ended, job.error = "failed", error
        finally:
            job.ended = job.ended or "stopped"
            self.going_on = None
            job.bell.ring()
            self.sources.bell.ring()

    async def _stop(self, job: Import, scope: anyio.CancelScope) -> None:
        await job.stop.wait()
        scope.cancel()

    def _fail(self, job: Import, errors: BaseExceptionGroup[BaseException]) -> None:
        """Keep why it failed; what is cancelled from outside stays cancelled."""
        again = "What is counted stays so: import again, and it goes on from there."
        known, strange = errors.split((StateError, CrewError, OSError))
        first = next(_leaves(strange or known or errors))
        if strange is not None:
            log.error("import_not_understood", exc_info=first)
            first = StateError(
                f"locum itself failed to import ({type(first).__name__})", remedy="See the daemon's log."
            )
        job.ended = "failed"
        job.error = first if isinstance(first, StateError) else StateError(str(first), remedy=again)

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────

    async def _find(self, job: Import) -> list[tuple[Home, Order]]:
        """Every transcript of which something is still to be counted, oldest first: so its rows come nearly in time."""
        found: list[tuple[int, Home, Transcript]] = []
        for home in tuple(job.homes):
            tree = Tree(home.folder, home.levels)
            look = await self.sources.worker.aside(partial(tree.look, self.clock.now_ms() * 1_000_000))
            if home.guessed and not tree.files and not tree.unread:
                job.homes.remove(home)
                continue
            if tree.full:
                job.doubt(f"{home.folder}: there are more folders or files than are looked at")
            if tree.unread:
                job.doubt(tree.unread)
            read = await self.ledger.transcripts.below(home.agent.name, home.folder)
            for path, state in look.changed:
                known = _known(home, read.get(path), path, job.since_ms)
                if _is_read(known, state):
                    job.known += 1
                else:
                    job.size += max(0, state[1] - known.position)
                    found.append((state[0], home, known))
        job.files = len(found)
        job.bell.ring()
        found.sort(key=lambda each: each[0])
        theirs = {home.folder: owners(home.folder) for home in job.homes if os.path.isdir(home.folder)}  # noqa: PTH112
        return [
            (home, Order(number, known, home.folder, theirs.get(home.folder, frozenset())))
            for number, (_, home, known) in enumerate(found)
        ]

    # ── how it is read ───────────────────────────────────────────────────────────────────────────────────

    async def _read(self, job: Import, orders: list[tuple[Home, Order]]) -> None:
        """Have all of it read and counted."""
        send, receive = anyio.create_memory_object_stream[_Batch](0)
        gathered, redact = _Batch(), self.sources.redactor()

        async def hear(line: bytes) -> bool:
            nonlocal gathered
            told = _told_of(line)
            home, order = orders[told.number]
            if told.piece is None:
                gathered.done += 1
                if told.trouble:
                    job.doubt(f"{order.known.path}: {told.trouble}")
            else:
                piece = told.piece
                usages = [redact.told(each) for each in piece.usages] if redact.touches(line) else piece.usages
                gathered.shares.append(Share(piece.found, self.sources.payer(home, piece.found.session), usages))
                gathered.homes.append(home)
                gathered.rows, gathered.size = gathered.rows + len(usages), gathered.size + piece.size
                if gathered.rows >= ROWS_A_COMMIT or gathered.size >= BYTES_A_COMMIT:
                    full, gathered = gathered, _Batch()
                    await send.send(full)
            return told.piece is None

        async with anyio.create_task_group() as group:
            group.start_soon(self._count, job, receive)
            async with send:
                readers = min(MOST_READERS, len(os.sched_getaffinity(0)))
                await spread(_each(orders), hear, readers, clean_environment(self.environ))
                await send.send(gathered)

    async def _count(self, job: Import, batches: MemoryObjectReceiveStream[_Batch]) -> None:
        """Commit what is read, batch by batch."""
        async with batches:
            async for batch in batches:
                with anyio.CancelScope(shield=True):  # what is committed is also told
                    added = await self.ledger.record_history(batch.shares, self.clock.now_ms())
                    self._was_counted(job, batch, added)

    def _was_counted(self, job: Import, batch: _Batch, added: list[Tokens]) -> None:
        for share, home, tokens in zip(batch.shares, batch.homes, added, strict=True):
            key = home.agent.name, home.folder
            job.shares[key] = job.shares.get(key, NO_TOKENS) + tokens
            job.counted += tokens
            if tokens:
                job.payers.add(replace(share.payer, session=None))
        job.done, job.read = job.done + batch.done, job.read + batch.size
        job.bell.ring()

    async def _close(self, job: Import, *, reach_back: bool) -> None:
        """Let blocks and budgets see what was counted; from now on the homes' whole history counts."""
        now_ms = self.clock.now_ms()
        for home in job.homes if reach_back else ():
            await self.ledger.transcripts.reach_back(home.agent.name, home.folder, job.since_ms)
        job.events = await self.ledger.look_back(sorted(job.payers, key=str), now_ms)
        self.sources.refresh()


def _known(home: Home, known: Transcript | None, path: str, since_ms: int) -> Transcript:
    """How far a transcript was read, for that far back; as if never, if it was read for a later moment only."""
    return known if known and known.since_ms <= since_ms else Transcript(path, home.agent.name, since_ms)


def _is_read(known: Transcript, state: State) -> bool:
    """Whether nothing has changed since it was read."""
    return known.inode != 0 and (known.mtime_ns, known.size, known.inode) == state


def _each(orders: list[tuple[Home, Order]]) -> Iterator[Order]:
    return (order for _, order in orders)


def _leaves(errors: BaseExceptionGroup[BaseException] | BaseException) -> Iterator[BaseException]:
    """The errors in a group of errors."""
    if isinstance(errors, BaseExceptionGroup):
        for each in errors.exceptions:
            yield from _leaves(each)
    else:
        yield errors
