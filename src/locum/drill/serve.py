"""The real daemon, on a clock that whoever rehearses can put forward: `serve.py CONFIG STATE SOCKET CLOCK`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from locum import daemon
from locum.clock import LeapClock


def main(argv: Sequence[str]) -> None:
    """Serve until told to stop; see `daemon.main` for what it raises."""
    config, state, socket, clock = map(Path, argv)
    daemon.main(daemon.Places(config, state, socket), os.environ, LeapClock(clock))


if __name__ == "__main__":
    main(sys.argv[1:])
