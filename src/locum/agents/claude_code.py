"""Claude Code: `claude -p` with streamed JSON, its transcript as the counting source."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict, home_of
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens, Usage

_ENV = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0",  # the supervisor owns retries: ten of its own would hide a failure for minutes
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    # As root it refuses to skip permissions unless this is set; for anyone else it changes nothing. Whether the
    # daemon is root is not for a pure function to find out, and asking on a terminal nobody has helps nobody.
    "IS_SANDBOX": "1",
}
_SYNTHETIC = "<synthetic>"  # the model of messages it makes up itself, to show errors
ERRORS = {
    "authentication_failed": FailureKind.AUTH_ERROR,
    "billing_error": FailureKind.CREDIT_EXHAUSTED,
    "invalid_request": FailureKind.INVALID_REQUEST,
    "max_output_tokens": FailureKind.NO_RESULT,
    "model_not_found": FailureKind.MODEL_UNAVAILABLE,
    "oauth_org_not_allowed": FailureKind.AUTH_ERROR,
    "overloaded": FailureKind.OVERLOADED,
    "rate_limit": FailureKind.RATE_LIMIT,
    "server_error": FailureKind.SERVER_ERROR,
}
"""What Claude Code calls its failures, in its stream and to its hooks."""
# Limits the user set for one run (`--max-turns`, `--max-budget-usd`): the tier is fine, the task is too large for
# them, and handing it to the next tier would spend what they were to save. So the task ends.
_OWN_LIMITS = frozenset({"error_max_turns", "error_max_budget_usd"})
_OF_A_MODEL = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
_MODELS = frozenset({"opus", "sonnet", "haiku"})


class _Counts(msgspec.Struct):
    """A row's `usage`."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None


class _Message(msgspec.Struct):
    """A row's `message`."""

    id: Any = None
    model: Any = None
    usage: _Counts | None = None


class _Row(msgspec.Struct, rename={"session": "sessionId"}):
    """What is read of a transcript's row: the rest, nearly all of it, is passed over."""

    type: Any = None
    session: Any = None
    timestamp: Any = None
    message: _Message | None = None


_ROW = msgspec.json.Decoder(_Row)


class ClaudeCode:
    """Anthropic's Claude Code."""

    name = "claude-code"
    program = "claude"
    reports_usage = True
    can_resume = True
    speaks_json = True
    variables: tuple[str, ...] = ("CLAUDE_CONFIG_DIR",)
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = (b'"assistant"',)

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`claude -p`, the prompt on its standard input, its session id chosen by us."""
        seat = launch.seat
        model = ("--model", seat.model) if seat.model else ()
        session = ("--resume", launch.resume) if launch.resume else ("--session-id", launch.fresh)
        argv = (
            seat.program or self.program,
            # Partial messages tell the final count at once (the transcript follows a tenth of a second later, which
            # a kill may prevent), and a long answer being written can be told from a hang.
            *("-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"),
            *model,
            *session,
            *("--dangerously-skip-permissions", *seat.args),
        )
        home = {"CLAUDE_CONFIG_DIR": str(seat.home)} if seat.home else {}
        return Command(argv, {**_ENV, **home, **seat.env}, launch.prompt.encode("utf-8", "replace"))

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its stream or transcript tells."""
        if line.source is Source.TRANSCRIPT:
            return _row(line.data) if lines.holds(line.data, self.tells) else ()
        event = lines.parse(line.data) if line.source is Source.OUT else None
        if event is None:
            return ()
        if event.get("type") == "stream_event":
            return tuple(_stream_event(event, line))
        reader = _READERS.get(lines.text(event.get("type")))
        return tuple(reader(event)) if reader else ()

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """The session's transcript and those of its subagents, wherever its project's folder is."""
        if not lines.session(session):
            return ()
        projects = f"{glob.escape(str(_folder(seat, env)))}/projects/*/{session}"
        return f"{projects}.jsonl", f"{projects}/**/*.jsonl"

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:
        """Every session's transcript, with those of subagents in the session's own folder."""
        return (f"{glob.escape(str(_folder(seat, env)))}/projects/**/*.jsonl",)

    def session_of(self, path: Path) -> str:
        """The file's own name, or that of the session's folder which a subagent's transcript lies in."""
        beside = path.parent.parent.name if path.parent.name == "subagents" else ""
        return lines.session(beside or path.stem)

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant."""
        return judge.verdict(self.program, self._rules, end, signals)

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The file its login lies in."""
        return (_folder(seat, env) / ".credentials.json",)


def _folder(seat: Seat, env: Mapping[str, str]) -> Path:
    return home_of(seat, env, "CLAUDE_CONFIG_DIR", ".claude")


def _tokens(usage: Mapping[str, Any]) -> Tokens:
    return Tokens(
        input=lines.count(usage.get("input_tokens")),
        output=lines.count(usage.get("output_tokens")),
        cache_read=lines.count(usage.get("cache_read_input_tokens")),
        cache_write=lines.count(usage.get("cache_creation_input_tokens")),
    )


def _row(data: bytes) -> tuple[Usage, ...]:
    """What a transcript's row cost. Years of them are read at once, so only what tells is made into values."""
    try:
        row = _ROW.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # strange somewhere, which may matter or not
        event = lines.parse(data) or {}
        return tuple(_usage(event, event.get("sessionId"))) if event.get("type") == "assistant" else ()
    message = row.message
    if row.type != "assistant" or message is None or message.usage is None:
        return ()
    counts = message.usage
    tokens = Tokens(
        lines.count(counts.input_tokens),
        lines.count(counts.output_tokens),
        lines.count(counts.cache_read_input_tokens),
        lines.count(counts.cache_creation_input_tokens),
    )
    return _spent(message.id, message.model, tokens, row.session, row.timestamp)


def _usage(event: Mapping[str, Any], session: object) -> Iterator[Usage]:
    """What one message cost, told in any of its events."""
    message = lines.table(event.get("message"))
    tokens = _tokens(lines.table(message.get("usage")))
    yield from _spent(message.get("id"), message.get("model"), tokens, session, event.get("timestamp"))


def _spent(id_: object, model_: object, tokens: Tokens, session: object, at: object) -> tuple[Usage, ...]:
    """A message's id alone is the key: a forked session's file repeats it, and so does each block."""
    key, model = lines.key(id_), lines.text(model_)
    if not key or not tokens or model == _SYNTHETIC:
        return ()
    return (Usage(key, tokens, model or None, lines.session(session) or None, lines.moment_ms(at)),)


def _system(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    match event.get("subtype"):
        case "init":
            session = lines.session(event.get("session_id"))
            if session:
                yield Signal(Mark.SESSION, session, model=lines.text(event.get("model")) or None)
        case "api_retry":
            error = lines.text(event.get("error")) or "unknown"
            status = lines.status(event.get("error_status"))
            unanswered = FailureKind.NETWORK if status is None else None
            yield Signal(Mark.RETRY, error, ERRORS.get(error, unanswered), status, rule=f"api_retry:{error}")


def _stream_event(event: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    """A message's start, which names it, and its last count, which does not. Subagents do not stream."""
    inner = lines.table(event.get("event"))
    if event.get("parent_tool_use_id"):
        return
    if inner.get("type") == "message_start":
        yield from _usage(inner, event.get("session_id"))
        message = lines.table(inner.get("message"))
        yield Signal(Mark.MESSAGE, lines.key(message.get("id")), model=lines.text(message.get("model")) or None)
    elif inner.get("type") == "message_delta" and line.message:
        tokens = _tokens(lines.table(inner.get("usage")))
        if tokens:
            yield Usage(line.message, tokens, line.model, lines.session(event.get("session_id")) or None)


def _assistant(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    yield from _usage(event, event.get("session_id"))
    blocks = lines.items(lines.table(event.get("message")).get("content"))
    said = "".join(lines.text(block.get("text")) for block in blocks if block.get("type") == "text")
    error = lines.text(event.get("error"))
    if error:
        yield Signal(Mark.FAILED, said, kind=ERRORS.get(error), rule=f"error:{error}")
    elif said and not event.get("parent_tool_use_id"):
        yield Signal(Mark.SAID, said)
    for block in blocks:
        if block.get("type") == "tool_use" and lines.key(block.get("id")):
            yield Signal(Mark.TOOL, lines.key(block["id"]))


def _user(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    for block in lines.items(lines.table(event.get("message")).get("content")):
        if block.get("type") == "tool_result" and lines.key(block.get("tool_use_id")):
            yield Signal(Mark.TOOL_DONE, lines.key(block["tool_use_id"]))


def _rate_limit_event(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    info = lines.table(event.get("rate_limit_info"))
    kind, reset_ms = lines.text(info.get("rateLimitType")), lines.epoch_ms(info.get("resetsAt"))
    if not kind and reset_ms is None:
        return  # every refusal of a subscription comes with one; only a window or its reset makes it the user's limit
    window, _, model = kind.partition("_day_")
    yield Signal(
        Mark.LIMIT,
        lines.text(info.get("status")),
        reset_ms=reset_ms,
        window="seven_day" if window == "seven" else kind if kind in ("five_hour", "seven_day") else None,
        model=model if model in _MODELS else None,
        rule=f"rate_limit_event:{kind}",
        used=lines.percent(info.get("utilization"), whole=1),
    )


def _result(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    total = _total(event)
    if total:  # a run cut short may say zero; what its messages cost is then the better count
        yield Signal(Mark.TOTAL, tokens=total)
    subtype, reason = lines.text(event.get("subtype")), lines.text(event.get("terminal_reason"))
    errors = event.get("errors")
    said = lines.text(event.get("result")) or "; ".join(map(lines.text, errors if isinstance(errors, list) else ()))
    status = lines.status(event.get("api_error_status"))
    if subtype == "success" and event.get("is_error") is False:
        stopped = reason == "hook_stopped" or reason.startswith("aborted") or event.get("num_turns") == 0
        if stopped:
            why = said.partition("\n\nOriginal prompt:")[0] or "a hook stopped the run before its end"
            yield Signal(Mark.FAILED, why, kind=FailureKind.NO_RESULT, rule=f"result:{reason or 'no_turns'}")
        else:
            yield Signal(Mark.DONE, said, tokens=total)
    elif reason == "prompt_too_long":
        yield Signal(Mark.FAILED, said, FailureKind.CONTEXT_OVERFLOW, status, rule=f"result:{reason}")
    elif subtype in _OWN_LIMITS:
        why = f"{said or subtype} (a limit set in the tier's own args)"
        yield Signal(Mark.FAILED, why, FailureKind.INVALID_REQUEST, status, rule=f"result:{subtype}")
    else:
        yield Signal(Mark.FAILED, said, status=status, rule=f"result:{subtype}")


def _total(event: Mapping[str, Any]) -> Tokens | None:
    """The invocation's own sum over all its models, None when it is not told.

    `usage` leaves some models out and may be all zero, so its zeros count only where no model is named.
    """
    used, models = lines.table(event.get("usage")), lines.table(event.get("modelUsage"))
    each = [lines.table(model) for model in models.values()]
    if each and all(lines.counts(model, *_OF_A_MODEL[:2]) for model in each):
        total = sum((Tokens(*(lines.count(model.get(name)) for name in _OF_A_MODEL)) for model in each), Tokens())
        return total or _tokens(used)
    told = _tokens(used)
    return told if told or (not models and lines.counts(used, "input_tokens", "output_tokens")) else None


_READERS = {
    "assistant": _assistant,
    "rate_limit_event": _rate_limit_event,
    "result": _result,
    "system": _system,
    "user": _user,
}
