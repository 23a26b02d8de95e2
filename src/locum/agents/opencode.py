"""opencode: `opencode run --format json`, and a plugin of ours that tells what this output keeps to itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict
from locum.agents.refusal import plugin, refusal
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens, Usage

_CONFIG = "OPENCODE_CONFIG_CONTENT"
_ERRORS = {
    "ContextOverflowError": FailureKind.CONTEXT_OVERFLOW,
    "MessageOutputLengthError": FailureKind.NO_RESULT,
    "ProviderAuthError": FailureKind.AUTH_ERROR,
}
_IDLE = "session.idle"
_VAGUE = "error:unexpected"
"""The error that opencode hides in its log; our plugin tells it in plain words."""


class OpenCode:
    """The opencode CLI.

    Counted are the steps, one for each answer of the model, by the id of the part that tells it: those of the session
    itself from standard output, those of its subagents from our plugin. It has no terminal event: a step that ends with
    "stop" may be followed by others, so that only the exit code 0, or our plugin, says that it was the last.
    """

    name = "opencode"
    program = "opencode"
    reports_usage = True
    can_resume = True
    speaks_json = True
    variables: tuple[str, ...] = ("XDG_DATA_HOME",)
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = ()

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`opencode run`, the prompt on its standard input, our plugin beside the user's own.

        A session that has a title already is not asked for one: opencode does not count what that question costs.
        """
        seat = launch.seat
        argv = (
            seat.program or self.program,
            *("run", "--format", "json", "--auto"),
            *(("-m", seat.model) if seat.model else ()),
            *seat.args,
            *(("-s", launch.resume) if launch.resume else ("--title", f"locum {launch.run}")),
        )
        environ = {**launch.environ, **seat.env}
        env = {"OPENCODE_DISABLE_AUTOUPDATE": "1", **_home(seat), **seat.env}
        env[_CONFIG] = _with_plugin(environ.get(_CONFIG, "{}"), launch.folder)
        return Command(argv, env, launch.prompt.encode("utf-8", "replace"), plugin(self.name))

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its events, or of our plugin's, tells."""
        event = lines.parse(line.data) if line.source is not Source.TRANSCRIPT else None
        if event is None:
            return ()
        if line.source is Source.ERR:
            return tuple(_told(event, line))
        return tuple(_event(event, line))

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """None: it keeps its sessions in a database."""
        return ()

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """None, as above."""
        return ()

    def session_of(self, path: Path) -> str:  # noqa: ARG002
        """None: there is no transcript to belong to one."""
        return ""

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant. A step that ended well counts as the end only of a run that ended by itself."""
        plain = [signal for signal in signals if signal.rule != _VAGUE]
        told = judge.outcome(plain)
        if told is not None and told.mark is Mark.FAILED:
            signals = plain
        elif told is not None and told.rule != _IDLE and end.exit != 0:
            signals = [signal for signal in signals if signal.mark is not Mark.DONE]
        return judge.verdict(self.program, self._rules, end, signals)

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The file its login lies in."""
        home = seat.env.get("HOME") or env.get("HOME") or "/"
        named = seat.env.get("XDG_DATA_HOME") or _home(seat).get("XDG_DATA_HOME") or env.get("XDG_DATA_HOME")
        return (Path("/", named or f"{home}/.local/share", "opencode", "auth.json"),)


def _home(seat: Seat) -> dict[str, str]:
    """A login of its own: the folders for data and state that would be used below a HOME of that name.

    XDG_CONFIG_HOME stays: git and others look there for theirs. So does opencode's own folder of settings: a new one
    is filled from npm's registry first, and every run that has a plugin waits for that.
    """
    if seat.home is None:
        return {}
    return {
        "XDG_DATA_HOME": str(seat.home / ".local" / "share"),
        "XDG_STATE_HOME": str(seat.home / ".local" / "state"),
    }


def _with_plugin(given: str, folder: Path) -> str:
    """The user's own settings with our plugin added; what cannot be read is left as it is."""
    config = lines.parse(given.encode("utf-8", "replace"))
    if config is None:
        return given
    own = config.get("plugin")
    return json.dumps({**config, "plugin": [*(own if isinstance(own, list) else ()), (folder / "locum.js").as_uri()]})


def _event(event: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    """One event of standard output."""
    session, part = lines.session(event.get("sessionID")), lines.table(event.get("part"))
    if session and session != line.session:
        yield Signal(Mark.SESSION, session)
    match event.get("type"):
        case "text":
            yield Signal(Mark.SAID, lines.text(part.get("text")))
        case "tool_use":
            yield Signal(Mark.TOOL_DONE, lines.key(part.get("callID")))
        case "step_finish":
            yield from _usage(event)
            yield from _ended(part)
        case "error":
            yield _error(lines.table(event.get("error")), lines.stamp_ms(event.get("timestamp")))


def _told(event: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    """One line of our plugin."""
    match event.get("locum"):
        case "session":
            session = lines.session(event.get("sessionID"))
            if session and session != line.session:
                yield Signal(Mark.SESSION, session)
        case "tool" | "tool_done":
            yield Signal(Mark.TOOL if event["locum"] == "tool" else Mark.TOOL_DONE, lines.key(event.get("id")))
        case "step_finish":
            yield from _usage(event)
        case "error":
            yield _error(lines.table(event.get("error")), None)
        case "retry" | "stopped":
            refused = refusal(event, lines.stamp_ms(event.get("at")))
            yield Signal(
                Mark.RETRY if event["locum"] == "retry" else Mark.FAILED,
                lines.text(event.get("message")),
                refused.kind,
                refused.status,
                refused.reset_ms,
                rule=refused.rule or "session.status:retry",
            )
        case "done":
            yield Signal(Mark.DONE, rule=_IDLE)


def _tokens(part: Mapping[str, Any]) -> Tokens:
    """Reasoning is told apart from the output; here it is part of it."""
    told = lines.table(part.get("tokens"))
    cache = lines.table(told.get("cache"))
    return Tokens(
        input=lines.count(told.get("input")),
        output=lines.count(told.get("output")) + lines.count(told.get("reasoning")),
        cache_read=lines.count(cache.get("read")),
        cache_write=lines.count(cache.get("write")),
    )


def _usage(event: Mapping[str, Any]) -> Iterator[Usage]:
    """What one step cost."""
    part = lines.table(event.get("part"))
    name, tokens = lines.key(part.get("id")), _tokens(part)
    if name and tokens:
        session = lines.session(part.get("sessionID")) or None
        yield Usage(f"part:{name}", tokens, session=session, at_ms=lines.stamp_ms(event.get("timestamp")))


def _ended(part: Mapping[str, Any]) -> Iterator[Signal]:
    """Why a step ended. After tool calls, and after an answer that was cut off, it asks the model again."""
    reason = lines.key(part.get("reason"))
    if reason == "stop":
        spent = _tokens(part)
        told = spent or lines.counts(lines.table(part.get("tokens")), "input", "output")
        yield Signal(Mark.DONE, tokens=spent if told else None, rule="step_finish:stop")
    elif reason == "unknown":
        why = "an answer of the model ended before it was whole"
        yield Signal(Mark.CUT, why, FailureKind.SERVER_ERROR, rule="step_finish:unknown")
    elif reason and reason != "tool-calls":
        why = f"the model's last answer ended with {reason!r}"
        yield Signal(Mark.FAILED, why, FailureKind.NO_RESULT, rule=f"step_finish:{reason}")


def _error(error: Mapping[str, Any], at_ms: int | None) -> Signal:
    """The error that ended the session."""
    name, data = lines.key(error.get("name")) or "unnamed", lines.table(error.get("data"))
    message = lines.text(data.get("message"))
    if name == "MessageAbortedError":
        return Signal(Mark.FAILED, rule=f"error:{name}")  # by whom is told elsewhere, if it was our plugin
    if name == "UnknownError" and data.get("ref"):
        return Signal(Mark.FAILED, message, FailureKind.UNKNOWN, rule=_VAGUE)
    refused = refusal(data, at_ms)
    kind, rule = _ERRORS.get(name) or refused.kind, f"error:{name}" if name in _ERRORS else refused.rule
    return Signal(Mark.FAILED, message, kind, refused.status, refused.reset_ms, rule=rule or f"error:{name}")
