"""Replays the hooks of a recorded session, and the transcript beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from locum.agents.base import Line, Signal, Source
from locum.agents.hooks import Hooks, Told
from locum.agents.registry import AGENTS, hooks
from locum.policy.failure import Failure
from locum.policy.usage import Tokens, Usage
from tests.corpus.replay import CORPUS

HOOKED = Path(__file__).parent / "hooks"
HOOKS = hooks(AGENTS)
NAMES = {"claude": "claude-code"}
TOLD_MS = round(datetime(2026, 11, 22, 7, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True)
class Session:
    """One recorded session. Its transcript may lie with the recorded run that it was."""

    folder: Path
    expected: dict[str, Any]

    @property
    def hooks(self) -> Hooks:
        """The adapter it is replayed through."""
        return HOOKS[NAMES.get(self.folder.parent.name, self.folder.parent.name)]

    @property
    def name(self) -> str:
        """For people who read test results."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was written to each hook's standard input, in order."""
        return [json.loads(line) for line in (self.folder / "hooks.jsonl").read_text().splitlines()]

    @property
    def told(self) -> list[Told]:
        """What each hook told."""
        return [self.hooks.told(body) for body in self.bodies]

    def lines(self) -> list[Line]:
        """The lines of its transcript, then those of its subagent's."""
        own = self.folder / "transcript.jsonl"
        beside = CORPUS / self.hooks.agent / self.folder.name / "transcript.jsonl"
        files = (own if own.exists() else beside, self.folder / "subagent.jsonl")
        return [
            Line(Source.TRANSCRIPT, data, session=self.expected["session"])
            for file in files
            if file.exists()
            for data in file.read_bytes().splitlines()
        ]

    def read(self) -> list[Usage | Signal]:
        """All that its transcripts tell."""
        return [item for line in self.lines() for item in self.hooks.read(line)]

    def spent(self) -> Tokens:
        """What they say was spent, each message once."""
        by_key: dict[str, Tokens] = {}
        for item in self.read():
            if isinstance(item, Usage):
                by_key[item.key] = by_key.get(item.key, Tokens()).largest(item.tokens)
        return sum(by_key.values(), Tokens())

    def failure(self) -> Failure | None:
        """What hooks and transcript together say went wrong."""
        heard = [told.signal for told in self.told if told.signal is not None]
        signals = heard + [item for item in self.read() if isinstance(item, Signal)]
        return self.hooks.verdict(signals, TOLD_MS, "UTC")


def sessions(agent: str = "*") -> list[Session]:
    """Every recorded session with hooks, of one agent or of all."""
    folders = sorted(path.parent for path in HOOKED.glob(f"{agent}/*/expected.json"))
    return [Session(folder, json.loads((folder / "expected.json").read_text())) for folder in folders]
