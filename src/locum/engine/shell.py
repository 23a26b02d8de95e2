"""A short line of sh, run with an input and a bound."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass


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
