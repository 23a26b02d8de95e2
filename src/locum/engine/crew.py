"""A few short-lived processes that read transcripts: orders are spread over them, what they tell is gathered."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping

import anyio
import msgspec

from locum.engine.scanner import Order

PIPE = 1 << 20
"""Bytes that a process may have told and nobody has taken yet, where the host allows so many."""
AHEAD = 3
"""Orders that a process is given before it has done the first: it never waits for the next one."""

Hear = Callable[[bytes], Awaitable[bool]]
"""Takes one line that a process has told; whether an order is done with it. The process waits as long as it takes."""


class CrewError(Exception):
    """A reading process ended before its work."""


async def spread(orders: Iterator[Order], hear: Hear, most: int, environ: Mapping[str, str]) -> None:
    """Have the orders carried out by at most `most` processes; returns when all is heard.

    Cancelled, or when `hear` raises, no process is left.

    Raises:
        OSError: no process can be started.
        CrewError: a process ended before its work: it was killed, or is broken.

    """
    async with anyio.create_task_group() as group:
        for _ in range(most):
            first = next(orders, None)
            if first is None:
                break
            group.start_soon(_employ, first, orders, hear, environ)


async def _employ(first: Order, orders: Iterator[Order], hear: Hear, environ: Mapping[str, str]) -> None:
    """One process, from its start to its end."""
    with subprocess.Popen(  # noqa: ASYNC220 - a fork is quicker than the hop to a thread and back
        [sys.executable, "-P", "-m", "locum.engine.scanner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ,
        cwd="/",
        start_new_session=True,
    ) as child:
        try:
            await _Employed(child).work(first, orders, hear)
        finally:
            child.send_signal(signal.SIGKILL)  # it keeps nothing that could be left half done


class _Employed:
    """A process at work."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None, "it was asked for"
        assert child.stdout is not None, "it was asked for"
        self.stdin, self.stdout = child.stdin, child.stdout.fileno()
        self.rest = bytearray()
        os.set_blocking(self.stdout, False)
        with contextlib.suppress(OSError):  # it is slower with the usual size, and no worse
            fcntl.fcntl(self.stdout, fcntl.F_SETPIPE_SZ, PIPE)

    async def work(self, first: Order, orders: Iterator[Order], hear: Hear) -> None:
        """Order, and hear what is told, until there are no more orders and all are done."""
        open_orders = 0
        wanted: Order | None = first
        while wanted is not None or open_orders:
            while wanted is not None and open_orders < AHEAD:
                self._order(wanted)
                open_orders, wanted = open_orders + 1, next(orders, None)
            for line in await self._lines():
                open_orders -= await hear(line)

    def _order(self, order: Order) -> None:
        try:
            self.stdin.write(msgspec.json.encode(order) + b"\n")  # a pipe holds more than a few orders
            self.stdin.flush()
        except BrokenPipeError as error:
            raise CrewError("a process that reads transcripts has ended before its work") from error

    async def _lines(self) -> list[bytes]:
        """The whole lines that are there by now, at least one."""
        while True:
            await anyio.wait_readable(self.stdout)
            try:
                data = os.read(self.stdout, PIPE)
            except BlockingIOError:
                continue
            if not data:
                raise CrewError("a process that reads transcripts has ended before its work")
            whole, newline, rest = data.rpartition(b"\n")
            if not newline:
                self.rest += data
                continue
            lines = (bytes(self.rest) + whole).split(b"\n")
            self.rest[:] = rest
            return lines
