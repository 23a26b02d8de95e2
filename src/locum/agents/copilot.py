"""GitHub Copilot CLI: `copilot --output-format json`; what it spends is told by its session's own events alone."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from locum.agents import judge, lines, vendors
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict, home_of
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage

SESSION = "LOCUM_SESSION"
"""The environment variable that says which session a run was given: its output names it only at its end."""
_ERRORS = {
    "authentication": FailureKind.AUTH_ERROR,
    "authorization": FailureKind.AUTH_ERROR,
    "context_limit": FailureKind.CONTEXT_OVERFLOW,
    "policy": FailureKind.AUTH_ERROR,
    "quota": FailureKind.USAGE_LIMIT,
    "rate_limit": FailureKind.RATE_LIMIT,
}
_ENDED_BY_ITSELF = re.compile(r"(?:Failed to get response from the AI model; .{0,300}?Last error: )?(?:\d{3} )?")
_UNREACHED = "Failed native model HTTP request"
_ANSWER = frozenset({Mark.SAID, Mark.TOOL, Mark.TOOL_DONE})
_WORK = _ANSWER | {Mark.DONE}
_ABORT = "abort"


class Copilot:
    """GitHub's Copilot CLI, with a GitHub login or a provider's own key.

    Counted are the `session.usage_record` rows of `events.jsonl`, one for each answer of a model, whoever asked it
    (the agent, a subagent, a compaction), and the `toolUsage` of tools that are metered apart. The sums of
    `session.shutdown` are of the whole session, so a resumed one tells the old part again; they are not read.
    """

    name = "copilot"
    program = "copilot"
    reports_usage = True
    can_resume = True
    speaks_json = True
    variables: tuple[str, ...] = ("COPILOT_HOME", SESSION)
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = (b'"session.usage_record"', b'"session.start"', b'"toolUsage"', b'"quotaSnapshots"')

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`copilot`, the prompt on its standard input, its session id chosen by us."""
        seat, chosen = launch.seat, lines.session(launch.resume) or launch.fresh
        argv = (
            seat.program or self.program,
            *("--output-format", "json", "--allow-all", "--no-ask-user", "--no-auto-update"),
            "--disable-client-telemetry",
            *(("--model", seat.model) if seat.model else ()),
            *(("--resume", chosen) if launch.resume else ("--session-id", chosen)),
            *seat.args,
        )
        home = {"COPILOT_HOME": str(seat.home)} if seat.home else {}
        env = {**home, **seat.env, SESSION: chosen}
        return Command(argv, env, launch.prompt.encode("utf-8", "replace"))

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its output or of its session's events tells."""
        if line.source is Source.ERR or (line.source is Source.TRANSCRIPT and not lines.holds(line.data, self.tells)):
            return ()
        event = lines.parse(line.data)
        if event is None:
            return ()
        if line.source is Source.TRANSCRIPT:
            return tuple(_row(event, line))
        reader = _READERS.get(lines.text(event.get("type")))
        return tuple(reader(event, lines.table(event.get("data")))) if reader else ()

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """The session's events; of the session that the run was given, as long as none was told."""
        known = lines.session(session or env.get(SESSION))
        return (f"{glob.escape(str(_folder(seat, env)))}/session-state/{known}/events.jsonl",) if known else ()

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:
        """Every session's events."""
        return (f"{glob.escape(str(_folder(seat, env)))}/session-state/*/events.jsonl",)

    def session_of(self, path: Path) -> str:
        """The session, after which the folder is called."""
        return lines.session(path.parent.name)

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant. Ended by a signal it says that it was aborted, and then that all went well."""
        aborted = any(signal.rule == _ABORT for signal in signals)
        heard = [signal for signal in signals if not (aborted and (signal.rule == _ABORT or signal.mark is Mark.DONE))]
        last = judge.outcome(heard)
        if last is not None and last.mark is Mark.DONE and not any(signal.mark in _ANSWER for signal in heard):
            why = "the run ended before the model had said anything: a hook may have stopped it"
            return Failure(FailureKind.NO_RESULT, why, "result:empty")
        return judge.verdict(self.program, self._rules, end, _with_causes(heard))

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The files its login lies in: its own, and that of GitHub's CLI, which it borrows."""
        shared = env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or "/", ".config")
        return (_folder(seat, env) / "config.json", Path("/", shared, "gh", "hosts.yml"))


def _folder(seat: Seat, env: Mapping[str, str]) -> Path:
    return home_of(seat, env, "COPILOT_HOME", ".copilot")


def _with_causes(signals: Sequence[Signal]) -> list[Signal]:
    """The signals, each failure with what the refused call before it told: the provider's own code and its reset."""
    told: list[Signal] = []
    cause: Signal | None = None
    for signal in signals:
        if signal.mark is Mark.RETRY:
            cause = signal
        elif signal.mark in _WORK:
            cause = None
        if signal.mark is Mark.FAILED and cause is not None:
            told.append(
                structs.replace(
                    signal,
                    kind=cause.kind or signal.kind,
                    status=signal.status or cause.status,
                    reset_ms=cause.reset_ms,
                    rule=cause.rule if cause.kind is not None else signal.rule,
                )
            )
        else:
            told.append(signal)
    return told


def _row(event: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    """What a row of the session's events tells. A resumed session goes on in the same file."""
    data, at_ms = lines.table(event.get("data")), lines.moment_ms(event.get("timestamp"))
    is_old = at_ms is not None and at_ms < line.run_started_ms
    if event.get("type") == "session.usage_record":
        used = lines.table(data.get("usage"))
        yield from _usage(used, lines.key(event.get("id")), at_ms, line)
        if not is_old:
            yield from _quota(used, at_ms)
    elif event.get("type") == "tool.execution_complete":
        used = lines.table(data.get("toolUsage"))
        yield from _usage(used, lines.key(used.get("requestId")), at_ms, line)
    elif event.get("type") == "session.start" and not is_old:
        yield from _session(data)


def _usage(used: Mapping[str, Any], name: str, at_ms: int | None, line: Line) -> Iterator[Usage]:
    """What one answer cost. Its place in Copilot's own accounts is its key: copies of the row keep it."""
    accounting = lines.table(used.get("accounting"))
    book, number = lines.session(accounting.get("sourceSessionId")), accounting.get("sequence")
    if book and type(number) is int:
        name = lines.key(f"{book}:{number}:{lines.key(accounting.get('usageId'))}")
    tokens = _tokens(used)
    if name and tokens:
        session = lines.session(line.session) or book or None
        yield Usage(name, tokens, lines.text(used.get("model")) or None, session, at_ms)


def _tokens(used: Mapping[str, Any]) -> Tokens:
    return lines.tokens(*map(used.get, ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")))


def _quota(told: Mapping[str, Any], at_ms: int | None) -> Iterator[Signal]:
    """The month's allowance, of several the one that is used most."""
    snapshots = lines.table(told.get("quotaSnapshots")).values()
    limited = [lines.table(each) for each in snapshots if lines.table(each).get("isUnlimitedEntitlement") is False]
    left = [(share, each) for each in limited if (share := lines.percent(each.get("remainingPercentage"))) is not None]
    if not left:
        return
    share, least = min(left, key=lambda pair: pair[0])
    goes_on = least.get("usageAllowedWithExhaustedQuota") or least.get("overageAllowedWithExhaustedQuota")
    yield Signal(
        Mark.LIMIT,
        "rejected" if share <= 0 and not goes_on else "allowed",
        reset_ms=lines.moment_ms(least.get("resetDate")),
        window="monthly",
        rule="quotaSnapshots",
        used=round(100 - share, 1),
        at_ms=at_ms,
    )


def _session(data: Mapping[str, Any]) -> Iterator[Signal]:
    session = lines.session(data.get("sessionId"))
    if session:
        yield Signal(Mark.SESSION, session)


def _said(event: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Signal]:
    said = lines.text(data.get("content"))
    if said and not event.get("agentId") and not data.get("parentToolCallId"):
        yield Signal(Mark.SAID, said)


def _tool(event: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Signal]:
    name = lines.key(data.get("toolCallId"))
    if name:
        yield Signal(Mark.TOOL if event.get("type") == "tool.execution_start" else Mark.TOOL_DONE, name)


def _refused(event: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Signal]:
    """A call that failed. Whether it is tried again only what follows tells."""
    at_ms, error = lines.moment_ms(event.get("timestamp")), vendors.refusal(data.get("errorMessage"))
    message, status = lines.text(error.get("message")), lines.status(data.get("statusCode"))
    names = {"code": error.get("code") or data.get("errorCode"), "type": error.get("type") or data.get("errorType")}
    kind = FailureKind.NETWORK if message.startswith(_UNREACHED) else vendors.kind_of(names)
    name = next((lines.key(each) for each in names.values() if lines.key(each)), "") or lines.key(
        data.get("failureKind")
    )
    reset_ms = vendors.reset_of(error, at_ms)
    yield Signal(Mark.RETRY, message, kind, status, reset_ms, rule=f"call_failure:{name or 'unnamed'}")
    yield from _quota(data, at_ms)


def _failed(_event: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Signal]:
    error, code, message = lines.key(data.get("errorType")), lines.key(data.get("errorCode")), data.get("message")
    said = lines.text(message)
    yield Signal(
        Mark.FAILED,
        said[match.end() :] if (match := _ENDED_BY_ITSELF.match(said)) else said,
        vendors.kind_of({"code": code}) or _ERRORS.get(error),
        lines.status(data.get("statusCode")),
        rule=f"session.error:{code or error or 'unnamed'}",
    )


def _aborted(_event: Mapping[str, Any], _data: Mapping[str, Any]) -> Iterator[Signal]:
    yield Signal(Mark.FAILED, "the run was aborted", FailureKind.NO_RESULT, rule=_ABORT)


def _result(event: Mapping[str, Any], _data: Mapping[str, Any]) -> Iterator[Signal]:
    """The end. A run that failed has told why before."""
    yield from _session(event)
    if event.get("exitCode") == 0 and type(event.get("exitCode")) is int:
        yield Signal(Mark.DONE)


_READERS = {
    "abort": _aborted,
    "assistant.message": _said,
    "model.call_failure": _refused,
    "result": _result,
    "session.error": _failed,
    "tool.execution_complete": _tool,
    "tool.execution_start": _tool,
}
