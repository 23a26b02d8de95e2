"""The last that an agent has said, read from the end of what it writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from locum.agents.base import Line, Source
from locum.engine.follow import Service, Speech
from locum.files import open_regular
from locum.policy.task import Run

BACK = 64 << 10
"""Bytes that are read at once, and how far back one goes for the first look."""


class Lately(NamedTuple):
    """Some lines for people, and the byte of the file behind which to go on."""

    lines: Sequence[str]
    after: int


def lately(service: Service, run: Run, after: int | None, most: int) -> Lately:
    """The last `most` lines of what the agent of a run has said behind byte `after` (None: of all it has said).

    Lines are told when they are whole. What was written long before is left out, not read.
    """
    data, begins = _written(service.spool(run.id).out, after)
    whole = data.rfind(b"\n") + 1
    at, lines = begins, list[str]()
    speech = Speech(service.agents[run.tier.agent], service.redactor())
    for line in data[:whole].splitlines(keepends=True):
        lines += speech.texts(Line(Source.OUT, line.rstrip(b"\r\n"), at, run.id))
        at += len(line)
    lines += speech.rest()
    return Lately(lines[-most:], at)


def _written(path: Path, after: int | None) -> tuple[bytes, int]:
    """What is at the end of a file, from the beginning of a line on, and where that is."""
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - by descriptor
            length = os.fstat(file.fileno()).st_size
            far = max(0, length - BACK)
            begins = min(length, far if after is None or after < far else after)
            file.seek(begins)
            data = file.read(BACK)
    except OSError:
        return b"", after or 0
    if begins and begins != after:  # in the middle of a line, perhaps of a secret: that line is left out
        cut = data.find(b"\n") + 1
        return (data[cut:], begins + cut) if cut else (b"", begins)
    return data, begins
