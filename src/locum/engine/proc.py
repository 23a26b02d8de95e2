"""What the kernel tells of processes: whose mark they carry, who started them and when."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RUN_VARIABLE = "LOCUM_RUN"
"""Marks every process that descends from a run, so that what leaves the process group is still found."""

POST_TASK_VARIABLE = "LOCUM_POST_TASK"
"""Marks what descends from the operator's command after a task. It is no run: it may steer the daemon."""

_STATE, _PARENT, _STARTED = 0, 1, 19
"""Where these stand in /proc/PID/stat, after the command name."""


def marked(value: str, variable: str = RUN_VARIABLE) -> list[int]:
    """The live processes that carry this mark in the environment they were started with."""
    mark = f"{variable}={value}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - every process of the host, at each run's end
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb", buffering=0) as file:  # noqa: PTH123
            environ = file.read()
            if mark in environ and mark in environ.split(b"\0") and not _is_over(int(name)):
                found.append(int(name))
    return found


def parent_of(pid: int) -> int:
    """The parent of a process, 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[_PARENT]) if fields else 0


def started_at(pid: int) -> int | None:
    """When a process was started, in ticks since the host was; None when it is gone."""
    fields = _stat(pid)
    return int(fields[_STARTED]) if fields else None


def _is_over(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[_STATE] in ("Z", "X")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command name (which may hold spaces and brackets)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
