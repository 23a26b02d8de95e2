"""A file that somebody names, whatever it is: a pipe, a device and standard input are read within bounds too."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from locum.agents.base import Line, Source
from locum.agents.replay import TAIL
from locum.clock import SystemClock
from locum.engine.spool import CHUNK, MOST, Splitter
from locum.errors import ConflictError, NotFoundError, UsageError

STANDARD_INPUT = "-"
SILENCE_S = 10.0
"""Seconds that a pipe may be silent: whoever records a run has its output already."""
LONGEST_S = 60.0
"""Seconds that a pipe or a device may take in all."""
REMEDY = "Write it to a file, and name that."


@dataclass
class Given:
    """What the option `--name` was given: a path, or `-` for standard input. Read once, from its beginning.

    `tail` is the end of what was read by then, as rules are tried on it.
    """

    name: str
    text: str
    tail: bytes = b""

    @property
    def path(self) -> Path | None:
        """Where it lies, when that says something of it."""
        path = Path(self.text)
        return path if self.text != STANDARD_INPUT and path.is_file() else None

    def lines(self, source: Source, session: str = "") -> Iterator[Line]:
        """Its lines, to the end or as far as any file is read.

        Raises:
            NotFoundError: it is not there, or cannot be read.
            ConflictError: it is silent for too long, or does not end.

        """
        splitter = Splitter()
        for chunk in self._chunks():
            self.tail = (self.tail + chunk)[-TAIL:]
            for offset, data, cut in splitter.split(chunk):
                yield Line(source, data.removesuffix(b"\r"), offset, "run-1", cut, session)
        if splitter.held:
            yield Line(source, bytes(splitter.held), splitter.settled, "run-1", session=session)

    def _chunks(self) -> Iterator[bytes]:
        try:
            with ExitStack() as opened:
                descriptor = 0
                if self.text != STANDARD_INPUT:
                    descriptor = os.open(self.text, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
                    opened.callback(os.close, descriptor)
                yield from self._read(descriptor)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "its name is not one"
            raise NotFoundError(f"--{self.name} {self.text} cannot be read: {why}", remedy="Name a file.") from error

    def _read(self, descriptor: int) -> Iterator[bytes]:
        waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        clock, left = SystemClock(), MOST
        until = clock.monotonic() + LONGEST_S
        while left > 0:
            if waits:
                self._wait(descriptor, min(SILENCE_S, until - clock.monotonic()))
            try:
                chunk = os.read(descriptor, min(CHUNK, left))
            except BlockingIOError:  # another reader was there first
                continue
            if not chunk:
                return
            left -= len(chunk)
            yield chunk

    def _wait(self, descriptor: int, seconds: float) -> None:
        """Wait until there is something to be read, or nothing more to come. Raises ConflictError."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if seconds <= 0:
            raise ConflictError(f"--{self.name} {self.text} does not end within {LONGEST_S:.0f} s", remedy=REMEDY)
        if not poll.poll(seconds * 1000):
            raise ConflictError(f"--{self.name} {self.text} was silent for {seconds:.0f} s", remedy=REMEDY)


def given(named: dict[str, str | None]) -> list[Given]:
    """What was given of `named`, by option. Raises UsageError when two of them are standard input."""
    found = [Given(name, text) for name, text in named.items() if text is not None]
    if sum(each.text == STANDARD_INPUT for each in found) > 1:
        raise UsageError("standard input can be one file only", remedy="Give `-` to one option.")
    return found
