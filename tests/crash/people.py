"""What people spend beside the daemon: sessions that it watches, and others that are history until it imports them."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.crash.books import TYPES

TIER = "people-a"
"""The tier that people's sessions are of."""
NAMES = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
"""The counts of a message as Claude Code names them, in the order of `TYPES`."""
OPEN = 3
"""Sessions at a time."""
HISTORY = (3, 20)
"""How many transcripts are added to the history at once, and how many messages each has."""


class People:
    """Sessions of Claude Code in a `home` that is a tier's, and in an `attic` that is nobody's.

    What they spend is added to `spent` and `history` before it is written down. Rows are told again by forks, move with
    their files, and stand beside files that tell nothing.
    """

    def __init__(self, stage: Path, chance: random.Random) -> None:
        self.home, self.attic = stage / "claude", stage / "attic"
        for each in (self.home, self.attic):
            (each / "projects" / "-work").mkdir(parents=True)
        self.chance = chance
        self.spent: Counter[str] = Counter()
        self.history: Counter[str] = Counter()
        self.messages = 0
        self.files = 0
        self._open: list[Path] = []
        self._quiet: list[Path] = []

    def work(self) -> None:
        """One round: a turn of each session, and what people do with the files."""
        while len(self._open) < OPEN:
            self._open.append(self._new(self.home))
        for path in self._open:
            _append(path, [self._row(path.stem, self.spent, timedelta())])
        path = self.chance.choice(self._open)
        if self.chance.random() < 0.2:  # forked: its rows are told again
            shutil.copy(path, self._new(self.home))
        if self.chance.random() < 0.2:
            self._open.remove(path)
            path.rename(self._new(self.home))
        self._quiet.append(self._new(self.home))
        _append(self._quiet[-1], ['{"type":"user"}\n'])
        if len(self._quiet) > 2:
            self._quiet.pop(0).unlink()

    def remember(self) -> None:
        """Leave some transcripts of yesterday, of which the first tells a good deal of another one's rows again."""
        files, rows = HISTORY
        told: list[str] = []
        for _ in range(files):
            path = self._new(self.attic)
            own = [self._row(path.stem, self.history, timedelta(days=1)) for _ in range(rows)]
            _append(path, own + told)
            told = own[: rows // 2]

    def _new(self, home: Path) -> Path:
        self.files += 1
        return home / "projects" / "-work" / f"people-{self.files}.jsonl"

    def _row(self, session: str, account: Counter[str], ago: timedelta) -> str:
        counts = [self.chance.randrange(1, 900) for _ in TYPES]
        account.update(dict(zip(TYPES, counts, strict=True)))
        self.messages += 1
        usage = dict(zip(NAMES, counts, strict=True))
        message = {"id": f"msg_{self.messages}", "role": "assistant", "model": "opus", "usage": usage}
        at = (datetime.now(UTC) - ago).isoformat()
        return json.dumps({"type": "assistant", "sessionId": session, "timestamp": at, "message": message}) + "\n"


def _append(path: Path, rows: Iterable[str]) -> None:
    with path.open("a") as file:
        file.write("".join(rows))
