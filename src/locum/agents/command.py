"""Any program: judged by its exit code, or by the lines of a small protocol when it speaks that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Success, Verdict
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import WINDOW_MS, Failure, FailureKind
from locum.policy.usage import TOKEN_TYPES, Tokens, Usage

_PLACEHOLDER = re.compile(r"\{(prompt_file|cwd|run|model|session)\}")
_OURS = frozenset({FailureKind.OPERATOR, FailureKind.TOKEN_BUDGET})  # for locum to say, not for a program
_MOST_SAID = 2_000


class ProgramAgent:
    """A program of the user's own. `reports_usage` is False: its usage is known only as far as it reports any.

    | it wrote | it ended | verdict |
    | --- | --- | --- |
    | a failure, or a result with status "error", last | any way | that failure |
    | a result with status "ok" last | 0, or killed after it | success |
    | a result with status "ok" last | any other code | as if it had told no result |
    | no result | 0 | success |
    | no result | 126, 127, or killed | crash |
    | no result | any other code | a text rule, else crash |
    """

    name = "command"
    program = "command"
    reports_usage = False
    can_resume = False
    speaks_json = False
    variables: tuple[str, ...] = ()
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = ()

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the user's `own_rules`; none are shipped."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """The tier's argv with its placeholders filled; the prompt lies in a file and on standard input.

        `{prompt_file}`, `{cwd}`, `{run}`, `{model}` and `{session}` are filled in; other braces stay as they are.
        """
        assert launch.seat.command, "the config demands a command"
        values = {
            "prompt_file": str(launch.prompt_file),
            "cwd": str(launch.cwd),
            "run": launch.run,
            "model": launch.seat.model or "",
            "session": launch.resume or launch.fresh,
        }
        argv = tuple(_PLACEHOLDER.sub(lambda found: values[found[1]], part) for part in launch.seat.command)
        return Command((*argv, *launch.seat.args), dict(launch.seat.env), launch.prompt.encode("utf-8", "replace"))

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line tells; a malformed line of the protocol is plain output."""
        event = lines.parse(line.data) if line.source is Source.OUT else None
        reader = _READERS.get(lines.text(event.get("type"))) if event else None
        return tuple(reader(event, line)) if reader and event else ()

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """None: what it reports is on its standard output."""
        return ()

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """None, as above."""
        return ()

    def session_of(self, path: Path) -> str:  # noqa: ARG002
        """None: there is no transcript to belong to one."""
        return ""

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant, by the table at the head of this file."""
        failure = self._failure(end, signals)
        said = _said(end)
        return replace(failure, said=said) if failure else Success(said)

    def _failure(self, end: End, signals: Sequence[Signal]) -> Failure | None:
        told = judge.outcome(signals)
        killed = end.exit is None or judge.killed_by(end.exit) is not None
        if told is not None and told.mark is Mark.FAILED:
            return judge.judge(told, self._rules, end, signals)
        if end.exit == 0 or (told is not None and killed):
            return None
        why = judge.last_line(replace(end, out_tail=_said(end))) or f"it ended with code {end.exit}"
        return (
            judge.by_exit("the program", end, "command")
            or judge.by_text(self._rules, end)
            or Failure(FailureKind.CRASH, why, f"exit:{end.exit}")
        )

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:  # noqa: ARG002
        """None that are known."""
        return ()


def _said(end: End) -> str:
    plain = [part for part in end.out_tail.splitlines() if not _spoken(part)]
    return "\n".join(plain).strip()[-_MOST_SAID:]


def _spoken(part: str) -> bool:
    return lines.text((lines.parse(part.encode("utf-8", "replace")) or {}).get("type")) in _READERS


def _usage(event: Mapping[str, Any], line: Line) -> Iterator[Usage]:
    counts = [event.get(name, 0) for name in TOKEN_TYPES]
    tokens = Tokens(*map(lines.count, counts))
    name = lines.key(event.get("id"))
    if list(tokens) == counts and (tokens or event.keys() >= {"input", "output"}):  # nothing, told as both, is told
        key = f"{line.run}:{name}" if name else f"{line.run}@{line.offset}"
        yield Usage(key, tokens, lines.text(event.get("model")) or None, lines.session(line.session) or None)


def _failure(event: Mapping[str, Any], _line: Line) -> Iterator[Signal]:
    """A failure of a kind locum does not know, or keeps for itself, is still a failure."""
    name, window = lines.text(event.get("kind")), lines.text(event.get("window"))
    kind = FailureKind(name) if name in list(FailureKind) else FailureKind.UNKNOWN
    yield Signal(
        Mark.FAILED,
        lines.text(event.get("message")) or f"the agent told of {kind} without a message",
        kind=FailureKind.UNKNOWN if kind in _OURS else kind,
        reset_ms=lines.moment_ms(event.get("reset_at")),
        window=window if window in WINDOW_MS else None,
        model=lines.text(event.get("model")) or None,
        rule=f"failure:{lines.key(name) or 'unnamed'}",
    )


def _result(event: Mapping[str, Any], _line: Line) -> Iterator[Signal]:
    session = lines.session(event.get("session"))
    if event.get("status") not in ("ok", "error"):
        return
    if session:
        yield Signal(Mark.SESSION, session)
    if event["status"] == "ok":
        yield Signal(Mark.DONE)
    else:
        yield Signal(Mark.FAILED, lines.text(event.get("message")), rule="result:error")


_READERS: Mapping[str, Callable[[Mapping[str, Any], Line], Iterator[Usage | Signal]]] = {
    "failure": _failure,
    "result": _result,
    "usage": _usage,
}
