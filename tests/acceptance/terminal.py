"""A program at a terminal: typed to, and read as its user reads it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

LINES, COLUMNS = 50, 220
MOVED = re.compile(r"\x1b\[\d*C")
DRAWN = re.compile(r"\x1b\[[0-9;?<>=]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[()][A-Z0-9]|\x1b[=>78]")
BETWEEN_KEYS_S = 0.3


class Terminal:
    """A pseudo terminal with one program in it, which is ended with the context."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv],
            env={**env, "TERM": "xterm-256color"},
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self._shown = b""
        # Read all the time: a program whose screen nobody reads stands still.
        self._reader = threading.Thread(target=self._read, name="terminal")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End whoever sits there."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        os.close(self._master)

    @property
    def shown(self) -> str:
        """All that was written so far, without the drawing and without spaces, which the drawing swallows."""
        text = self._shown.decode("utf-8", "replace")
        return re.sub(r"\s+", "", DRAWN.sub("", MOVED.sub(" ", text)))

    def wait_for(self, text: str, timeout: float = 20) -> None:
        """Read until `text` is shown."""
        wanted = re.sub(r"\s+", "", text)
        end = time.monotonic() + timeout
        while wanted not in self.shown:
            assert time.monotonic() < end, f"{text!r} was never shown:\n{self.shown[-3000:]}"
            time.sleep(0.05)

    def type(self, text: str) -> None:
        """Type a line; what was shown before is forgotten. Enter comes apart: together they would be a paste."""
        self._shown = b""
        os.write(self._master, text.encode())
        time.sleep(BETWEEN_KEYS_S)
        os.write(self._master, b"\r")

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # which is how a terminal says that nobody sits there any more
            while more := os.read(self._master, 65536):
                self._shown += more
