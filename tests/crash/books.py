"""What is on disk: the ledger, read from a copy so that nothing of it changes, and the agents' own accounts."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import apsw

TYPES = ("input", "output", "cache_read", "cache_write")


class Ledger:
    """A copy of a state folder's database as it lies there, its write-ahead log included.

    Opening the file itself would recover it, and with that take away what the next daemon has to do.
    """

    def __init__(self, state: Path) -> None:
        self._folder = tempfile.TemporaryDirectory()
        copy = Path(self._folder.name)
        for file in state.glob("locum.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy / file.name)
        self._connection = apsw.Connection(str(copy / "locum.db"))

    def __enter__(self) -> Self:
        """Use it once."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the copy."""
        self._connection.close()
        self._folder.cleanup()

    def all(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement; none where the tables are not there yet."""
        if not self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'run'").fetchall():
            return []
        return self._connection.execute(statement).fetchall()

    def column(self, statement: str) -> list[Any]:
        """The first column of a statement."""
        return [row[0] for row in self.all(statement)]


class Account:
    """What the agents of one field have written down: read on from where it was read to."""

    def __init__(self, stage: Path) -> None:
        self.stage = stage
        self._read: dict[Path, int] = {}
        self.spent: dict[str, Counter[str]] = {}
        """Tokens issued, by run and type."""
        self.entries: Counter[str] = Counter()
        """How many usage events were issued, by task."""
        self.tiers: dict[str, str] = {}
        """The tier that each run was on, as its agent knows."""

    def read(self) -> Account:
        """Take in what is new; itself."""
        for path in self.stage.glob("*.account"):
            for entry in self._new(path):
                self.entries[entry["task"]] += 1
                self.tiers[entry["run"]] = path.stem
                self.spent.setdefault(entry["run"], Counter()).update({kind: entry[kind] for kind in TYPES})
        return self

    def _new(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        return (json.loads(line) for line in whole.splitlines())


def prompts(stage: Path) -> Iterator[tuple[str, str, str, str]]:
    """What every agent was asked, in the order in which they began on each tier: tier, run, task, prompt."""
    for path in sorted(stage.glob("*.prompts")):
        for line in path.read_text().splitlines():
            told = json.loads(line)
            yield path.stem, told["run"], told["task"], told["prompt"]
