"""pi: `pi -p --mode json`, whose exit code is 0 however it ends, and an extension of ours that stops its retries."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict, home_of
from locum.agents.refusal import plugin, refusal
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import FailureKind
from locum.policy.usage import NO_TOKENS, Tokens, Usage

_STATUS = re.compile(r"(?P<status>[1-5]\d\d) (?P<message>.*)", re.DOTALL)
_FOLDER, _SESSIONS = "PI_CODING_AGENT_DIR", "PI_CODING_AGENT_SESSION_DIR"


class Pi:
    """The pi coding agent.

    Counted are its assistant messages, each once: by its moment and the id of the provider's answer, which standard
    output (`message_end` alone; its other events repeat it) and the session's file tell alike, also in a fork's copy.
    """

    name = "pi"
    program = "pi"
    reports_usage = True
    can_resume = True
    speaks_json = True
    variables: tuple[str, ...] = (_FOLDER, _SESSIONS)
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = (b'"usage"',)

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`pi -p --mode json`, the prompt on its standard input.

        How often it asks again is set in files of the user's only, so an extension sees to that.
        """
        seat = launch.seat
        argv = (
            seat.program or self.program,
            *("-p", "--mode", "json", "-e", str(launch.folder / "locum.js")),
            *(("--model", seat.model) if seat.model else ()),
            *seat.args,
            *(("--session", launch.resume) if launch.resume else ()),
        )
        home = {_FOLDER: str(seat.home)} if seat.home else {}
        env = {"PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0", **home, **seat.env}
        return Command(argv, env, launch.prompt.encode("utf-8", "replace"), plugin(self.name))

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its events, of our extension's, or of the session's file tells."""
        if line.source is Source.TRANSCRIPT and not lines.holds(line.data, self.tells):
            return ()
        event = lines.parse(line.data)
        if event is None:
            return ()
        match line.source:
            case Source.ERR:
                return tuple(_refused(event))
            case Source.TRANSCRIPT:
                return tuple(_row(event, line))
            case _:
                return tuple(_event(event, line))

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """The session's file, in whatever folder of the sessions."""
        return tuple(_files(seat, env, f"*_{session}.jsonl")) if lines.session(session) else ()

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:
        """Every session's file."""
        return tuple(_files(seat, env, "*.jsonl"))

    def session_of(self, path: Path) -> str:
        """The session, which the name ends with."""
        return lines.session(path.stem.rpartition("_")[2])

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant; the exit code is asked last, for it says nothing."""
        return judge.verdict(self.program, self._rules, end, signals)

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The files that hold its logins, and the keys of providers of the user's own."""
        folder = home_of(seat, env, _FOLDER, ".pi/agent")
        return (folder / "auth.json", folder / "models.json")


def _files(seat: Seat, env: Mapping[str, str], name: str) -> Iterator[str]:
    """Where sessions lie: a folder for each directory, or all in one that the environment names."""
    yield f"{glob.escape(str(home_of(seat, env, _FOLDER, '.pi/agent')))}/sessions/*/{name}"
    named = seat.env.get(_SESSIONS) or env.get(_SESSIONS)
    if named and Path(named).is_absolute():
        yield f"{glob.escape(named)}/{name}"


def _event(event: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    """One event of standard output."""
    match event.get("type"):
        case "session":
            session = lines.session(event.get("id"))
            if session:
                yield Signal(Mark.SESSION, session)
        case "message_end":
            yield from _message(lines.table(event.get("message")), line)
        case "tool_execution_start":
            yield Signal(Mark.TOOL, lines.key(event.get("toolCallId")))
        case "tool_execution_end":
            yield Signal(Mark.TOOL_DONE, lines.key(event.get("toolCallId")))
        case "auto_retry_start":
            status, message = _split(lines.text(event.get("errorMessage")))
            yield Signal(Mark.RETRY, message, status=status, rule="auto_retry_start")
        case "agent_end":
            yield from _end(lines.items(event.get("messages")))


def _message(message: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    """One whole message: what it cost, what it said, and why it failed."""
    if message.get("role") != "assistant":
        return
    yield from _usage(message, line)
    said = _said(message)
    if said:
        yield Signal(Mark.SAID, said)
    if message.get("stopReason") in ("error", "aborted"):
        status, text = _split(lines.text(message.get("errorMessage")))
        yield Signal(Mark.FAILED, text, status=status, rule=f"stopReason:{message['stopReason']}")


def _end(messages: list[Mapping[str, Any]]) -> Iterator[Signal]:
    """The end of a prompt. Why it failed has been told by its last message."""
    answers = [message for message in messages if message.get("role") == "assistant"]
    if not answers:
        return
    last, reason = answers[-1], lines.key(answers[-1].get("stopReason"))
    if reason == "stop" and (_said(last) or _tokens(last)):
        spent = sum(map(_tokens, answers), NO_TOKENS)
        told = spent or all(lines.counts(lines.table(each.get("usage")), "input", "output") for each in answers)
        yield Signal(Mark.DONE, tokens=spent if told else None)
    elif reason == "stop":
        why = "the model's last answer was empty, and cost nothing: it was none"
        yield Signal(Mark.FAILED, why, FailureKind.NO_RESULT, rule="agent_end:empty")
    elif reason not in ("error", "aborted"):
        why = f"the model's last answer ended with {reason!r}"
        yield Signal(Mark.FAILED, why, FailureKind.NO_RESULT, rule=f"stopReason:{reason}")


def _row(row: Mapping[str, Any], line: Line) -> Iterator[Usage]:
    """One row of a session's file; what went wrong is told by standard output."""
    message = lines.table(row.get("message"))
    if row.get("type") == "message" and message.get("role") == "assistant":
        yield from _usage(message, line)


def _refused(event: Mapping[str, Any]) -> Iterator[Signal]:
    """What our extension tells of the refusal that ended a run."""
    if event.get("locum") == "refusal":
        refused = refusal(event, lines.stamp_ms(event.get("at")))
        _, text = _split(lines.text(event.get("message")))
        rule = refused.rule or "refusal"
        yield Signal(Mark.FAILED, text, refused.kind, refused.status, refused.reset_ms, rule=rule)


def _tokens(message: Mapping[str, Any]) -> Tokens:
    used = lines.table(message.get("usage"))
    return Tokens(*(lines.count(used.get(name)) for name in ("input", "output", "cacheRead", "cacheWrite")))


def _usage(message: Mapping[str, Any], line: Line) -> Iterator[Usage]:
    """What one answer cost. Its own moment is part of the key: some servers give the same id to many answers."""
    at_ms, tokens, model = lines.stamp_ms(message.get("timestamp")), _tokens(message), lines.key(message.get("model"))
    if at_ms is not None and tokens:
        name = lines.key(message.get("responseId")) or model
        yield Usage(f"message:{at_ms}:{name}", tokens, model or None, lines.session(line.session) or None, at_ms)


def _said(message: Mapping[str, Any]) -> str:
    return "\n".join(filter(None, (lines.text(part.get("text")) for part in lines.items(message.get("content")))))


def _split(message: str) -> tuple[int | None, str]:
    """The HTTP status that an error begins with, and the rest of it."""
    found = _STATUS.match(message)
    return (lines.status(int(found["status"])), found["message"]) if found else (None, message)
