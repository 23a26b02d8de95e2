"""Every rule that ships is proved by the corpus, and the proof finds every way in which a rule can be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import locum.agents
from locum.agents import judge, proof
from locum.agents.base import End, Signal, Success, Verdict
from locum.agents.claude_code import ClaudeCode
from locum.agents.proof import Trial, What, proofs, prove
from locum.agents.registry import AGENTS
from locum.agents.replay import cases
from locum.agents.rules import ADDED, SERVICE, SHIPPED, parse_rules, shipped
from locum.agents.score import OVERALL, percent, scores
from locum.policy.failure import FailureKind

CASES = cases()
SIGNALS = Path(locum.agents.__file__).parent / "signals"
SHIPPED_TRIALS = tuple(prove((), CASES))

GOOD = {
    "id": "mine.quota",
    "agent": "claude-code",
    "kind": "usage_limit",
    "window": "daily",
    "pattern": "The daily allowance of your team is used up",
    "said": "The daily allowance of your team is used up until tomorrow.",
    "twins": ["The daily allowance of your team is nearly used up"],
}


def wrongs(**changed: Any) -> list[Trial]:
    """What is wrong once this rule is asked first."""
    table = {key: value for key, value in {**GOOD, **changed}.items() if value is not None}
    return list(proofs(prove(parse_rules([table], origin=ADDED), CASES)))


@pytest.mark.parametrize("rule", [rule for name in AGENTS for rule in shipped(name)], ids=lambda rule: rule.id)
def test_every_shipped_rule_is_proved(rule: Any) -> None:
    """It fits what it names, and leaves alone twins, quotations, other windows and servers that fail."""
    mine = [trial for trial in SHIPPED_TRIALS if trial.rule == rule.id and trial.what is not What.RUN]
    assert not proofs(mine)
    whats = {trial.what for trial in mine}
    assert whats >= {What.PROOF, What.SENTENCE, What.TWIN}


def test_nothing_known_is_told_wrongly() -> None:
    """Every trial of every rule and every recorded run ends as it should, and every agent with runs quotes sentences."""
    assert not proofs(SHIPPED_TRIALS)
    agents = {case.agent for case in CASES}
    for agent in agents:
        one = next(rule for rule in shipped(agent) if rule.agent == agent)
        assert any(trial.what is What.QUOTED and trial.rule == one.id for trial in SHIPPED_TRIALS), agent


def test_every_file_of_signals_is_an_agents_or_everybodys() -> None:
    """A file that nobody reads proves nothing."""
    assert {path.stem for path in SIGNALS.glob("*.toml")} <= {*AGENTS, "any"}


def test_no_rule_fits_only_its_recording() -> None:
    """Other numbers, ids, apostrophes and endings than were recorded fit as well: vendors change those every day."""
    stuck = []
    for agent in AGENTS:
        for rule in shipped(agent):
            for trial in SHIPPED_TRIALS:
                if trial.rule == rule.id and trial.what is What.SENTENCE and "answer" not in rule.where:
                    line = rule.pattern.find(trial.on.encode())
                    assert line is not None
                    others = {
                        trial.on.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}"),
                        trial.on.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
                        f"{trial.on} (request 77f2)",
                        trial.on.replace("9", "7") if "429" not in trial.on and "529" not in trial.on else trial.on,
                    }
                    stuck += [(rule.id, each) for each in others if rule.pattern.find(each.encode()) is None]
    assert not stuck


def test_a_good_rule_of_ones_own_breaks_nothing() -> None:
    """A sentence that nobody knew, with a pattern that fits it alone, is proved."""
    assert not wrongs()


@pytest.mark.parametrize(
    ("changed", "what", "on"),
    [
        ({"case": "no.such.run"}, What.PROOF, "no.such.run"),
        ({"case": "ok.stream"}, What.PROOF, "ok.stream"),
        ({"case": "usage_limit.oauth"}, What.PROOF, "usage_limit.oauth"),
        ({"said": "Your team has no allowance"}, What.SENTENCE, "Your team has no allowance"),
        ({"pattern": "The daily allowance of your team is"}, What.TWIN, GOOD["twins"][0]),
        ({"pattern": ".*The daily allowance of your team is used"}, What.TWIN, f'He was told "{GOOD["said"]}"'),
        ({"pattern": r"The \w+ allowance of your team is used"}, What.WINDOW, "The weekly allowance of your team is used up until tomorrow."),
        ({"pattern": "The daily allowance of your team is used|Credit balance"}, What.SENTENCE, "Credit balance is too low"),
        ({"pattern": "The daily allowance of your team is used|Invalid API"}, What.RUN, "claude-code/auth.text.r0"),
        ({"pattern": "The daily allowance of your team is used|No conv", "where": ["err", "message"]}, What.RUN, "claude-code/badresume"),
    ],
)  # fmt: skip
def test_a_rule_that_is_wrong_is_found_out(changed: dict[str, Any], what: What, on: str) -> None:
    """Each way in which a rule can be wrong is told with the case or the sentence that shows it."""
    assert (what, on) in [(trial.what, trial.on) for trial in wrongs(**changed)]


@pytest.mark.parametrize("origin", [SHIPPED, ADDED])
@pytest.mark.parametrize("missing", ["said", "twins"])
def test_what_ships_or_is_added_must_name_its_proof(missing: str, origin: str) -> None:
    """A rule without a sentence or without twins is wrong; only in service.json it needs neither."""
    table = {key: value for key, value in GOOD.items() if key != missing}
    assert not proofs(prove(parse_rules([table], origin=SERVICE), CASES))
    found = proofs(prove(parse_rules([table], origin=origin), CASES))
    assert [(trial.what, trial.rule) for trial in found] == [(What.PROOF, "mine.quota")]


def test_a_rule_of_the_same_meaning_may_come_first() -> None:
    """Who says in a rule of his own what a shipped one says, of the same sentences, breaks nothing."""
    table = {
        "id": "mine.timed_out",
        "kind": "network",
        "pattern": "Request timed out",
        "said": "Request timed out",
        "twins": ["The request timed out"],
    }
    assert not wrongs(**table, window=None)


def test_an_agent_that_searches_its_answers_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that believes a sentence in the answer of a success fails the quotations of every one of its rules."""

    class Gullible(ClaudeCode):
        def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
            told = super().verdict(end, signals)
            return (judge.by_text(self._rules, End(1, 0, told.said)) or told) if isinstance(told, Success) else told

    monkeypatch.setattr(proof, "agents", lambda own: {**AGENTS, "claude-code": Gullible(own)})
    found = {trial.rule for trial in proofs(prove((), CASES)) if trial.what is What.QUOTED}
    assert found >= {rule.id for rule in shipped("claude-code") if "out" in rule.where}


def test_a_judge_that_believes_failing_servers_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge without the veto tells a limit where a server failed, and the proof of each rule for limits says so."""
    monkeypatch.setattr(judge, "_SERVER", frozenset())
    found = {trial.rule for trial in proofs(prove((), CASES)) if trial.what is What.SERVER}
    limits = {FailureKind.USAGE_LIMIT, FailureKind.RATE_LIMIT}
    assert found == {
        rule.id for name in AGENTS for rule in shipped(name) if rule.kind in limits and "message" in rule.where
    }


def test_figures_count_what_was_told_and_what_was_missed() -> None:
    """One crash told as a network failure costs the recall of one and the precision of the other; a twin told costs too."""
    tried = [
        Trial(What.RUN, "a", "crash", "crash", "network"),
        Trial(What.RUN, "b", "crash", "crash", "crash"),
        Trial(What.SENTENCE, "c", "network", "network", "network"),
        Trial(What.TWIN, "d", "network", "nothing", "network"),
        Trial(What.TWIN, "e", "network", "nothing", "nothing"),
        Trial(What.QUOTED, "f", "network", "success", "crash"),
        Trial(What.RUN, "g", "success", "success", "success"),
        Trial(What.PROOF, "h", "network", "network", "network"),
    ]
    found = {score.kind: score for score in scores(tried)}
    assert set(found) == {"success", "crash", "network", OVERALL}
    assert (found["crash"].recall, found["crash"].precision) == (1 / 2, 1 / 2)
    assert (found["network"].recall, found["network"].precision) == (1, 1 / 3)
    assert (found["success"].recall, found["success"].precision) == (1, 1)
    assert (found["network"].runs, found["network"].sentences, found["network"].left_alone) == (0, 1, 3)
    assert (found[OVERALL].recall, found[OVERALL].precision) == (2 / 3, 2 / 5)
    assert [percent(each) for each in (1.0, 0.9999, 1 / 3, None)] == ["100 %", "99.9 %", "33.3 %", "-"]
