"""Where the daemon keeps its state and its socket, from the environment alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SOCKET_NAME = "locum.sock"
SYSTEM_SOCKET = Path("/run/locum") / SOCKET_NAME
"""Where a system service's socket lies: found by root without being told."""


def state_dir(environ: Mapping[str, str]) -> Path:
    """The state folder: $LOCUM_STATE, $STATE_DIRECTORY, $XDG_STATE_HOME/locum, else ~/.local/state/locum."""
    for name, below in (("LOCUM_STATE", ""), ("STATE_DIRECTORY", ""), ("XDG_STATE_HOME", "locum")):
        if given := _first(environ.get(name, "")):
            return Path(given) / below
    return Path(environ.get("HOME") or "/") / ".local" / "state" / "locum"


def socket_paths(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the socket may lie, best first: the daemon binds the first, a client tries each.

    $LOCUM_SOCKET alone when it is set; else $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/locum, the state folder. A state
    folder that was named ($LOCUM_STATE) keeps its socket to itself, so that daemons of two states never meet.
    """
    if given := environ.get("LOCUM_SOCKET"):
        return (Path(given),)
    found = []
    if runtime := _first(environ.get("RUNTIME_DIRECTORY", "")):
        found.append(Path(runtime) / SOCKET_NAME)
    named = bool(environ.get("LOCUM_STATE"))
    if not named and (runtime := environ.get("XDG_RUNTIME_DIR", "")):
        found.append(Path(runtime) / "locum" / SOCKET_NAME)
    found.append(state_dir(environ) / SOCKET_NAME)
    return tuple(found) if named else (*found, SYSTEM_SOCKET)


def _first(folders: str) -> str:
    """The first of several folders: systemd puts colons between them."""
    return folders.split(":", 1)[0]
