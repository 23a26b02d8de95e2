"""A bell that many can wait for: it says that something changed, not what."""

from __future__ import annotations

import anyio


class Bell:
    """Rings for everybody who waits. A ring between `heard` and `wait` is not missed."""

    def __init__(self) -> None:
        """Start silent."""
        self._rings = 0
        self._event = anyio.Event()

    def ring(self) -> None:
        """Wake everybody."""
        self._rings += 1
        self._event.set()
        self._event = anyio.Event()

    def heard(self) -> int:
        """How often it has rung: what `wait` compares with."""
        return self._rings

    async def wait(self, heard: int, timeout: float) -> None:  # noqa: ASYNC109 - a bounded sleep, not a deadline
        """Return when it has rung since `heard`, at the latest after `timeout` seconds."""
        if self._rings != heard:
            return
        with anyio.move_on_after(timeout):
            await self._event.wait()
