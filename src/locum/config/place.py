"""What the words of a configuration mean on this host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from locum.config.zone import host_timezone


@dataclass(frozen=True, slots=True)
class Place:
    """Where relative paths start (`folder`), what `~` is (`home`), and the IANA time zone where none is given."""

    folder: Path
    home: Path
    timezone: str = "UTC"

    def path(self, text: str) -> Path:
        """The absolute path that `text` means; symlinks are left alone."""
        if text == "~" or text.startswith("~/"):
            return self.home / text[2:]
        return self.folder / text


def place_of(config: Path, environ: Mapping[str, str]) -> Place:
    """The place of a configuration file, as this host and environment have it."""
    folder = Path.cwd() / config.parent
    return Place(folder, Path(environ.get("HOME") or "/"), host_timezone(environ))
