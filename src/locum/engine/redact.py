"""Takes the secrets of service.json out of whatever agents say, before it is read, kept, told or handed on."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from locum.agents.base import Line, Signal
from locum.config.secrets import resolve
from locum.engine.seats import Seats
from locum.errors import ConfigError
from locum.files import open_regular
from locum.policy.usage import Usage

Told = TypeVar("Told", Usage, Signal)
MASK = "•••"
SHORTEST = 8
"""Characters a value must have to be taken for a secret: a shorter one would blank out ordinary words."""
_MASKED = re.compile(rf"[*•]*(?:{MASK}|\*{{{SHORTEST},}})[*•]*")
"""What is masked in an id, in whichever of the two ways: in a line as it is read, or in its file before."""
_COLOUR = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_SECRET_NAME = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASS|PASSWD|PASSWORD|PASSPHRASE|CREDENTIALS?)$")


@dataclass(frozen=True)
class Redactor:
    """Replaces every one of `secrets`, and each long line of one that has several, by `MASK`.

    What is shortened must be redacted first: half a secret is not found any more, and is still half a secret.
    """

    secrets: frozenset[str] = frozenset()
    longest: int = field(init=False, default=0)
    """Bytes of the longest secret: how much more must be read before a text may be cut."""
    _pattern: re.Pattern[bytes] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Compile once, longest first, so that a secret which contains another goes whole."""
        parts = {part for secret in self.secrets for part in (secret, *secret.splitlines())}
        parts = {part for part in parts if len(part) >= SHORTEST}
        known = {form.encode("utf-8", "surrogatepass") for part in parts for form in _forms(part)}
        if known:
            ordered = sorted(known, key=len, reverse=True)
            object.__setattr__(self, "longest", len(ordered[0]))
            object.__setattr__(self, "_pattern", re.compile(b"|".join(map(re.escape, ordered))))

    def __call__(self, text: str) -> str:
        """`text` without secrets, nor the colours that could divide one."""
        if self._pattern is None:
            return text
        plain = _COLOUR.sub("", text)
        return self._bytes(plain.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def told(self, each: Told) -> Told:
        """What a line told, without secrets: a line may spell them in ways that only its reader can undo."""
        if self._pattern is None:
            return each
        texts = ((name, getattr(each, name)) for name in each.__struct_fields__)
        hidden: dict[str, Any] = {name: self(text) for name, text in texts if type(text) is str}
        if isinstance(each, Usage):  # it is counted by its id, which must be the same when it is read again
            hidden["key"] = _MASKED.sub(MASK, hidden["key"])
        return structs.replace(each, **hidden)

    def line(self, line: Line) -> Line:
        """`line` without secrets, wherever in it they stand: in a message, in a name or in an id."""
        return line if self._pattern is None else structs.replace(line, data=self._bytes(line.data))

    def touches(self, data: bytes) -> bool:
        """Whether there may be anything to mask in what JSON says here."""
        if self._pattern is None:
            return False
        return bool(self._pattern.search(data)) or MASK.encode() in data or b"*" * SHORTEST in data

    def end(self, data: bytes, most: int) -> str:
        """The last `most` bytes of `data` as text, cut where no secret is: give it `longest` bytes more to see that."""
        cut = max(0, len(data) - most)
        for found in self._pattern.finditer(data) if self._pattern else ():
            if found.start() < cut < found.end():
                cut = found.end()
        kept = data[cut:]
        return (self._bytes(kept) if self._pattern else kept).decode("utf-8", "replace")

    def piece(self, data: bytes, most: int) -> tuple[str, int]:
        """The first bytes of `data`, at most about `most`, as text, and how many they are.

        They end with a line, or where one is too long for that outside of any secret: give it `longest` bytes more.
        """
        cut = min(len(data), most)
        cut = data.rfind(b"\n", 0, cut) + 1 or cut
        for found in self._pattern.finditer(data) if self._pattern else ():
            if found.start() < cut < found.end():
                cut = found.start() or found.end()
        kept = data[:cut]
        return (self._bytes(kept) if self._pattern else kept).decode("utf-8", "replace"), cut

    def mask_file(self, path: Path) -> None:
        """Overwrite the secrets in a file that nobody writes any more, byte by byte, so that nothing in it moves."""
        if self._pattern is None:
            return
        with suppress(OSError, ValueError):  # it is gone, or empty
            descriptor = open_regular(path, os.O_RDWR)
            try:
                if os.fstat(descriptor).st_nlink > 1:
                    return  # it is somebody else's file as well
                with mmap.mmap(descriptor, 0) as content:
                    for start, end in [found.span() for found in self._pattern.finditer(content)]:
                        content[start:end] = b"*" * (end - start)
            finally:
                os.close(descriptor)

    def _bytes(self, data: bytes) -> bytes:
        assert self._pattern is not None
        return self._pattern.sub(MASK.encode(), data)


def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it is, and as JSON writes it."""
    return (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])


def redactor(seats: Seats) -> Redactor:
    """A redactor of every secret that the configuration names, wherever: one agent may know another's."""
    return Redactor(frozenset(_secrets(seats)))


def _secrets(seats: Seats) -> Iterator[str]:
    for entry in seats.loaded.service.tier_entries.values():
        for name, value in entry.env.items():
            if isinstance(value, str):
                yield from _plain(name, value)
                continue
            try:
                yield resolve(value, seats.environ, seats.loaded.place.folder)
            except ConfigError:
                continue  # what cannot be read cannot have been given to an agent
    yield from _of_channels(seats)


def _of_channels(seats: Seats) -> Iterator[str]:
    """What channels are reached and signed with: an answer from there may repeat it."""
    for channel in seats.loaded.service.notify:
        for value in channel.references:
            with suppress(ConfigError):
                yield resolve(value, seats.environ, seats.loaded.place.folder)
        for name, value in getattr(channel, "headers", {}).items():
            if isinstance(value, str):
                yield from _plain(name.upper().replace("-", "_"), value)


def _plain(name: str, value: str) -> Iterable[str]:
    return (value,) if _SECRET_NAME.search(name) else ()
