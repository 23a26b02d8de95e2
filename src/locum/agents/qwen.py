"""Qwen Code: `qwen` with streamed JSON, which calls every failure a success; its chat log as the counting source."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict, home_of
from locum.agents.gemini import EXITS, shown
from locum.agents.rules import Rule, first_match, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens, Usage

_SETTINGS = {
    "$version": 4,
    "general": {"enableAutoUpdate": False},
    # It would ask the model for memories behind each turn, and the account pays.
    "memory": {"enableManagedAutoMemory": False, "enableManagedAutoDream": False},
    "model": {"generationConfig": {"maxRetries": 0}},
    "privacy": {"usageStatisticsEnabled": False},
    "security": {"auth": {"selectedType": "openai"}},
}
_ENV = {
    "NO_COLOR": "1",
    "QWEN_CODE_UNATTENDED_RETRY": "0",  # it would retry for ever
    "QWEN_DISABLE_AUTO_TITLE": "1",
}
_STATUS = re.compile(r"(?P<status>[45]\d\d) ")
_LONGEST_SHOWN = 2_000
"""Characters of what it says of a failure that are looked at: the longest that it knows has some 400."""
_TELEMETRY = "ui_telemetry"
_ANSWER, _ERROR = "qwen-code.api_response", "qwen-code.api_error"
_UNANSWERED = frozenset({"APIConnectionError", "APIConnectionTimeoutError"})


class Qwen:
    """Alibaba's Qwen Code.

    Counted are the rows of its chat log that tell of one answer of the model each, by the row's own id: a forked
    session's log repeats the row with that id. Not the sums of its `result`: those go on with a resumed session's.
    """

    name = "qwen"
    program = "qwen"
    reports_usage = True
    can_resume = True
    speaks_json = True
    variables: tuple[str, ...] = ("QWEN_HOME", "QWEN_RUNTIME_DIR")
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = (b'"qwen-code.api_',)

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`qwen`, the prompt on its standard input, which makes it headless; its session id chosen by us.

        Its settings are given as the system's defaults, so whatever its user has set stays in force.
        """
        seat = launch.seat
        argv = (
            seat.program or self.program,
            *("--output-format", "stream-json"),
            *(("-m", seat.model) if seat.model else ()),
            *(("--resume", launch.resume) if launch.resume else ("--session-id", launch.fresh)),
            *("--approval-mode", "yolo", *seat.args),
        )
        env = {**_ENV, "QWEN_CODE_SYSTEM_DEFAULTS_PATH": str(launch.folder / "qwen.json")}
        home = {"QWEN_HOME": str(seat.home)} if seat.home else {}
        files = {"qwen.json": json.dumps(_SETTINGS).encode()}
        return Command(argv, {**env, **home, **seat.env}, launch.prompt.encode("utf-8", "replace"), files)

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its events or of its chat log tells."""
        if line.source is Source.ERR:
            return ()
        if line.source is Source.TRANSCRIPT:
            return tuple(_row(line)) if lines.holds(line.data, self.tells) else ()
        data = line.data.strip()
        events = [lines.parse(data)]
        if data.startswith(b"["):  # --output-format json
            events = list(lines.items((lines.parse(b'{"all":' + data + b"}") or {}).get("all")))
        return tuple(item for event in events if event for item in _event(event))

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """The session's chat log, wherever its project's folder is. Its subagents write into the same."""
        if not lines.session(session):
            return ()
        return (f"{_chats(seat, env)}/{session}.jsonl",)

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:
        """Every session's chat log."""
        return (f"{_chats(seat, env)}/*.jsonl",)

    def session_of(self, path: Path) -> str:
        """The file's own name."""
        return lines.session(path.stem)

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant. A success told right behind a failure is none, nor one that only says a known failure."""
        told = judge.standing(signals)
        told, code = (*told, *self._shown_bare(end, told)), end.exit or 0
        if judge.outcome(told) is None and code in EXITS:
            why = judge.last_line(end) or f"{self.program} ended with code {code}"
            told = (*told, Signal(Mark.FAILED, why, EXITS[code], rule=f"exit:{code}"))
        if judge.outcome(told) is None and code == 0:  # which it is also after a failure
            match = judge.by_text(self._rules, end)
            if match is not None:
                return match
        return judge.verdict(self.program, self._rules, end, told)

    def _shown_bare(self, end: End, told: Sequence[Signal]) -> Iterator[Signal]:
        """The failure that Qwen Code says in place of an answer, without the brackets that usually stand around it.

        Nothing was spent then, no tool was used, and the first line is a sentence so plain that it is known on a stream
        of text as well. An answer that quotes one has spent tokens.
        """
        last = judge.outcome(told)
        spent = end.tokens or (last is not None and last.tokens)
        if spent or (last is not None and last.mark is Mark.FAILED) or any(each.mark is Mark.TOOL for each in told):
            return
        said = (last.text if last else "").strip() or judge.last_said(told).strip()
        match = first_match(self._rules, "out", said[:_LONGEST_SHOWN])
        if match is not None and said.startswith(match.line):
            yield Signal(Mark.FAILED, said, rule="said:bare")

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The files its login lies in: that of an account, and the settings, which may hold a key."""
        folder = _folder(seat, env)
        return folder / "oauth_creds.json", folder / "settings.json"


def _folder(seat: Seat, env: Mapping[str, str]) -> Path:
    return home_of(seat, env, "QWEN_HOME", ".qwen")


def _chats(seat: Seat, env: Mapping[str, str]) -> str:
    """Glob pattern of the folders of chat logs, one a project."""
    runtime = seat.env.get("QWEN_RUNTIME_DIR") or env.get("QWEN_RUNTIME_DIR")
    folder = Path(runtime) if runtime and Path(runtime).is_absolute() else _folder(seat, env)
    return f"{glob.escape(str(folder))}/projects/*/chats"


def _event(event: Mapping[str, Any]) -> Iterator[Signal]:
    match event.get("type"):
        case "system":
            session = lines.session(event.get("session_id"))
            if session and event.get("subtype") == "init":
                yield Signal(Mark.SESSION, session, model=lines.text(event.get("model")) or None)
        case "assistant":
            yield from _assistant(event)
        case "user":
            for block in lines.items(lines.table(event.get("message")).get("content")):
                if block.get("type") == "tool_result" and lines.key(block.get("tool_use_id")):
                    yield Signal(Mark.TOOL_DONE, lines.key(block["tool_use_id"]))
        case "result":
            yield from _result(event)


def _assistant(event: Mapping[str, Any]) -> Iterator[Signal]:
    """A message. One that ends with an error and has spent nothing is that error; else it only speaks of one."""
    message = lines.table(event.get("message"))
    blocks = lines.items(message.get("content"))
    said = "".join(lines.text(block.get("text")) for block in blocks if block.get("type") == "text")
    why = None if any(_tokens(message, "usage", *_STREAMED)) else shown(said)
    if why is not None:
        yield _failed(why, "assistant:api_error")
    elif said and not event.get("parent_tool_use_id"):
        yield Signal(Mark.SAID, said)
    for block in blocks:
        if block.get("type") == "tool_use" and lines.key(block.get("id")):
            yield Signal(Mark.TOOL, lines.key(block["id"]))


def _result(event: Mapping[str, Any]) -> Iterator[Signal]:
    """The end. It is a "success" whatever came of the request; what the last message told is kept in mind."""
    if event.get("subtype") == "success" and event.get("is_error") is False:
        total = _tokens(event, "usage", *_STREAMED)
        told = total or lines.counts(lines.table(event.get("usage")), *_STREAMED[:2])
        yield Signal(Mark.DONE, lines.text(event.get("result")), tokens=total if told else None)
    else:
        error = lines.text(lines.table(event.get("error")).get("message")) or lines.text(event.get("result"))
        yield _failed(shown(error) or error, f"result:{lines.key(event.get('subtype'))}")


_STREAMED = ("input_tokens", "output_tokens", "cache_read_input_tokens")
_LOGGED = ("input_token_count", "output_token_count", "cached_content_token_count")


def _tokens(told: Mapping[str, Any], name: str, asked: str, answered: str, cached: str) -> Tokens:
    """Qwen Code counts cached tokens into its input; here the types are kept apart. Thoughts are part of the output."""
    used = lines.table(told.get(name))
    read = min(lines.count(used.get(cached)), lines.count(used.get(asked)))
    return Tokens(lines.count(used.get(asked)) - read, lines.count(used.get(answered)), read)


def _failed(text: str, rule: str) -> Signal:
    found = _STATUS.match(text)
    status = lines.status(int(found["status"])) if found else None
    return Signal(Mark.FAILED, text[found.end() :] if found else text, status=status, rule=rule)


def _row(line: Line) -> Iterator[Usage | Signal]:
    """What one row of a chat log tells: an answer's cost, or a request that failed and may be tried again."""
    row = lines.parse(line.data) or {}
    payload, at_ms = lines.table(row.get("systemPayload")), lines.moment_ms(row.get("timestamp"))
    told = lines.table(payload.get("uiEvent"))
    if row.get("subtype") != _TELEMETRY:
        return
    if told.get("event.name") == _ANSWER:
        key, tokens = lines.key(row.get("uuid")), _tokens(payload, "uiEvent", *_LOGGED)
        if key and tokens:
            model, session = lines.text(told.get("model")) or None, lines.session(row.get("sessionId")) or None
            yield Usage(key, tokens, model, session, at_ms)
    elif told.get("event.name") == _ERROR and (at_ms is None or at_ms >= line.run_started_ms):
        failed = _failed(lines.text(told.get("error_message")), "")
        name, status = lines.key(told.get("error_type")), lines.status(told.get("status_code")) or failed.status
        unanswered = FailureKind.NETWORK if status is None and name in _UNANSWERED else None
        yield Signal(Mark.RETRY, failed.text or name, unanswered, status, rule=f"api_error:{name}")
