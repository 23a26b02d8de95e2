"""Every recorded run of every agent ends in the verdict and the tokens a person read from it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from locum.agents.base import Mark, Success
from locum.agents.registry import AGENTS
from locum.agents.replay import STREAMS
from locum.policy.failure import Failure
from locum.policy.usage import Tokens
from tests.corpus.replay import CORPUS, Case, cases, is_found_on_disk

every_case = pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)


def test_nothing_recorded_is_left_out() -> None:
    """Every folder of the corpus has an expectation, and there are as many as were recorded."""
    folders = {path.parent for path in CORPUS.glob("*/*/meta.json")}
    assert folders == {case.folder for case in cases()}
    assert len(folders) >= 96


@every_case
def test_a_recorded_run_is_judged_as_a_person_would(case: Case) -> None:
    """Kind, deciding rule, window, reset and lost session are what the recording shows."""
    told = case.verdict()
    expected = case.expected
    if expected["kind"] is None:
        assert isinstance(told, Success)
        return
    assert isinstance(told, Failure)
    assert (told.kind, told.rule) == (expected["kind"], expected["rule"])
    assert (told.window, told.lost_session) == (expected["window"], expected["lost_session"])
    reset_ms = expected["reset"] and round(datetime.fromisoformat(expected["reset"]).timestamp() * 1000)
    assert told.reset_ms == reset_ms
    assert told.evidence


@every_case
def test_a_recorded_run_is_counted_to_the_token(case: Case) -> None:
    """The tokens and the session are exactly those the provider issued for the run."""
    read = case.replay()
    assert read.spent == Tokens(**case.expected["usage"])
    assert (read.session or None) == case.expected["session"]


@every_case
def test_a_transcript_is_found_as_the_runner_finds_it(case: Case, tmp_path: Path) -> None:
    """Which transcripts a replay reads is what the runner's own search of the disk finds, before and after it."""
    session = case.expected["session"] or ""
    for told in ("", session):
        assert case.transcript_is_found(AGENTS[case.agent], told) == is_found_on_disk(case, told, tmp_path)


@every_case
def test_a_run_that_was_stopped_tells_nothing_false(case: Case) -> None:
    """A run the recorder had to stop never looks like a success, and claims a reset only after it has told its failure."""
    if case.expected["stopped"] is None:
        return
    told, marks = case.verdict(), {signal.mark for signal in case.replay().signals}
    assert isinstance(told, Failure)
    assert Mark.DONE not in marks
    assert told.reset_ms is None or Mark.FAILED in marks
    assert Mark.FAILED not in marks or case.name == "copilot/said.weekly_limit"  # it then waits for an answer, for ever


@every_case
def test_reading_again_counts_nothing_twice(case: Case) -> None:
    """A second reading of the same bytes, as after a restart, adds no key and no token."""
    read = case.replay()
    once = dict(read.by_key)
    for source, name in STREAMS:
        for line in case.lines(source, name):
            read.take(line)
    assert read.by_key == once
