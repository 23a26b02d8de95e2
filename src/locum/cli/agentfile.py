"""The settings file of an agent: our hooks put in and taken out, everything else left as it is."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from locum.cli import jsontext
from locum.cli.hookline import is_ours
from locum.errors import ConflictError, StateError
from locum.files import read_regular
from locum.words import size

LARGEST_BYTES = 4 << 20
NOTHING = "{}\n"
"""What a file that is not there yet, or is empty, stands for."""

_HOOKS = "hooks"
_ELSEWHERE = "Mend it, or name another file with --settings; nothing was written."

Entry = dict[str, Any]
"""What stands in the list of one event."""


class AgentFile:
    """One settings file as it was read. Its link, where it is one, is kept: what it leads to is replaced."""

    def __init__(self, path: Path) -> None:
        """Read it; one that is not there is empty. Raises StateError and, for what is no JSON object, ConflictError."""
        self.path = path
        self._real = Path(os.path.realpath(path))
        self._data = self._read()
        self.text = self._decoded() or NOTHING
        self.value = self._parsed()

    def ours(self) -> list[tuple[jsontext.At, Entry, str]]:
        """Each command of ours, after its entry and where it stands: the whole entry, when nothing else is in it."""
        return list(_ours(self.value.get(_HOOKS, {})))

    def with_hooks(self, wanted: Sequence[tuple[str, Entry]]) -> str:
        """The text with these entries (each with its event) and no others of ours; the same text when that is so."""
        found = self.ours()
        if _same([(str(at[1]), entry) for at, entry, _ in found if len(at) == 3], wanted) and len(found) == len(wanted):
            return self.text
        text = self.text
        for event, entry in wanted:
            text = self._added(text, event, entry)
        return _without(text, found)

    def without_hooks(self) -> str:
        """The text without anything of ours; a list that is empty then goes too, for it means the same as none."""
        return _without(self.text, self.ours())

    def write(self, text: str) -> None:
        """Replace the file by a whole new one, of the same mode and owner.

        Raises:
            StateError: it cannot be written.
            ConflictError: somebody has changed it since it was read.

        """
        jsontext.parsed(text)
        try:
            self._replace(text.encode())
        except OSError as error:
            detail = f"{self.path} cannot be written ({_reason(error)})"
            remedy = "Make it and its folder writable, or name another file with --settings; nothing was written."
            raise StateError(detail, remedy=remedy) from error

    def _replace(self, data: bytes) -> None:
        self._real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        old = self._real.stat() if self._data is not None else None
        if old is not None and not os.access(self._real, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        descriptor, name = tempfile.mkstemp(prefix=f".{self._real.name}.", dir=self._real.parent)
        new = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if old is not None:
                    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(descriptor, old.st_uid, old.st_gid)
                    os.fchmod(descriptor, old.st_mode & 0o7777)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            self._still()
            new.rename(self._real)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def _still(self) -> None:
        """Raise ConflictError when the file is no longer what was read: agents write their settings themselves."""
        if self._read() != self._data:
            remedy = "Do it again; nothing was written."
            raise ConflictError(f"{self.path} was changed by somebody else at this moment", remedy=remedy)

    def _read(self) -> bytes | None:
        """The file's bytes, None when there is none."""
        try:
            data = read_regular(self._real, LARGEST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.path} cannot be read ({_reason(error)})", remedy=_ELSEWHERE) from error
        if len(data) > LARGEST_BYTES:
            raise ConflictError(f"{self.path} is longer than {size(LARGEST_BYTES)}", remedy=_ELSEWHERE)
        return data

    def _decoded(self) -> str:
        try:
            return "" if self._data is None or not self._data.strip() else self._data.decode()
        except UnicodeDecodeError as error:
            raise ConflictError(f"{self.path} is not UTF-8 text, as JSON is", remedy=_ELSEWHERE) from error

    def _parsed(self) -> dict[str, Any]:
        try:
            value = jsontext.parsed(self.text)
        except (ValueError, RecursionError) as error:
            raise ConflictError(f"{self.path}{_told(self.text)}", remedy=_ELSEWHERE) from error
        if not isinstance(value, dict):
            raise ConflictError(
                f"{self.path} is not a JSON object ({{…}}), so hooks have no place in it", remedy=_ELSEWHERE
            )
        if not isinstance(value.get(_HOOKS, {}), dict):
            detail = f"`{_HOOKS}` in {self.path} is not an object ({{…}}) of lists, as the agent wants it"
            raise ConflictError(detail, remedy=_ELSEWHERE)
        return value

    def _added(self, text: str, event: str, entry: Entry) -> str:
        hooks = jsontext.parsed(text).get(_HOOKS)
        if hooks is None:
            return jsontext.appended(text, (), {event: [entry]}, _HOOKS)
        if event not in hooks:
            return jsontext.appended(text, (_HOOKS,), [entry], event)
        if not isinstance(hooks[event], list):
            detail = f"`{_HOOKS}.{event}` in {self.path} is not a list ([…]), as the agent wants it"
            raise ConflictError(detail, remedy=_ELSEWHERE)
        return jsontext.appended(text, (_HOOKS, event), entry)


def _ours(hooks: dict[str, Any]) -> Iterator[tuple[jsontext.At, Entry, str]]:
    """Every command of ours, whatever stands around it."""
    for event, entries in hooks.items():
        for place, entry in enumerate(entries if isinstance(entries, list) else ()):
            inner = entry.get(_HOOKS) if isinstance(entry, dict) else None
            for number, each in enumerate(inner if isinstance(inner, list) else ()):
                if isinstance(each, dict) and is_ours(each.get("command")):
                    at: jsontext.At = (_HOOKS, event, place)
                    yield at if len(inner or ()) == 1 else (*at, _HOOKS, number), entry, each["command"]


def _same(found: Sequence[tuple[str, Entry]], wanted: Sequence[tuple[str, Entry]]) -> bool:
    return len(found) == len(wanted) and all(each in found for each in wanted)


def _without(text: str, found: Sequence[tuple[jsontext.At, Entry, str]]) -> str:
    # From the end on: what is removed moves nothing that is still to be removed.
    for at, _, _ in reversed(found):
        text = jsontext.removed(text, at)
    return text


def _told(text: str) -> str:
    """Why a text is not JSON, after the name of its file: `:3:5: a comma is missing: …`."""
    from locum.config.syntax import first_problem

    wrong = first_problem(text)
    if wrong is None:
        return " has a comment, or a comma at the end of a list: that is no plain JSON, and nothing else is edited here"
    line, column = text.count("\n", 0, wrong.offset) + 1, wrong.offset - text.rfind("\n", 0, wrong.offset)
    return f":{line}:{column}: {wrong.what}: {wrong.why}"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
