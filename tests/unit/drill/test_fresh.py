"""Recorded runs made anew, read by the agents' own adapters."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from locum.agents.base import End, Line, Mark, Signal, Source
from locum.agents.registry import AGENTS
from locum.drill.fresh import Now, part_of
from locum.drill.recordings import FAULTS, Recording, choose, recordings, success, why_not
from locum.drill.scenarios import SCENARIOS
from locum.policy.usage import Tokens, Usage

AT_MS = round(datetime(2027, 2, 28, 21, 17, 3, tzinfo=UTC).timestamp() * 1000)
ZONE = "Europe/Madrid"
YEAR_MS = 365 * 86_400_000
PLAYED = sorted(
    {
        (agent, found.name)
        for agent in AGENTS
        for found in (success(agent), *(choose(agent, fits) for fits in FAULTS.values()))
        if found
    }
)
every_part = pytest.mark.parametrize(("agent", "name"), PLAYED, ids=[f"{agent}/{name}" for agent, name in PLAYED])


def recorded(agent: str, name: str) -> Recording:
    """The recorded run of that name."""
    return next(each for each in recordings(agent) if each.name == name)


def now(recording: Recording, factor: int = 1, later_ms: int = 0) -> Now:
    """A run at a fixed moment, with a session of its own."""
    session = f"ses_{uuid.uuid4().hex}" if recording.session.startswith("ses_") else str(uuid.uuid4())
    return Now(AT_MS, "/work", session, ZONE, lambda: str(uuid.uuid4()), factor, later_ms)


def read(recording: Recording, part, session):
    """What the adapter reads: its verdict, the tokens, the session, and every key that was counted."""
    agent, counted, signals, found = AGENTS[recording.agent], {}, [], session
    message, model = "", None
    for source, text in ((Source.OUT, part.out), (Source.ERR, part.err), (Source.TRANSCRIPT, part.transcript)):
        offset = 0
        for data in text.encode("utf-8", "surrogateescape").splitlines(keepends=True):
            line = Line(source, data.rstrip(b"\n"), offset, "r", False, session, AT_MS, message, model)
            for item in agent.read(line):
                if isinstance(item, Usage):
                    counted[item.key] = counted.get(item.key, Tokens()).largest(item.tokens)
                    continue
                assert isinstance(item, Signal)
                signals.append(item)
                if item.mark is Mark.SESSION:
                    found = item.text
                if item.mark is Mark.MESSAGE:
                    message, model = item.text, item.model
            offset += len(data)
    totals = [each.tokens for each in signals if each.mark is Mark.TOTAL]
    tails = (part.out[-16384:], part.err[-16384:])
    verdict = agent.verdict(End(recording.exit, AT_MS, *tails, timezone=ZONE), signals)
    return verdict, totals[-1] if totals else sum(counted.values(), Tokens()), found, set(counted)


@every_part
@pytest.mark.parametrize("factor", [1, 7])
def test_a_run_made_anew_is_read_as_the_recorded_one(agent: str, name: str, factor: int) -> None:
    """Kind and session are as recorded, tokens so many times as many, and the limit ends when the part says it does."""
    recording = recorded(agent, name)
    it = now(recording, factor)
    part = part_of(recording, it)
    verdict, tokens, session, _ = read(recording, part, it.session)
    assert getattr(verdict, "kind", None) == recording.kind
    assert tokens == part.tokens == Tokens(*(count * factor for count in recording.tokens))
    assert session == it.session
    told = getattr(verdict, "reset_ms", None)
    assert (told is None) == (part.reset_ms is None)
    assert told is None or abs(told - part.reset_ms) <= 60_000


@every_part
def test_two_runs_made_anew_share_no_key(agent: str, name: str) -> None:
    """What one run has spent is not counted as the other's: nothing of the recording's own names is left in either."""
    recording = recorded(agent, name)
    keys = []
    for _ in range(2):
        it = now(recording)
        keys.append({key for key in read(recording, part_of(recording, it), it.session)[3] if not key.startswith("r")})
    assert not keys[0] & keys[1]


@pytest.mark.parametrize("agent", [agent for agent in AGENTS if choose(agent, FAULTS["quota"])])
@pytest.mark.parametrize("later_ms", [YEAR_MS, -3 * 86_400_000])
def test_the_end_of_a_limit_can_be_moved_where_it_is_told_exactly(agent: str, later_ms: int) -> None:
    """A limit that ends in a year, or ended days ago, is read so; a part that cannot say that says so."""
    recording = choose(agent, FAULTS["quota"])
    assert recording
    it = now(recording, later_ms=later_ms)
    part = part_of(recording, it)
    if not part.exact:
        return
    plain = part_of(recording, now(recording)).reset_ms
    assert part.reset_ms == (plain or 0) + later_ms
    assert abs(read(recording, part, it.session)[0].reset_ms - part.reset_ms) <= 60_000


def test_every_agent_can_fall_silent_and_end_too_early():
    """Neither needs words of a vendor, so neither needs a recording; what was recorded goes first."""
    for agent in AGENTS:
        for fault in ("hang", "lie"):
            found = choose(agent, FAULTS[fault])
            assert found
            seen = [
                each
                for each in recordings(agent)
                if FAULTS[fault](each) and not each.name.startswith(("silent.", "short."))
            ]
            assert found == seen[0] if seen else not found.tokens


@pytest.mark.parametrize(
    ("agent", "fault", "why"),
    [("claude-code", "cut", "by itself (live.cut)"), ("qwen", "quota", "no run of qwen was recorded")],
)
def test_why_something_cannot_be_played(agent, fault, why):
    """An agent that gets over it is told apart from one of which nothing is known."""
    assert choose(agent, FAULTS[fault]) is None
    assert why in why_not(agent, fault)


def test_the_manual_says_what_cannot_be_played():
    """Its table names every agent with every fault of a scenario that no run of it shows, and no other."""
    manual = (Path(__file__).resolve().parents[3] / "docs/specs/drill.md").read_text()
    told = re.findall(r"^\| `([\w-]+)` \| ((?:`[\w-]+`(?:, )?)+) \|", manual, re.MULTILINE)
    faults = {each.name for each in SCENARIOS} & FAULTS.keys()
    cannot = {agent: {fault for fault in faults if not choose(agent, FAULTS[fault])} for agent in AGENTS}
    said = {agent: set(re.findall(r"`([\w-]+)`", names)) for agent, names in told if agent in AGENTS}
    assert said == {agent: names for agent, names in cannot.items() if names}
