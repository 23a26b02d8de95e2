"""Gemini CLI: `gemini` with streamed JSON, its chat log as the counting source, HTTP statuses as exit codes."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict, home_of
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage

_SETTINGS = {
    # The supervisor owns retries: ten of its own take minutes and say nothing on standard output.
    "general": {"enableAutoUpdate": False, "maxAttempts": 1},
    "privacy": {"usageStatisticsEnabled": False},
}
_BAD_INPUT = 42
EXITS: Mapping[int, FailureKind] = {
    41: FailureKind.AUTH_ERROR,
    _BAD_INPUT: FailureKind.INVALID_REQUEST,
    44: FailureKind.CRASH,  # its sandbox
    52: FailureKind.CRASH,  # its settings
    53: FailureKind.INVALID_REQUEST,  # a limit of turns that the user has set
}
"""What its own exit codes mean, and those of what was made of it."""
_ANSWERED = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 501, 502, 503, 504, 529)
STATUSES: Mapping[int, int] = {status & 255: status for status in _ANSWERED}
"""The HTTP status that an exit code is: it ends with the status, of which the system keeps eight bits."""
_REASONS = {"API_KEY_INVALID": FailureKind.AUTH_ERROR}  # a bad key is a 400 like any other
_STOPPED = ("Agent execution blocked", "Loop detected")  # warnings behind which nothing more may come
_HALTED = "stop_execution"
_STDERR = "stderr:"
_SHOWN = "[API Error: "
_RETRY = re.compile(
    r"Attempt \d+ failed(?: with status (?P<status>\d{3}))?[.:] (?:Retrying with backoff\.\.\. )?"
    r"(?:\w*Error: )?(?P<why>.*)"
)
_REPORTED = re.compile(r"Error when talking to Gemini API\b.*?\.json (?P<name>\w*Error): (?P<why>.*)")
_JSON = re.compile(r"^(?:\w{0,40}Error: )?(?=[\[{])", re.MULTILINE)
_TRIED = 50
"""Lines of a tail, the last ones, that are tried as the beginning of JSON."""
_THIS = "this"  # the model of a rule whose sentence says "this model"


class Gemini:
    """Google's Gemini CLI.

    Counted are the messages of its chat log, each by its id, and the run is reconciled to the sums of its `result`:
    those hold what was asked beside the conversation, and what was begun and given up. They leave thoughts out of the
    output, so the output is the total without the input.
    """

    name = "gemini"
    program = "gemini"
    reports_usage = True
    can_resume = True
    speaks_json = True
    variables: tuple[str, ...] = ("GEMINI_CLI_HOME",)
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = (b'"tokens"', b'"sessionId"')

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`gemini`, the prompt on its standard input, which makes it headless; its session id chosen by us.

        Its settings are given as the system's defaults, so whatever its user has set stays in force.
        """
        seat = launch.seat
        argv = (
            seat.program or self.program,
            *("--output-format", "stream-json"),
            *(("-m", seat.model) if seat.model else ()),
            *(("--resume", launch.resume) if launch.resume else ("--session-id", launch.fresh)),
            *("--approval-mode", "yolo", "--skip-trust", *seat.args),
        )
        env = {"NO_COLOR": "1", "GEMINI_CLI_SYSTEM_DEFAULTS_PATH": str(launch.folder / "gemini.json")}
        home = {"GEMINI_CLI_HOME": str(seat.home)} if seat.home else {}
        files = {"gemini.json": json.dumps(_SETTINGS).encode()}
        return Command(argv, {**env, **home, **seat.env}, launch.prompt.encode("utf-8", "replace"), files)

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its events, of its complaints or of its chat log tells."""
        match line.source:
            case Source.TRANSCRIPT:
                return tuple(_chat(line)) if lines.holds(line.data, self.tells) else ()
            case Source.ERR:
                return tuple(_complaint(line.data))
            case Source.OUT:
                return tuple(_event(lines.parse(line.data) or {})) or tuple(_session(line.data))

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """The session's chat logs, and those of its subagents.

        A log's name has only the beginning of the id; each resumption begins one more, which may stay empty.
        """
        if not lines.session(session):
            return ()
        chats = _chats(seat, env)
        return f"{chats}/session-*-{session[:8]}.jsonl", f"{chats}/{session}/*.jsonl"

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:
        """Every chat log, with those of subagents in folders beside it."""
        return (f"{_chats(seat, env)}/**/*.jsonl",)

    def session_of(self, path: Path) -> str:
        """The session whose subagent's log lies in its folder; of its own log the first row must tell."""
        return "" if path.parent.name == "chats" else lines.session(path.parent.name)

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant: its codes are its own, or the HTTP status that it failed with."""
        told, code = _outcome(end, signals), end.exit or 0
        if judge.outcome(told) is None and (code in EXITS or code in STATUSES):
            match = judge.by_text(self._rules, end) if code == _BAD_INPUT else None
            if match is not None:
                return match
            why = judge.last_line(end) or f"{self.program} ended with code {code}"
            told = (*told, Signal(Mark.FAILED, why, EXITS.get(code), rule=f"exit:{code}"))
        last = judge.outcome(told)
        if last is not None and last.mark is Mark.FAILED and last.status is None and code in STATUSES:
            told = (*told, Signal(Mark.FAILED, status=STATUSES[code], rule=last.rule))
        verdict = judge.verdict(self.program, self._rules, end, told)
        if isinstance(verdict, Failure) and verdict.model == _THIS:
            models = [each.model for each in signals if each.mark is Mark.SESSION and each.model]
            return replace(verdict, model=models[-1] if models else None)
        return verdict

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The file its login lies in."""
        return (_folder(seat, env) / "oauth_creds.json",)


def _folder(seat: Seat, env: Mapping[str, str]) -> Path:
    return home_of(seat, env, "GEMINI_CLI_HOME", "") / ".gemini"


def _chats(seat: Seat, env: Mapping[str, str]) -> str:
    """Glob pattern of the folders of chat logs, one a project."""
    return glob.escape(str(_folder(seat, env) / "tmp")) + "/*/chats"


def shown(text: str) -> str | None:
    """The failure that a text ends with, as Gemini CLI and what was made of it show one; a hint may stand below it."""
    _, found, tail = text.rpartition(_SHOWN)
    why, closed, hint = tail.rpartition("]")
    return why if found and closed and (not hint or hint.startswith("\n")) else None


def _outcome(end: End, signals: Sequence[Signal]) -> tuple[Signal, ...]:
    """What standard output told; where it did not tell the end, what it was as one piece, or standard error tells.

    Where neither does, the provider's error may be the last thing written on one of them, as JSON and nothing else;
    or it was said in place of an answer, and nothing was spent.
    """
    told = judge.standing([signal for signal in signals if not signal.rule.startswith(_STDERR)])
    last = judge.outcome(told)
    if last is not None:
        hollow = last.mark is Mark.DONE and last.tokens is not None and not (last.tokens or end.tokens)
        bare = _bare(judge.last_said(told)) if hollow else None
        return (*told, bare) if bare else told
    whole = lines.parse(end.out_tail.strip().encode("utf-8", "replace")) or {}  # --output-format json
    if "session_id" not in whole or whole.keys().isdisjoint(
        ("response", "stats", "error")
    ):  # an event, if it is the only one
        if judge.outcome(signals) is None and end.exit not in EXITS:  # its own codes say more than what it prints
            bare = _bare(end.err_tail) or _bare(end.out_tail)
            return (*signals, bare) if bare else tuple(signals)
        return tuple(signals)
    error = lines.table(whole.get("error"))
    return (*told, _failed(json.dumps(whole), "json") if error else _done(whole.get("response")))


def _bare(tail: str) -> Signal | None:
    """The error that the end of a stream is, as JSON on lines of its own. What has a type is an event, and no end."""
    text = tail.rstrip()
    for found in list(_JSON.finditer(text))[-_TRIED:]:
        whole = _tables(text[found.end() :])
        error = _answer(whole)
        if _message(error) and not any("type" in each for each in whole):
            return _refused(error, "json")
    return None


def _done(said: object) -> Signal:
    return Signal(Mark.DONE, lines.text(said))


def _failed(text: str, rule: str) -> Signal:
    """A failure as it is shown: a sentence, or the provider's whole answer as JSON."""
    why = shown(text) or text
    answer = _answer(_tables(why))
    return _refused(answer, rule, why) if answer else Signal(Mark.FAILED, why, rule=rule)


def _refused(answer: Mapping[str, Any], rule: str, why: str = "") -> Signal:
    """The failure that an error of the provider's is; `why`: how it was shown."""
    reasons = [lines.key(detail.get("reason")) for detail in lines.items(answer.get("details"))]
    known = next((reason for reason in reasons if reason in _REASONS), None)
    return Signal(
        Mark.FAILED,
        _message(answer) or why,
        _REASONS[known] if known else None,
        lines.status(answer.get("code")),
        rule=f"reason:{known}" if known else rule,
    )


def _answer(told: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The provider's error in what is shown as JSON: that itself, or the message of another."""
    error = next((lines.table(each.get("error")) for each in told), {})
    inner = _message(error)
    return (_answer(_tables(inner)) if inner.startswith(("{", "[")) else {}) or error


def _message(error: Mapping[str, Any]) -> str:
    message = lines.text(error.get("message"))
    return shown(message) or message


def _tables(text: str) -> tuple[Mapping[str, Any], ...]:
    """The objects that a text is as JSON: one, or a list of some; none when it is anything else."""
    data = text.strip().encode("utf-8", "replace")
    told = lines.parse(b'{"all":' + (data if data.startswith(b"[") else b"[%b]" % data) + b"}") or {}
    return tuple(lines.items(told.get("all")))


def _event(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    match event.get("type"):
        case "init":
            session = lines.session(event.get("session_id"))
            if session:
                yield Signal(Mark.SESSION, session, model=lines.text(event.get("model")) or None)
        case "message":
            said = lines.text(event.get("content"))
            if said and event.get("role") == "assistant":
                yield Signal(Mark.PIECE if event.get("delta") is True else Mark.SAID, said)
        case "tool_use" | "tool_result":
            yield from _tool(event)
        case "error":
            message = lines.text(event.get("message"))
            if event.get("severity") == "error" or message.startswith(_STOPPED):
                yield Signal(Mark.FAILED, message, rule="error")
        case "result":
            yield from _result(event)


def _tool(event: Mapping[str, Any]) -> Iterator[Signal]:
    name = lines.key(event.get("tool_id"))
    if name:
        yield Signal(Mark.TOOL if event["type"] == "tool_use" else Mark.TOOL_DONE, name)
    error = lines.table(event.get("error"))
    if error.get("type") == _HALTED:  # a hook has ended the run, which then ends as if it had gone well
        why = lines.text(event.get("output")) or "a hook stopped the run"
        yield Signal(Mark.FAILED, why, FailureKind.NO_RESULT, rule=f"tool_result:{_HALTED}")


def _result(event: Mapping[str, Any]) -> Iterator[Usage | Signal]:
    stats = lines.table(event.get("stats"))
    asked = lines.count(stats.get("input_tokens"))
    cached = min(asked, lines.count(stats.get("cached")))
    total = Tokens(asked - cached, max(0, lines.count(stats.get("total_tokens")) - asked), cached)
    if total and lines.counts(
        stats, "input_tokens", "total_tokens"
    ):  # a run cut short may say zero; what its messages cost is then the better count
        yield Signal(Mark.TOTAL, tokens=total)
    if event.get("status") == "success":
        yield Signal(Mark.DONE, tokens=total if lines.counts(stats, "total_tokens") else None)
    else:
        yield _failed(lines.text(lines.table(event.get("error")).get("message")), "result:error")


def _complaint(data: bytes) -> Iterator[Signal]:
    """What a line of standard error tells: that it tries again, or why it gave up. It may not be the end."""
    text = lines.text(data.decode("utf-8", "replace"))
    retry, reported = _RETRY.match(text), _REPORTED.match(text)
    if retry:
        why = _failed(retry["why"], "attempt")
        status = int(retry["status"]) if retry["status"] else why.status
        yield structs.replace(why, mark=Mark.RETRY, status=status)
    elif reported:
        told = _failed(reported["why"], reported["name"])
        yield structs.replace(told, rule=_STDERR + told.rule)
    else:
        yield from _session(data)


def _session(data: bytes) -> Iterator[Signal]:
    """The session, on a line of its own where all is one piece of JSON (`--output-format json`)."""
    line = data.strip()
    if line.startswith(b'"session_id"'):
        row = lines.parse(b"{" + line.removesuffix(b",") + b"}") or {}
        session = lines.session(row.get("session_id"))
        if session:
            yield Signal(Mark.SESSION, session)


def _chat(line: Line) -> Iterator[Usage | Signal]:
    """What one row of a chat log tells: whose it is, a message, or several that are set anew."""
    row = lines.parse(line.data) or {}
    session = lines.session(row.get("sessionId"))
    if session and row.get("kind") != "subagent":
        yield Signal(Mark.SESSION, session)
    for message in (row, *lines.items(lines.table(row.get("$set")).get("messages"))):
        yield from _usage(message, line.session)


def _usage(message: Mapping[str, Any], session: str) -> Iterator[Usage]:
    """What one message cost. The same message is written again with each of its tool calls."""
    used, key = lines.table(message.get("tokens")), lines.key(message.get("id"))
    tokens = lines.tokens(used.get("input"), used.get("output"), used.get("cached"))
    tokens += Tokens(lines.count(used.get("tool")), lines.count(used.get("thoughts")))
    if message.get("type") == "gemini" and key and tokens:
        model, at_ms = lines.text(message.get("model")) or None, lines.moment_ms(message.get("timestamp"))
        yield Usage(key, tokens, model, lines.session(session) or None, at_ms)
