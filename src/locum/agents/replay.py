"""A recorded run, read and judged as the runner reads and judges one."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import structs

from locum.agents import judge
from locum.agents.base import Agent, End, Line, Mark, Seat, Signal, Source, Verdict
from locum.agents.bill import Bill
from locum.agents.registry import AGENTS
from locum.policy.usage import NO_TOKENS, Tokens, Usage, believable

CORPUS = Path(__file__).parent / "corpus"
"""The recorded runs that come with locum: a folder for each agent, in it one for each run."""
TAIL = 16 << 10
SIGNALS_KEPT = 1_000
HOME = Path("/home/dev/.agent")
CWD = Path("/srv/project")
RECORDED_MS = round(datetime(2026, 11, 22, 7, tzinfo=UTC).timestamp() * 1000)
"""When the runs of the corpus ended, unless they say so themselves."""
STREAMS = ((Source.OUT, "stdout"), (Source.ERR, "stderr"))
TRANSCRIPT = "transcript.jsonl"


@dataclass
class Reading:
    """What was read of a run by `agent`: usage merged by key, and the signals its end is judged by."""

    agent: Agent
    session: str = ""
    by_key: dict[str, Tokens] = field(default_factory=dict)
    _bill: Bill = field(default_factory=Bill)
    _signals: deque[Signal] = field(default_factory=lambda: deque(maxlen=SIGNALS_KEPT))
    _limits: dict[tuple[str | None, str | None], Signal] = field(default_factory=dict)
    _tool: Signal | None = None
    _pieces: judge.Pieces = field(default_factory=judge.Pieces)
    _message: str = ""
    _model: str | None = None

    def take(self, line: Line) -> None:
        """Read one line and remember what it told; whose it is, is known from the lines before it."""
        known = structs.replace(line, session=line.session or self.session, message=self._message, model=self._model)
        for item in self.agent.read(known):
            self._bill.take(item)
            if isinstance(item, Usage):
                if believable(item.tokens):
                    self.by_key[item.key] = self.by_key.get(item.key, NO_TOKENS).largest(item.tokens)
            else:
                self._heed(item)

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What the run's end is judged by: the last reading of each window, the last tool call, all else in order."""
        return (*self._limits.values(), *((self._tool,) if self._tool else ()), *self._signals)

    def verdict(self, end: End) -> Verdict:
        """What its agent says that this end meant."""
        return self.agent.verdict(replace(end, tokens=self._counted), self.signals)

    @property
    def spent(self) -> Tokens:
        """The agent's own total when it gave one, else the sum over all keys."""
        return self._counted if self._bill.total is None else self._bill.total

    @property
    def _counted(self) -> Tokens:
        return sum(self.by_key.values(), NO_TOKENS)

    def usage_known(self, verdict: Verdict) -> bool:
        """Whether it is known what a run that ended so has spent; else `spent` is the least it can be."""
        return self._bill.is_known(self.agent, verdict)

    def _heed(self, told: Signal) -> None:
        signal = self._pieces.join(told)
        match signal.mark:
            case Mark.SESSION:
                self.session = signal.text
            case Mark.MESSAGE:
                self._message, self._model = signal.text, signal.model
            case Mark.LIMIT:
                self._limits[signal.window, signal.model] = signal
            case Mark.TOOL:
                self._tool = signal
        if signal.mark in judge.WORK and self._signals and self._signals[-1].mark in judge.WORK:
            self._signals[-1] = signal  # that there was work is told, not how much of it
        elif signal.mark not in (Mark.MESSAGE, Mark.LIMIT):
            self._signals.append(signal)


@dataclass(frozen=True)
class Case:
    """One recorded run in a folder of its own, with what a person expects of it.

    `meta.json` holds `agent`, `case` (its name) and `exit` (null: nobody wrote one). Where its transcript had lain
    below the agent's home is `place`, with `chosen`, the session, if that was chosen before the start. `kept`: it was
    taken from a spool, its transcript found already. `ended_ms` and `timezone` are for sentences that tell a time of
    day. `environ` is what of the run's environment says where its transcript is, `{home}` in it the agent's home.
    """

    folder: Path
    meta: Mapping[str, Any]
    expected: Mapping[str, Any]

    @property
    def agent(self) -> str:
        """The name of the agent that ran."""
        return str(self.meta["agent"])

    @property
    def name(self) -> str:
        """What people call it: `codex/usage_limit.default`."""
        return f"{self.agent}/{self.meta['case']}"

    def text(self, name: str) -> bytes:
        """The whole of one recorded file; empty when the run wrote none."""
        path = self.folder / name
        return path.read_bytes() if path.exists() else b""

    def lines(self, source: Source, name: str) -> Iterator[Line]:
        """The lines of one recorded file."""
        return lines_of(source, self.text(name))

    @cached_property
    def end(self) -> End:
        """How it ended."""
        out, err = (self.text(name)[-TAIL:].decode(errors="replace") for _, name in STREAMS)
        ended_ms = self.meta.get("ended_ms", RECORDED_MS)
        return End(self.meta["exit"], ended_ms, out, err, timezone=self.meta.get("timezone", "UTC"))

    def environ(self, home: Path) -> dict[str, str]:
        """The environment its agent ran in, as far as that says where its transcript is below `home`."""
        return {name: value.replace("{home}", str(home)) for name, value in self.meta.get("environ", {}).items()}

    def transcript_is_found(self, agent: Agent, session: str) -> bool:
        """Whether `sources` of its agent, asked for the session as far as it was told, lead to the transcript."""
        place = self.meta.get("place")
        if not place:
            return bool(self.meta.get("kept"))
        chosen, env = self.meta.get("chosen", ""), {"HOME": "/none"} | self.environ(HOME)
        patterns = agent.sources(Seat("t", home=HOME), CWD, session or chosen, env)
        return any(leads_to(pattern, HOME / place) for pattern in patterns)

    def replay(self, agents: Mapping[str, Agent] = AGENTS) -> Reading:
        """Read all it wrote: both streams, then the transcript if it can be found."""
        reading = Reading(agents[self.agent])
        for source, name in STREAMS:
            for line in self.lines(source, name):
                reading.take(line)
        if self.transcript_is_found(reading.agent, reading.session):
            for line in self.lines(Source.TRANSCRIPT, TRANSCRIPT):
                reading.take(line)
        return reading

    def verdict(self, agents: Mapping[str, Agent] = AGENTS) -> Verdict:
        """What its agent says its end meant."""
        return self.replay(agents).verdict(self.end)


@dataclass(frozen=True)
class Held(Case):
    """A recorded run whose `files` are in memory."""

    files: Mapping[str, bytes]

    def text(self, name: str) -> bytes:
        """As `Case.text`."""
        return self.files.get(name, b"")


def lines_of(source: Source, data: bytes) -> Iterator[Line]:
    """The lines of a whole file."""
    offset = 0
    for each in data.splitlines(keepends=True):
        yield Line(source, each.rstrip(b"\r\n"), offset, run="run-1")
        offset += len(each)


def cases(folder: Path = CORPUS) -> tuple[Case, ...]:
    """Every recorded run below `folder`, which has a folder for each agent."""
    found = sorted(path.parent for path in folder.glob("*/*/expected.json"))
    return tuple(
        Case(each, json.loads((each / "meta.json").read_text()), json.loads((each / "expected.json").read_text()))
        for each in found
    )


def leads_to(pattern: str, path: Path) -> bool:
    """Whether a glob pattern names `path`: `*` is within one folder's name, `**` any folders or none."""
    return _leads(pattern.split("/"), str(path).split("/"))


def _leads(pattern: list[str], path: list[str]) -> bool:
    if not pattern or not path:
        return not pattern and not path
    if pattern[0] == "**":
        return _leads(pattern[1:], path) or _leads(pattern, path[1:])
    return fnmatchcase(path[0], pattern[0]) and _leads(pattern[1:], path[1:])
