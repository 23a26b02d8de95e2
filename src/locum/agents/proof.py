"""Rules proved: each by what it was made for, and by what it must leave alone."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from locum.agents import lines
from locum.agents.base import Agent, End, Line, Mark, Signal, Source, Success, Verdict
from locum.agents.registry import agents
from locum.agents.replay import RECORDED_MS, STREAMS, TRANSCRIPT, Case, Reading, lines_of
from locum.agents.resets import parse_reset
from locum.agents.rules import SERVICE, SHIPPED, Rule, Where, first_match, rules_for
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens
from locum.words import iso

SUCCESS = "success"
NOTHING = "nothing"
_LIMITS = frozenset({FailureKind.RATE_LIMIT, FailureKind.USAGE_LIMIT})
_SERVER = (
    (None, 503),
    (FailureKind.SERVER_ERROR, 500),
    (FailureKind.SERVER_ERROR, None),
    (FailureKind.OVERLOADED, 529),
)
_WINDOW_WORDS = {
    "five_hour": ("session", "5-hour", "five-hour"),
    "daily": ("daily",),
    "seven_day": ("weekly", "7-day"),
    "monthly": ("monthly",),
}
_SPENT = Tokens(9, 9)


class What(StrEnum):
    """What is tried on a rule, or on all of them."""

    RUN = "run"  # a recorded run is judged as a person would
    SENTENCE = "sentence"  # what a rule was made for is told as its kind, by this rule
    TWIN = "twin"  # a sentence near to it, or in a quotation, is left alone
    WINDOW = "window"  # so are the same words about another window
    QUOTED = "quoted"  # a successful run whose answer quotes the sentence stays one
    SERVER = "server"  # a typed failure of the server with this sentence is no limit
    PROOF = "proof"  # the rule names what it was made for, and its twins


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing tried: `on` is the case or the sentence, `rule` whose proof it belongs to or who decided.

    `about` is the kind that it is a trial of, `expected` and `told` are failure kinds, `success` or `nothing`;
    `wrong` says what is not as it should be, or "".
    """

    what: What
    on: str
    about: str
    expected: str
    told: str
    rule: str = ""
    wrong: str = ""


def prove(own: Sequence[Rule], cases: Sequence[Case]) -> Iterator[Trial]:
    """Everything that is known of all rules, tried with the user's `own` ahead of the shipped ones."""
    known = agents(own)
    for case in cases:
        yield _judged(case, known, {rule.id for rule in own})
    for agent in known.values():
        rules = rules_for(agent.name, own)
        mine = [case for case in cases if case.agent == agent.name]
        sentences = {rule: tuple(_sentences(rule, mine)) for rule in rules if rule.agent in (agent.name, "*")}
        for rule in rules:
            if rule.origin != SERVICE:
                yield from _named(rule, agent.name, mine, sentences[rule])
                yield from _fits(rule, rules, agent, sentences[rule])
                yield from _left_alone(rule, agent, sentences[rule])
        yield from _quoted(agent, mine, sentences)


def proofs(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Those that went wrong."""
    return tuple(trial for trial in trials if trial.wrong)


def faults(wrong: Iterable[Trial], own: Iterable[Rule]) -> Iterator[str]:
    """What went wrong with the user's `own` rules, one sentence a rule; of other rules only where all that is theirs.

    `wrong` comes from `proofs` with these rules.
    """
    origins = {rule.id: rule.origin for rule in own}
    by_rule: dict[str, list[Trial]] = {}
    for trial in wrong:
        by_rule.setdefault(trial.rule if trial.rule in origins else "", []).append(trial)
    others = by_rule.pop("", [])
    for name, (first, *more) in by_rule.items() or [("", others)] if by_rule or others else ():
        whose = f"rule {name} ({origins[name]})" if name else f"with rules of your own, {first.rule or 'no rule'}"
        many = f" (and {len(more):,} more)" if more else ""
        on = "is not proved" if first.what is What.PROOF else f"fails on {first.what} {first.on!r}"
        yield f"{whose} {on}: {first.wrong}{many}"


# ── recorded runs ────────────────────────────────────────────────────────────────────────────────────────────


def _judged(case: Case, known: Mapping[str, Agent], own: Collection[str]) -> Trial:
    """Whether a recorded run is judged, and counted, as is expected of it."""
    reading, expected = case.replay(known), case.expected
    told = reading.verdict(case.end)
    wanted = expected["kind"] or SUCCESS
    rule = told.rule if isinstance(told, Failure) else ""
    differing = []
    if _kind(told) != wanted:
        differing.append(f"it is told as {_kind(told)}, not {wanted}")
    elif isinstance(told, Failure):
        facts: list[tuple[str, Any, Any]] = [
            ("window", told.window, expected["window"]),
            ("reset", iso(told.reset_ms), expected["reset"]),
            ("lost session", told.lost_session, expected["lost_session"]),
        ]
        if rule not in own:  # a rule of the user's own may tell the same in another name
            facts.append(("rule", rule, expected["rule"]))
        differing += [f"its {name} is told as {one}, not {other}" for name, one, other in facts if one != other]
    if reading.spent != Tokens(**expected["usage"]):
        differing.append(f"it is counted as {tuple(reading.spent)}")
    return Trial(What.RUN, case.name, wanted, wanted, _kind(told), rule, "; ".join(differing))


def texts(case: Case, reading: Reading) -> Iterator[tuple[Where, str]]:
    """What rules may be tried on in a recorded run."""
    for signal in reading.signals:
        if signal.mark in (Mark.FAILED, Mark.RETRY):
            yield "message", signal.text
    yield "err", case.end.err_tail
    yield "out", case.end.out_tail


# ── one rule ─────────────────────────────────────────────────────────────────────────────────────────────────


def _sentences(rule: Rule, cases: Sequence[Case]) -> Iterator[str]:
    """What the rule was made for: the line that it fits in its recorded run, and what somebody was told."""
    case = case_of(rule, cases)
    if case is not None:
        found = (first_match([rule], where, text) for where, text in texts(case, case.replay()))
        yield from (match.line for match in [next(filter(None, found), None)] if match)
    yield from rule.said


def case_of(rule: Rule, cases: Sequence[Case]) -> Case | None:
    """The recorded run among `cases` that the rule names, if it is there."""
    return next((case for case in cases if rule.case and rule.case in (case.meta["case"], case.name)), None)


def _named(rule: Rule, agent: str, cases: Sequence[Case], sentences: Sequence[str]) -> Iterator[Trial]:
    """That a rule names what proves it, and that this is there."""
    case = case_of(rule, cases)
    wrong = ""
    if not (rule.case or rule.said):
        wrong = "it names neither a recorded run (case) nor a sentence (said) that it is for"
    elif not rule.twins:
        wrong = "it names no twins: sentences near to its own that it must leave alone"
    elif rule.case and case is None:
        wrong = f"there is no recorded run {agent}/{rule.case}"
    elif case is not None and case.expected["kind"] != rule.kind:
        wrong = f"its recorded run {case.name} is {case.expected['kind'] or SUCCESS}, not {rule.kind}"
    elif case is not None and len(sentences) == len(rule.said):
        wrong = f"it does not fit its own recorded run {case.name}"
    yield Trial(What.PROOF, rule.case or "its sentences", rule.kind, rule.kind, rule.kind, rule.id, wrong)


def _fits(rule: Rule, rules: Sequence[Rule], agent: Agent, sentences: Sequence[str]) -> Iterator[Trial]:
    """That each of its sentences is told as its kind wherever it looks, and that no rule before takes it."""
    for sentence in sentences:
        wrong, told = "", str(rule.kind)
        for where in rule.where:
            match = first_match(rules, where, _among(where, sentence))
            if match is None:
                wrong, told = f"it does not fit this in `{where}`", NOTHING
            elif match.rule is not rule and not _same(match.rule, rule, sentence):
                wrong, told = f"{match.rule.id} takes this in `{where}` and tells {match.rule.kind}", match.rule.kind
            elif "message" in rule.where:
                verdict = agent.verdict(End(1, RECORDED_MS), [Signal(Mark.FAILED, sentence, rule="proof")])
                wrong = wrong or ("" if _kind(verdict) == rule.kind else f"it is told as {_kind(verdict)}")
        yield Trial(What.SENTENCE, sentence, rule.kind, rule.kind, told, rule.id, wrong)


def _same(taker: Rule, rule: Rule, sentence: str) -> bool:
    """Whether a rule of the user's own, asked before, says the same of a sentence."""
    if taker.origin == SHIPPED:
        return False
    means = [
        (each.kind, each.window, each.lost_session, each.reset and parse_reset(sentence, RECORDED_MS, "UTC"))
        for each in (taker, rule)
    ]
    return means[0] == means[1]


def _left_alone(rule: Rule, agent: Agent, sentences: Sequence[str]) -> Iterator[Trial]:
    """That it leaves alone its twins, quotations, other windows, and what a server says that fails."""
    near = [(What.TWIN, twin) for twin in rule.twins]
    near += [(What.TWIN, f'He was told "{sentence}"') for sentence in sentences]
    near += [(What.WINDOW, other) for sentence in sentences for other in _other_windows(rule, sentence)]
    for what, sentence in near:
        fits = any(_tells(rule, agent, where, sentence) for where in rule.where)
        wrong = f"it fits this, and tells {rule.kind}" if fits else ""
        yield Trial(what, sentence, rule.kind, NOTHING, rule.kind if fits else NOTHING, rule.id, wrong)
    if rule.kind in _LIMITS and "message" in rule.where:
        for sentence in sentences:
            failed = [Signal(Mark.FAILED, sentence, kind, status, rule="proof") for kind, status in _SERVER]
            told = [_kind(agent.verdict(End(1, RECORDED_MS), [each])) for each in failed]
            worst = next((kind for kind in told if kind in _LIMITS), "")
            wrong = f"a server that fails and says this is told as {worst}" if worst else ""
            yield Trial(What.SERVER, sentence, rule.kind, NOTHING, worst or NOTHING, rule.id, wrong)


def _tells(rule: Rule, agent: Agent, where: Where, sentence: str) -> bool:
    """Whether the rule would decide; in an answer it does so only when it fits the whole of it."""
    if where != "answer":
        return first_match([rule], where, _among(where, sentence)) is not None
    done = [Signal(Mark.DONE, sentence, tokens=_SPENT)]
    verdict = agent.verdict(End(0, RECORDED_MS, tokens=_SPENT), [Signal(Mark.SAID, sentence), *done])
    return isinstance(verdict, Failure) and verdict.rule == rule.id


def _other_windows(rule: Rule, sentence: str) -> Iterator[str]:
    """The sentence with the word for its window exchanged for those of the others."""
    if rule.window is None:
        return
    words = re.compile("|".join(map(re.escape, _WINDOW_WORDS[rule.window])), re.IGNORECASE)
    for window, (word, *_) in _WINDOW_WORDS.items():
        if window != rule.window and words.search(sentence):
            yield words.sub(word, sentence)


def _among(where: Where, sentence: str) -> str:
    """The sentence among others, as in a stream; an answer is looked at whole."""
    return sentence if where == "answer" else f"some words before\n{sentence}\nand some after"


# ── answers that quote ───────────────────────────────────────────────────────────────────────────────────────


def _quoted(agent: Agent, cases: Sequence[Case], sentences: Mapping[Rule, Sequence[str]]) -> Iterator[Trial]:
    """That a recorded success whose answer quotes a sentence at the start of a line stays one."""
    case, answer = _answered(cases)
    if case is None:
        return
    everything = "\n".join(sentence for each in sentences.values() for sentence in each)
    stays = isinstance(_quoting(agent, case, answer, everything), Success)
    for rule, each in sentences.items():
        for sentence in each:
            told = SUCCESS if stays else _kind(_quoting(agent, case, answer, sentence))
            wrong = "" if told == SUCCESS else f"{case.name}, quoting this in its answer, is told as {told}"
            yield Trial(What.QUOTED, sentence, rule.kind, SUCCESS, told, rule.id, wrong)


def _answered(cases: Sequence[Case]) -> tuple[Case | None, str]:
    """A recorded success with an answer in it that can be exchanged, and that answer."""
    for case in cases:
        told = None if case.expected["kind"] else case.verdict()
        if isinstance(told, Success) and told.said:
            out = case.text("stdout")
            if _exchanged(out, told.said, "other") != out:
                return case, told.said
    return None, ""


def _quoting(agent: Agent, case: Case, answer: str, sentence: str) -> Verdict:
    said = f"{answer}\nThe log says:\n{sentence}\nI have mended that."
    reading = Reading(agent)
    for source, name in (*STREAMS, (Source.TRANSCRIPT, TRANSCRIPT)):
        for line in _lines_saying(source, case.text(name), answer, said):
            reading.take(line)
    tails = (_exchanged(case.text(name), answer, said).decode(errors="replace") for _, name in STREAMS)
    out, err = tails
    return reading.verdict(replace(case.end, out_tail=out, err_tail=err))


def _lines_saying(source: Source, data: bytes, answer: str, said: str) -> Iterator[Line]:
    yield from lines_of(source, _exchanged(data, answer, said))


def _exchanged(data: bytes, answer: str, said: str) -> bytes:
    """What was written, with `said` wherever it says `answer`: as a value of JSON, or as a line of text."""
    parts = []
    for part in data.split(b"\n"):
        value = lines.parse(part)
        if value is not None:
            exchanged = _in_value(value, answer, said)
            parts.append(part if exchanged == value else json.dumps(exchanged).encode())
        else:
            parts.append(said.encode() if part.strip() == answer.encode() else part)
    return b"\n".join(parts)


def _in_value(value: Any, answer: str, said: str) -> Any:
    if isinstance(value, dict):
        return {key: _in_value(each, answer, said) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_value(each, answer, said) for each in value]
    return said if isinstance(value, str) and value.strip() == answer.strip() else value


def _kind(verdict: Verdict) -> str:
    return str(verdict.kind) if isinstance(verdict, Failure) else SUCCESS
