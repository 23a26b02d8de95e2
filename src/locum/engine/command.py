"""Commands of the operator's own: what they are given, how long they are waited for, what they said last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio

from locum.config.load import Loaded
from locum.engine.process import Child, clean_environment
from locum.places import socket_paths

LINE_TOLD = 300


def argv_of(command: Sequence[str], loaded: Loaded) -> tuple[str, ...]:
    """Program and arguments: a path starts at the folder of service.json, a bare name is looked up on PATH."""
    program, *args = command
    return (str(loaded.place.path(program)) if "/" in program else program, *args)


def environment(environ: Mapping[str, str], state: Path, loaded: Loaded) -> dict[str, str]:
    """The daemon's environment, cleaned, and with what `locum` needs to find this daemon and no other."""
    return {
        **clean_environment(environ),
        "LOCUM_STATE": str(state.absolute()),
        "LOCUM_SOCKET": str(socket_paths(environ)[0].absolute()),
        "LOCUM_CONFIG": str(loaded.path.absolute()),
    }


async def followed(child: Child, seconds: float, stopping: anyio.Event) -> int | None:
    """The exit code of a command; None when it takes longer than that, or the service stops."""
    code: int | None = None
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            nonlocal code
            code = await child.wait()
            group.cancel_scope.cancel()

        group.start_soon(wait)
        with anyio.move_on_after(seconds):
            await stopping.wait()
        group.cancel_scope.cancel()
    return code


def last_line(output: str) -> str:
    """The last line that says something, as what a sentence goes on with."""
    last = output.rstrip().rpartition("\n")[2].strip()
    return f": {last[:LINE_TOLD]}" if last else ""
