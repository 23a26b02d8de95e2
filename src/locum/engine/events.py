"""File events in many folders, and nothing else: what may have changed is looked at by whoever asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

import anyio
from watchfiles import awatch

STEP_MS = 200
"""How often it is asked whether there was an event, and how long nothing may happen until it is told."""
GATHER_MS = 400
"""How long events that do not cease are gathered before they are told."""
WAKE_MS = 1_000
"""How often it is told that there was no event."""


class Events(Protocol):
    """Says which paths may have changed."""

    def __call__(
        self, folders: Sequence[str], wanted: Callable[[str], bool], *, stop: anyio.Event
    ) -> AsyncGenerator[set[str], None]:
        """As `listen` does."""
        ...


async def listen(
    folders: Sequence[str], wanted: Callable[[str], bool], *, stop: anyio.Event
) -> AsyncGenerator[set[str], None]:
    """Yield the `wanted` paths in these folders (not below them) for which there was an event, at least one set every
    second, empty when there was none, until `stop` is set.

    Raises:
        OSError: a folder is gone, or the host allows no more watches.

    """
    # Folder by folder: to be told of whole trees, links would be followed wherever they lead.
    changes = awatch(
        *folders,
        watch_filter=lambda _change, path: wanted(path),
        stop_event=stop,
        step=STEP_MS,
        debounce=GATHER_MS,
        rust_timeout=WAKE_MS,
        yield_on_timeout=True,
        recursive=False,
    )
    async with aclosing(changes):
        async for found in changes:
            yield {path for _, path in found}
