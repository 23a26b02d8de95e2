"""The first sentence says what goes on, where, and what comes next, for every state a chain can be in."""

from __future__ import annotations

import pytest

from locum.page.headline import headline
from tests.unit.page.scenes import NOW_MS, Read, chain, hold, tier

FREE = chain(tier("one", "active"), tier("two"))
LIMITED = chain(tier("one", "held", hold()), tier("two", "active"), tier("three"))
BY_HAND = chain(tier("one", "held", hold("operator", None)), tier("two", "active"))
DOUBTED = chain(tier("one", "probation"), tier("two", "active"))
STOPPED = chain(tier("one", "held", hold()), tier("two", "held", hold(until="2026-01-01T00:30:00Z")))
FOR_EVER = chain(tier("one", "held", hold("operator", None)))


@pytest.mark.parametrize(
    ("stands", "running", "tone", "now", "following"),
    [
        (FREE, {}, "quiet", "Idle. The next task starts on one.", "If one fails, two takes over."),
        (FREE | {"running": 1}, {"one": 1}, "good", "Working: 1 task runs on one.", "If one fails, two takes over."),
        (
            LIMITED | {"running": 2, "queued": 1},
            {"two": 2},
            "good",
            "Working: 2 tasks run on two, 1 task waits.",
            "one is held (usage_limit) until 02:10 (in 2 h 10 min), then it goes ahead of two again. If two fails, three",
        ),
        (
            FREE | {"running": 4},
            {"one": 2, "two": 1, "three": 1},
            "good",
            "Working: 4 tasks run on one, two and 1 other tier.",
            "If one fails, two takes over.",
        ),
        (FREE | {"queued": 2}, {}, "waiting", "2 tasks wait for a free place or directory; one is next.", ""),
        (FREE | {"paused": True}, {}, "waiting", "Paused: nothing new starts.", ""),
        (
            FREE | {"paused": True, "running": 1, "queued": 3},
            {"one": 1},
            "waiting",
            "Paused. 1 task still runs on one; nothing new starts, 3 tasks wait.",
            "",
        ),
        (BY_HAND, {}, "quiet", "Idle. The next task starts on two.", "one is held (operator) until released. If two"),
        (DOUBTED, {}, "quiet", "Idle.", "one is on probation and at work. If two fails, tasks wait."),
        (
            STOPPED | {"queued": 3},
            {},
            "stopped",
            "No tier is free, 3 tasks wait.",
            "two is held (usage_limit) until 00:30 (in 30 min). Then it takes over.",
        ),
        (
            FOR_EVER | {"running": 1},
            {"one": 1},
            "stopped",
            "No tier is free. 1 task runs to its end on one.",
            "No tier",
        ),
    ],
)
def test_every_state_has_its_sentence(stands, running, tone, now, following) -> None:
    """Work, idleness, a pause, a hold ahead of the tier in use, and no tier at all are told apart in words."""
    found = headline(stands, running, NOW_MS)
    assert found.tone == tone
    assert Read(found.now).text.startswith(now)
    assert Read(found.next).text.startswith(following)
