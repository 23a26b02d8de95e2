"""The program in the place of every agent, which does as it is told: `standin.py SOCKET TIER`, and its arguments."""

# It imports nothing of locum's, so that it starts at once.

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(argv: Sequence[str]) -> int:
    """Tell who has been started, do each step that is asked for, say that it is done; the exit code asked for."""
    where, tier, *given = argv
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(where)
        told = {"tier": tier, "argv": given, "cwd": str(Path.cwd()), "env": dict(os.environ)}
        link.sendall(json.dumps(told).encode() + b"\n")
        for line in link.makefile("rb"):
            step: dict[str, Any] = json.loads(line)
            if "exit" in step:
                return int(step["exit"])
            _write(step["to"], step["text"].encode("utf-8", "surrogateescape"))
            link.sendall(b"\n")
    return 1  # whoever directs has gone, and an agent without a director has nothing to say


def _write(to: str, data: bytes) -> None:
    """Add to standard output, standard error, or a file."""
    if to in ("out", "err"):
        stream = sys.stdout if to == "out" else sys.stderr
        stream.buffer.write(data)
        stream.buffer.flush()
        return
    path = Path(to)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
