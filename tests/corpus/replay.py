"""Replays a recorded run through its adapter, the way the runner reads one."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import locum.agents
from locum.agents.base import Agent, End, Line, Mark, Seat, Signal, Source, Verdict
from locum.agents.registry import AGENTS
from locum.policy.usage import Tokens, Usage

CORPUS = Path(locum.agents.__file__).parent / "corpus"
CWD = Path("/srv/project")
TAIL = 16 * 1024


@dataclass
class Replay:
    """What came of reading a run: every item in order, and the usage merged by key."""

    items: list[Usage | Signal] = field(default_factory=list)
    by_key: dict[str, Tokens] = field(default_factory=dict)
    session: str = ""
    message: str = ""
    model: str | None = None

    @property
    def signals(self) -> list[Signal]:
        """The signals alone."""
        return [item for item in self.items if isinstance(item, Signal)]

    @property
    def spent(self) -> Tokens:
        """The agent's own total when it gave one, else the sum over all keys."""
        totals = [signal.tokens for signal in self.signals if signal.mark is Mark.TOTAL]
        return totals[-1] or Tokens() if totals else sum(self.by_key.values(), Tokens())

    def feed(self, agent: Agent, line: Line) -> None:
        """Read one line and remember what it told."""
        for item in agent.read(replace(line, message=self.message, model=self.model)):
            self.items.append(item)
            if isinstance(item, Usage):
                self.by_key[item.key] = self.by_key.get(item.key, Tokens()).largest(item.tokens)
            elif item.mark is Mark.SESSION:
                self.session = item.text
            elif item.mark is Mark.MESSAGE:
                self.message, self.model = item.text, item.model


@dataclass(frozen=True)
class Case:
    """One recorded run."""

    folder: Path
    meta: dict[str, Any]
    expected: dict[str, Any]

    @property
    def agent(self) -> Agent:
        """The adapter it is replayed through."""
        return AGENTS[self.meta["agent"]]

    @property
    def name(self) -> str:
        """For people who read test results."""
        return f"{self.meta['agent']}/{self.meta['case']}"

    def text(self, name: str) -> bytes:
        """The whole of one recorded file; empty when the run wrote none."""
        path = self.folder / name
        return path.read_bytes() if path.exists() else b""

    def lines(self, source: Source, name: str, session: str = "") -> Iterator[Line]:
        """The lines of one recorded file."""
        offset = 0
        for data in self.text(name).splitlines(keepends=True):
            yield Line(source, data.rstrip(b"\n"), offset, run="run-1", session=session)
            offset += len(data)

    def end(self) -> End:
        """How the recorded run ended."""
        out, err = (self.text(name)[-TAIL:].decode(errors="replace") for name in ("stdout", "stderr"))
        return End(self.meta["exit"], round(datetime(2026, 11, 22, 7, tzinfo=UTC).timestamp() * 1000), out, err)

    def transcript_is_found(self, session: str, home: Path) -> bool:
        """Whether `sources` leads to the recorded transcript, laid where the agent had laid it."""
        own = self.meta["transcript_session"]
        if not own:
            return False
        is_claude = self.meta["agent"] == "claude-code"
        place = f"projects/-srv-project/{own}.jsonl" if is_claude else f"sessions/2026/11/22/rollout-x-{own}.jsonl"
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).touch()
        chosen = session or (own if is_claude else "")  # Claude Code's session id is chosen by who starts it
        patterns = self.agent.sources(Seat("t", home=home), CWD, chosen, {"HOME": "/nowhere"})
        found = (glob.glob(pattern, recursive=True) for pattern in patterns)  # noqa: PTH207 - absolute patterns
        return str(home / place) in {path for paths in found for path in paths}

    def replay(self, home: Path) -> Replay:
        """Read all it wrote: both streams, then the transcript if it can be found."""
        read = Replay()
        for source, name in ((Source.OUT, "stdout"), (Source.ERR, "stderr")):
            for line in self.lines(source, name):
                read.feed(self.agent, Line(line.source, line.data, line.offset, line.run, session=read.session))
        if self.transcript_is_found(read.session, home):
            for line in self.lines(Source.TRANSCRIPT, "transcript.jsonl", read.session):
                read.feed(self.agent, line)
        return read

    def verdict(self, read: Replay) -> Verdict:
        """What the adapter says the run's end meant."""
        return self.agent.verdict(self.end(), read.signals)


def cases() -> list[Case]:
    """Every recorded run."""
    folders = sorted(path.parent for path in CORPUS.glob("*/*/expected.json"))
    return [
        Case(folder, json.loads((folder / "meta.json").read_text()), json.loads((folder / "expected.json").read_text()))
        for folder in folders
    ]
