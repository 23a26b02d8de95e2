"""What an end meant, for agents that tell it in typed events: event, then status, then exit code, then text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from locum.agents.base import End, Mark, Signal, Success, Verdict
from locum.agents.resets import parse_reset
from locum.agents.rules import Match, Rule, Where, first_match
from locum.policy.failure import Failure, FailureKind

_LONGEST_EVIDENCE = 500
_LONGEST_SAID = 32_000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STATUSES = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.AUTH_ERROR,
    402: FailureKind.CREDIT_EXHAUSTED,
    403: FailureKind.AUTH_ERROR,
    404: FailureKind.MODEL_UNAVAILABLE,
    408: FailureKind.NETWORK,
    413: FailureKind.CONTEXT_OVERFLOW,
    422: FailureKind.INVALID_REQUEST,
    429: FailureKind.RATE_LIMIT,
    529: FailureKind.OVERLOADED,
}
# Kinds that vendors use for several things, so that the sentence beside them may say which.
_COARSE = frozenset(
    {FailureKind.RATE_LIMIT, FailureKind.USAGE_LIMIT, FailureKind.INVALID_REQUEST, FailureKind.UNKNOWN},
)
_FORBIDDEN = 403  # of a login, of money, of a place
_TIMED = frozenset({FailureKind.RATE_LIMIT, FailureKind.USAGE_LIMIT})
_SERVER = frozenset({FailureKind.SERVER_ERROR, FailureKind.OVERLOADED})
WORK = frozenset({Mark.SAID, Mark.PIECE, Mark.TOOL, Mark.TOOL_DONE})
"""The marks that tell of work: that there was some matters, not how much of it."""
_PROGRESS = WORK | {Mark.DONE, Mark.FAILED, Mark.RETRY, Mark.CUT}
_AGAIN = frozenset({Mark.RETRY, Mark.CUT})
_TOOLS = frozenset({Mark.TOOL, Mark.TOOL_DONE})
_NEVER_STARTED = {
    126: "is not executable: check its permissions",
    127: "was not found: install it, or mend the tier's `{setting}`",
}


@dataclass
class Pieces:
    """What an agent says in pieces, put together as they come."""

    _text: str = ""

    def join(self, signal: Signal) -> Signal:
        """`signal`, and if it is a piece, with all that was said before it in the same breath."""
        if signal.mark is Mark.PIECE:
            self._text = (self._text + signal.text)[-_LONGEST_SAID:]
            return structs.replace(signal, text=self._text)
        if signal.mark in _PROGRESS:
            self._text = ""
        return signal


def verdict(program: str, rules: Sequence[Rule], end: End, signals: Sequence[Signal]) -> Verdict:
    """What the end of a run of `program` meant, judged by its typed signals first and its texts last."""
    last = outcome(signals)
    if last is not None and last.mark is Mark.DONE:
        said = last.text or last_said(signals)
        return _lie(program, rules, end, signals, last, said) or Success(said)
    if last is not None:
        return judge(last, rules, end, signals)
    retry = _retrying(signals)
    if retry is not None and (end.exit in (None, 0) or killed_by(end.exit) is not None):
        return judge(retry, rules, end, signals)
    return (
        by_exit(program, end)
        or (_no_result(program) if end.exit == 0 else None)
        or by_text(rules, end)
        or Failure(FailureKind.UNKNOWN, last_line(end) or f"{program} ended with code {end.exit}", f"exit:{end.exit}")
    )


def outcome(signals: Sequence[Signal]) -> Signal | None:
    """The last thing the run said of its end: DONE, or all that its last failure told in one FAILED."""
    last: Signal | None = None
    for signal in signals:
        if signal.mark is Mark.DONE or (signal.mark is Mark.FAILED and (last is None or last.mark is Mark.DONE)):
            last = signal
        elif signal.mark is Mark.FAILED and last is not None:
            last = _both(last, signal)
    return last


def standing(signals: Sequence[Signal]) -> tuple[Signal, ...]:
    """These signals without a success that was told right behind a failure: for agents that say so whatever happened.

    One with work between the two stands, for the failure was overcome.
    """
    kept, failed = [], False
    for signal in signals:
        if signal.mark is Mark.DONE and failed:
            continue
        failed = signal.mark is Mark.FAILED or (failed and signal.mark not in WORK)
        kept.append(signal)
    return tuple(kept)


def judge(told: Signal, rules: Sequence[Rule], end: End, signals: Sequence[Signal]) -> Failure:
    """The failure that `told` (a FAILED, RETRY or CUT) is, with what limits and sentences add to it."""
    kind, rule = _typed(told)
    limit = _rejected(signals)
    match: Match | None = None
    if kind is FailureKind.RATE_LIMIT and limit is not None:
        kind, rule = FailureKind.USAGE_LIMIT, limit.rule
    elif kind is None or kind in _COARSE or kind is FailureKind.SERVER_ERROR or told.status == _FORBIDDEN:
        match = first_match(rules, "message", told.text, veto_limits=kind in _SERVER)
        if match is not None and kind in _SERVER and told.status is not None and match.rule.kind not in _SERVER:
            match = None  # the status says more than the sentence
        if match is not None and match.rule.kind is not kind:
            kind, rule = match.rule.kind, match.rule.id
    if kind is not FailureKind.USAGE_LIMIT:
        limit = None
    reset_ms = told.reset_ms or (limit.reset_ms if limit else None)
    throttled = kind is FailureKind.RATE_LIMIT
    waited = throttled and told.mark is Mark.RETRY  # as long as it was told to, and has tried again
    tells = match is None or match.rule.reset or throttled
    if reset_ms is None and not waited and kind in _TIMED and tells:
        reset_ms = parse_reset(told.text, end.ended_ms, end.timezone)
    return Failure(
        kind=kind or FailureKind.UNKNOWN,
        evidence=_evidence(told.text, match) or rule,
        rule=rule,
        reset_ms=reset_ms,
        window=(limit.window if limit else None) or (match.rule.window if match else None) or told.window,
        model=(limit.model if limit else None) or (match.model if match else None) or told.model,
        lost_session=match is not None and match.rule.lost_session,
    )


def by_exit(program: str, end: End, setting: str = "program") -> Failure | None:
    """The failure an exit code alone tells: never started, or killed. `setting` is the key that names the program."""
    if end.exit is None:
        return Failure(FailureKind.CRASH, f"{program} ended without an exit code: it or the machine was killed", "exit")
    if end.exit in _NEVER_STARTED:
        why = _NEVER_STARTED[end.exit].format(setting=setting)
        return Failure(FailureKind.CRASH, f"{program} {why}", f"exit:{end.exit}")
    signal = killed_by(end.exit)
    if signal is not None:
        return Failure(FailureKind.CRASH, f"{program} was killed by signal {signal}", f"exit:{end.exit}")
    return None


def by_text(rules: Sequence[Rule], end: End) -> Failure | None:
    """The failure a known sentence at the start of a line tells; standard error is asked first."""
    tails: tuple[tuple[Where, str], ...] = (("err", end.err_tail), ("out", end.out_tail))
    for where, tail in tails:
        match = first_match(rules, where, tail)
        if match is None:
            continue
        return Failure(
            kind=match.rule.kind,
            evidence=_evidence(match.line, match),
            rule=match.rule.id,
            reset_ms=parse_reset(match.line, end.ended_ms, end.timezone) if match.rule.reset else None,
            window=match.rule.window,
            model=match.model,
            lost_session=match.rule.lost_session,
        )
    return None


def killed_by(code: int) -> int | None:
    """The signal an exit code stands for (-n and 128 + n are one thing), or None."""
    if -64 <= code < 0:
        return -code
    return code - 128 if 128 < code <= 192 else None


def last_said(signals: Sequence[Signal]) -> str:
    """The last thing the agent said to its user, put together where it came in pieces."""
    pieces: list[str] = []
    for signal in reversed(signals):
        if signal.mark is Mark.PIECE:
            pieces.append(signal.text)
        elif pieces:
            break
        elif signal.mark is Mark.SAID:
            return signal.text
    return "".join(reversed(pieces))


def last_line(end: End) -> str:
    """The last line written, on standard error if there is one, for people."""
    lines = end.err_tail.strip().splitlines() or end.out_tail.strip().splitlines()
    return _evidence(lines[-1]) if lines else ""


def _lie(
    program: str, rules: Sequence[Rule], end: End, signals: Sequence[Signal], done: Signal, said: str
) -> Failure | None:
    """A success that was none: nothing was spent, or all there is of it is one known sentence."""
    if done.tokens is not None and not done.tokens and not end.tokens:
        return Failure(FailureKind.NO_RESULT, f"{program} said it was done, but no token was spent", "done:no_tokens")
    answer = said.strip()
    if any(signal.mark in _TOOLS for signal in signals) or len(answer) > _LONGEST_EVIDENCE:
        return None  # it has worked: what it says then is its own
    match = first_match(rules, "answer", answer)
    if match is None or match.line != answer:
        return None
    reset_ms = parse_reset(answer, end.ended_ms, end.timezone) if match.rule.reset else None
    return Failure(match.rule.kind, _evidence(answer, match), match.rule.id, reset_ms, match.rule.window, match.model)


def _no_result(program: str) -> Failure:
    return Failure(FailureKind.NO_RESULT, f"{program} ended with code 0 but told no result", "exit:0")


def _retrying(signals: Sequence[Signal]) -> Signal | None:
    """The retry the agent was still in, if nothing came of it: of a refusal, or of an answer that was cut off."""
    last = next((signal for signal in reversed(signals) if signal.mark in _PROGRESS), None)
    return last if last is not None and last.mark in _AGAIN else None


def _typed(told: Signal) -> tuple[FailureKind | None, str]:
    """The kind the event names, or its status where that is more precise."""
    if told.kind not in (None, FailureKind.UNKNOWN, FailureKind.SERVER_ERROR) or told.status is None:
        return told.kind, told.rule
    kind = _STATUSES.get(told.status, FailureKind.SERVER_ERROR if told.status >= 500 else None)
    if kind is None or kind is told.kind:
        return told.kind, told.rule
    return kind, f"status:{told.status}"


def _both(earlier: Signal, later: Signal) -> Signal:
    kinder = later if later.kind is not None else earlier
    return structs.replace(
        later,
        kind=kinder.kind,
        rule=kinder.rule if kinder.kind is not None else later.rule,
        text=later.text or earlier.text,
        status=later.status if later.status is not None else earlier.status,
        reset_ms=later.reset_ms if later.reset_ms is not None else earlier.reset_ms,
        window=later.window or earlier.window,
        model=later.model or earlier.model,
    )


def _rejected(signals: Sequence[Signal]) -> Signal | None:
    """Of the windows whose last reading is `rejected`, the one that opens last."""
    readings = {(signal.window, signal.model): signal for signal in signals if signal.mark is Mark.LIMIT}
    rejected = [signal for signal in readings.values() if signal.text == "rejected"]
    return max(rejected, key=lambda signal: signal.reset_ms or 0, default=None)


def _evidence(text: str, match: Match | None = None) -> str:
    """What people read: one line, bounded, without colours, with the remedy its rule knows at the end."""
    remedy = f" - {match.rule.remedy}" if match is not None and match.rule.remedy else ""
    return (" ".join(_COLOUR.sub("", text).split())[: max(0, _LONGEST_EVIDENCE - len(remedy))] + remedy)[
        :_LONGEST_EVIDENCE
    ]
