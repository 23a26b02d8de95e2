"""The machine a figure was measured on, and what else it was doing meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import apsw

from locum import __version__

TICKS = os.sysconf("SC_CLK_TCK")


def described(folder: Path) -> list[tuple[str, str]]:
    """Machine and versions, line by line; `folder` lies on the disk that is measured."""
    return [
        *([("priority", f"nice {nice}: other work on the machine gave way")] if (nice := os.nice(0)) < 0 else []),
        ("processor", f"{_first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} CPUs"),
        ("memory", f"{int(_first('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.0f} GB"),
        ("disk", filesystem(folder)),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("Python", platform.python_version()),
        ("SQLite", f"{apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()}), synchronous=FULL, write-ahead log"),
        ("locum", f"{__version__}, commit {_commit()}"),
    ]


def filesystem(folder: Path) -> str:
    """The kind of file system that `folder` lies on, and its device."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = {str(each) for each in (folder.resolve(), *folder.resolve().parents)}
    device, _, kind = max((each[:3] for each in mounts if each[1] in above), key=lambda mount: len(mount[1]))
    return f"{kind} on {device}"


@dataclass
class Noise:
    """What others took of the machine while something was measured: `with Noise() as noise`, then `str(noise)`."""

    others: float = 0.0
    stolen: float = 0.0
    load: float = 0.0
    _began: tuple[float, float, float, float] = field(default=(0.0, 0.0, 0.0, 0.0))

    def __enter__(self) -> Self:
        self._began = _taken()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, busy, stolen, own = (now - then for now, then in zip(_taken(), self._began, strict=True))
        self.others = max(0.0, busy - own) / seconds
        self.stolen = stolen / seconds
        self.load = os.getloadavg()[0]

    def __str__(self) -> str:
        """One line."""
        host = f", {self.stolen:.2f} stolen by the host" if self.stolen >= 0.005 else ""
        return f"others used {self.others:.2f} of {os.cpu_count()} CPUs{host}; load average {self.load:.1f} at the end"


def _taken() -> tuple[float, float, float, float]:
    """Seconds so far: of time, of all CPUs at work, stolen from this machine, and at work for us and our children."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _waiting, irq, softirq, steal = ticks
    own = sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
    return time.monotonic(), (user + nice + system + irq + softirq) / TICKS, steal / TICKS, own


def _first(path: str, key: str) -> str:
    """The value of the first line that begins with `key`."""
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (
        " and uncommitted changes" if _changed(git("status", "--porcelain")) else ""
    )


def _changed(status: str) -> bool:
    """Whether anything but the page itself differs from the commit."""
    return any(not line.endswith("docs/benchmarks.md") for line in status.splitlines())
