"""Codex: `codex exec --json`, its rollout file as the counting source and the only place its errors are typed."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict, home_of
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage

_RECONNECTING = re.compile(
    r"Reconnecting\.\.\. (?:\d+/\d+ \((?P<why>.*)\)|(?P<waiting>waiting for network.*))", re.DOTALL
)
_STATUS = re.compile(r"(?:unexpected status |exceeded retry limit, last status: )(?P<status>\d{3})\b")
_TOOLS = frozenset({"command_execution", "mcp_tool_call", "web_search", "file_change", "collab_tool_call"})
_COUNTS = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_input_tokens")
_WORK = frozenset({Mark.SAID, Mark.TOOL, Mark.TOOL_DONE})
_WINDOWS = ((300, "five_hour"), (1_440, "daily"), (10_080, "seven_day"), (43_200, "monthly"))  # minutes
_ERRORS = {
    "bad_request": FailureKind.INVALID_REQUEST,
    "context_window_exceeded": FailureKind.CONTEXT_OVERFLOW,
    "internal_server_error": FailureKind.SERVER_ERROR,
    "model_not_found": FailureKind.MODEL_UNAVAILABLE,
    "rate_limit_exceeded": FailureKind.RATE_LIMIT,
    "server_overloaded": FailureKind.OVERLOADED,
    "unauthorized": FailureKind.AUTH_ERROR,
    "usage_limit_exceeded": FailureKind.USAGE_LIMIT,
}
_CONNECTION_ERRORS = frozenset({"http_connection_failed", "response_stream_connection_failed"})


class Codex:
    """OpenAI's Codex CLI.

    Counted are the rollout's `token_usage_record` rows, one for each response of the model. The sums that Codex also
    tells (`turn.completed`, `token_count`, and the row's own sum of its thread) are not: after an overflowing context
    they are made up, a response whose tool call was killed is missing from them, and a sum cannot be told from its
    parts by key. The usage of a Codex that writes no such rows is unknown.
    """

    name = "codex"
    program = "codex"
    reports_usage = True
    can_resume = True
    speaks_json = True
    variables: tuple[str, ...] = ("CODEX_HOME",)
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = (b'"token_usage_record"', b'"token_count"', b'"task_complete"')

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`codex exec`, the prompt on its standard input.

        Its retry knobs belong to a provider and cannot be set for the one it has built in, so they are left to
        the tier's `args`. They may take minutes, or for ever without a network: whoever watches the run bounds that.
        """
        seat = launch.seat
        argv = (
            seat.program or self.program,
            *("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *(("-m", seat.model) if seat.model else ()),
            *seat.args,
            *(("resume", launch.resume) if launch.resume else ()),
            "-",
        )
        home = {"CODEX_HOME": str(seat.home)} if seat.home else {}
        return Command(argv, {**home, **seat.env}, launch.prompt.encode("utf-8", "replace"))

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its events or of its rollout tells."""
        if line.source is Source.ERR:
            return ()
        if line.source is Source.TRANSCRIPT and not lines.holds(line.data, self.tells):
            return ()
        event = lines.parse(line.data)
        if event is None:
            return ()
        if line.source is Source.TRANSCRIPT:
            return tuple(_rollout(event, line))
        return tuple(_event(event))

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """The thread's rollout, whatever day it began."""
        if not lines.session(session):
            return ()
        return (f"{glob.escape(str(_folder(seat, env)))}/sessions/**/rollout-*-{session}.jsonl",)

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:
        """Every thread's rollout."""
        return (f"{glob.escape(str(_folder(seat, env)))}/sessions/**/rollout-*.jsonl",)

    def session_of(self, path: Path) -> str:
        """The thread, which the name ends with."""
        return lines.session("-".join(path.stem.split("-")[-5:]))

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant. A turn that completed without a word or a tool call was stopped by a hook."""
        last = judge.outcome(signals)
        if last is not None and last.mark is Mark.DONE and not any(signal.mark in _WORK for signal in signals):
            why = "the turn ended before the model was asked: a hook may have stopped it"
            return Failure(FailureKind.NO_RESULT, why, "turn.completed:empty")
        return judge.verdict(self.program, self._rules, end, signals)

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The file its login lies in."""
        return (_folder(seat, env) / "auth.json",)


def told_error(message: str) -> Signal:
    """What a sentence of Codex's own tells: that it failed, or tries again."""
    retry = _RECONNECTING.match(message)
    if retry and retry["waiting"]:  # it says so for ever and never ends by itself
        return Signal(Mark.RETRY, retry["waiting"], FailureKind.NETWORK, rule="error:waiting for network")
    if retry:
        return Signal(Mark.RETRY, retry["why"], status=_status(retry["why"]), rule="error:reconnecting")
    return Signal(Mark.FAILED, message, status=_status(message), rule="turn.failed")


def _folder(seat: Seat, env: Mapping[str, str]) -> Path:
    return home_of(seat, env, "CODEX_HOME", ".codex")


def _tokens(used: Mapping[str, Any]) -> Tokens:
    return lines.tokens(*map(used.get, _COUNTS))


def _usage(record: Mapping[str, Any], at_ms: int | None) -> Iterator[Usage]:
    """What one response cost."""
    response, tokens = lines.key(record.get("response_id")), _tokens(lines.table(record.get("usage")))
    if response and tokens:
        thread = lines.session(record.get("thread_id")) or None
        yield Usage(f"response:{response}", tokens, session=thread, at_ms=at_ms)


def _event(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    match event.get("type"):
        case "thread.started":
            session = lines.session(event.get("thread_id"))
            if session:
                yield Signal(Mark.SESSION, session)
        case "item.started" | "item.completed":
            yield from _item(lines.table(event.get("item")), done=event["type"] == "item.completed")
        case "error":
            yield told_error(lines.text(event.get("message")))
        case "turn.failed":
            yield told_error(lines.text(lines.table(event.get("error")).get("message")))
        case "turn.completed":
            used = lines.table(event.get("usage"))
            spent = _tokens(used)
            yield Signal(Mark.DONE, tokens=spent if spent or lines.counts(used, *_COUNTS[:2]) else None)


def _item(item: Mapping[str, Any], *, done: bool) -> Iterator[Signal]:
    """A step of the turn. An item of type "error" only warns."""
    kind, said, name = item.get("type"), lines.text(item.get("text")), lines.key(item.get("id"))
    if kind == "agent_message" and done and said:
        yield Signal(Mark.SAID, said)
    elif kind in _TOOLS and name:
        yield Signal(Mark.TOOL_DONE if done else Mark.TOOL, name)


def _status(message: str) -> int | None:
    found = _STATUS.match(message)
    return lines.status(int(found["status"])) if found else None


def _rollout(row: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    payload, at_ms = lines.table(row.get("payload")), lines.moment_ms(row.get("timestamp"))
    if row.get("type") == "token_usage_record":
        yield from _usage(payload, at_ms)
    elif row.get("type") != "event_msg" or (at_ms is not None and at_ms < line.run_started_ms):
        return
    elif payload.get("type") == "token_count":
        yield from _limits(lines.table(payload.get("rate_limits")), at_ms)
    elif payload.get("type") == "task_complete":
        yield from _typed_error(lines.table(payload.get("error")))


def _limits(limits: Mapping[str, Any], at_ms: int | None) -> Iterator[Signal]:
    for name in ("primary", "secondary"):
        reading = lines.table(limits.get(name))
        minutes, used = reading.get("window_minutes"), lines.percent(reading.get("used_percent"))
        if isinstance(minutes, int) and used is not None:
            yield Signal(
                Mark.LIMIT,
                "rejected" if used >= 100 else "allowed",
                reset_ms=lines.epoch_ms(reading.get("resets_at")),
                window=next((window for near, window in _WINDOWS if abs(minutes - near) <= near // 100), None),
                rule=f"rate_limits:{name}",
                used=used,
                at_ms=at_ms,
            )


def _typed_error(error: Mapping[str, Any]) -> Iterator[Signal]:
    """The error a turn ended with: a name, or a name with the HTTP status that caused it."""
    info, message = error.get("codex_error_info"), lines.text(error.get("message"))
    if isinstance(info, dict) and info:
        name, detail = next(iter(info.items()))
        status = lines.status(lines.table(detail).get("http_status_code"))
        unanswered = FailureKind.NETWORK if status is None and name in _CONNECTION_ERRORS else None
        yield Signal(Mark.FAILED, message, unanswered, status, rule=f"codex_error_info:{lines.key(name)}")
    elif error:
        name = lines.key(info) or "none"
        yield Signal(Mark.FAILED, message, _ERRORS.get(name), _status(message), rule=f"codex_error_info:{name}")
