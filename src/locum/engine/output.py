"""What the agent of an attempt wrote, read piece by piece where it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from locum.engine.redact import Redactor
from locum.engine.supervisor import Supervisor
from locum.errors import NotFoundError
from locum.files import open_regular
from locum.policy.task import Run, RunState, Task

PIECE = 64 << 10
"""Bytes of a piece."""


async def output(service: Supervisor, task: Task, number: int | None, stream: str, after: int) -> dict[str, Any]:
    """What follows byte `after` of a stream (`out` or `err`) of attempt `number` (None: the last).

    While the agent works, a line is told when it is whole.

    Raises:
        NotFoundError: there is no such attempt, or its files were removed after their time.

    """
    run = _run(await service.ledger.runs(task.id), task, number)
    spool = service.spool(run.id)
    ended = run.state is not RunState.RUNNING
    path = spool.out if stream == "out" else spool.err
    text, size, more = _piece(path, after, service.redactor(), ended=ended)
    told = {"task": task.id, "run": run.id, "stream": stream, "text": text, "after": after + size}
    return {**told, "more": more, "ended": ended and not more}


def _run(runs: list[Run], task: Task, number: int | None) -> Run:
    found = next((each for each in reversed(runs) if number in (None, each.number)), None)
    if found is None:
        what = f"attempt {number}" if number is not None else "attempt yet"
        raise NotFoundError(f"task {task.id} has no {what}", remedy="See `GET /tasks/ID` for its attempts.")
    return found


def _piece(path: Path, after: int, hide: Redactor, *, ended: bool) -> tuple[str, int, bool]:
    """Text, the bytes it was, and whether there is more to ask for at once."""
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - by descriptor
            length = os.fstat(file.fileno()).st_size
            file.seek(min(after, length))
            data = file.read(PIECE + hide.longest)
    except OSError as error:
        if not ended:
            return "", 0, False
        raise NotFoundError(
            "what that attempt wrote has been removed after its time", remedy="See `limits.retention`."
        ) from error
    whole = ended or len(data) > PIECE
    if not whole:
        data = data[: data.rfind(b"\n") + 1]
    text, size = hide.piece(data, PIECE)
    return text, size, after + size < length and (whole or b"\n" in data[size:])
