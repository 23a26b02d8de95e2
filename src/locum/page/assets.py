"""What the page is made of besides itself: styles, scripts and the chart, served from memory."""

from __future__ import annotations

import gzip
import hashlib
from functools import cached_property
from importlib.resources import files
from typing import NamedTuple

TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
"""Media types, by what a file's name ends with."""
FOREVER = "private, max-age=31536000, immutable"
"""How long a browser may keep a file: its address changes with what is in any of them."""


class Asset(NamedTuple):
    """One file, as it is and compressed."""

    media: str
    body: bytes
    packed: bytes


class Assets:
    """The files of the folder `static`, read once."""

    @cached_property
    def files(self) -> dict[str, Asset]:
        """Each by its name."""
        found = {}
        for each in files("locum.page").joinpath("static").iterdir():
            media = TYPES.get(each.name.rpartition(".")[2])
            if media is not None:
                body = each.read_bytes()
                found[each.name] = Asset(media, body, gzip.compress(body, 9, mtime=0))
        return found

    @cached_property
    def version(self) -> str:
        """Another one whenever any of the files is another."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(name.encode() + b"\0" + hashlib.sha256(self.files[name].body).digest())
        return digest.hexdigest()[:12]

    def address(self, name: str) -> str:
        """Where a file is served. It must be there."""
        assert name in self.files, f"{name} is not there"
        return f"/page/{self.version}/{name}"


ASSETS = Assets()
"""Those of the page."""
