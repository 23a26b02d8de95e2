"""Short commands, run with a bound: a line of sh with an input, or several programs at once."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from locum.clock import Clock, SystemClock

POLL_S = 0.02
"""Seconds after which it is looked anew whether one of several programs has ended."""
TOGETHER = 4
"""How many of several programs run at once."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a short command ended: its exit code (None: it was killed when its time was up), and what it said."""

    code: int | None
    out: str
    err: str


def run_line(line: str, said: bytes, env: Mapping[str, str], seconds: float) -> Finished:
    """Run a line of sh that hears `said`, for `seconds` at most; when they are up, all of its group is killed."""
    with subprocess.Popen(
        ["/bin/sh", "-c", line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(said, timeout=seconds)
            code = child.returncode
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            out, err, code = error.stdout or b"", error.stderr or b"", None
    return Finished(code, out.decode(errors="replace"), err.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Program:
    """A program to be run for what it says of itself: `env` is its whole environment."""

    argv: Sequence[str]
    env: Mapping[str, str]


def run_several(programs: Sequence[Program], seconds: float, most: int) -> list[Finished | OSError]:
    """Run programs without an input, a few at a time, each for `seconds` and for `most` bytes on a stream at most.

    Nothing of them is left then. They are answered in their order; OSError: why one has no answer (it could not be
    started, TimeoutError: its time was up, EFBIG: it said too much).
    """
    found: dict[int, Finished | OSError] = {}
    waiting, running, clock = list(enumerate(programs)), dict[int, _Running](), SystemClock()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < TOGETHER:
                    number, program = waiting.pop(0)
                    try:
                        running[number] = _Running(_start(program), clock.monotonic() + seconds, most)
                        running[number].watch(selector)
                    except OSError as error:
                        found[number] = error
                for key, _ in selector.select(POLL_S) if running else ():
                    key.data.read(key.fileobj, selector)
                for number in [number for number, each in running.items() if each.is_over(clock)]:
                    found[number] = running.pop(number).end(selector)
        finally:
            for each in running.values():
                each.end(selector)
    return [found[number] for number in range(len(programs))]


def _start(program: Program) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        program.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=program.env,
        cwd="/",
        start_new_session=True,
    )


@dataclass(slots=True)
class _Running:
    """One of several programs: how long it may run and what it has said so far."""

    child: subprocess.Popen[bytes]
    until: float
    most: int
    said: dict[int, bytes] = field(default_factory=dict)

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have what it says read."""
        for stream in self._streams():
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, self)

    def read(self, stream: IO[bytes], selector: selectors.BaseSelector) -> None:
        """Take what is there; what is over `most` only shows that it is too much."""
        try:
            more = os.read(stream.fileno(), self.most + 1)
        except OSError:
            return
        if not more:
            selector.unregister(stream)
        before = self.said.get(stream.fileno(), b"")
        self.said[stream.fileno()] = (before + more)[: self.most + 1]

    def is_over(self, clock: Clock) -> bool:
        """Whether it has ended, or has to."""
        ended = os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None or clock.monotonic() >= self.until or self._says_too_much()

    def end(self, selector: selectors.BaseSelector) -> Finished | OSError:
        """Kill what is left of it; how it ended."""
        # It is not waited for until its group is killed: before that its number can be nobody else's.
        ended = os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        code = self.child.wait()
        texts = []
        for stream in self._streams():
            with contextlib.suppress(KeyError, ValueError):
                self.read(stream, selector)
                selector.unregister(stream)
            texts.append(self.said.get(stream.fileno(), b"")[: self.most].decode(errors="replace"))
        too_much = self._says_too_much()
        for stream in self._streams():
            stream.close()
        if too_much:
            return OSError(errno.EFBIG, "it says too much")
        return Finished(code, *texts) if ended else TimeoutError(errno.ETIMEDOUT, "its time was up")

    def _says_too_much(self) -> bool:
        return any(len(said) > self.most for said in self.said.values())

    def _streams(self) -> Iterator[IO[bytes]]:
        assert self.child.stdout is not None, "both streams are pipes"
        assert self.child.stderr is not None, "both streams are pipes"
        yield from (self.child.stdout, self.child.stderr)
