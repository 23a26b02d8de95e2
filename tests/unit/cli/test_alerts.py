"""alerts: what people read of notices, of channels in trouble, of replays and trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from locum.cli import doctor, plain
from locum.config.load import load_bytes
from locum.config.place import Place
from tests.unit.cli.daemon import answering

DONE = {
    "channel": "ops",
    "state": "sent",
    "attempts": 1,
    "first_attempt": "2026-11-22T02:40:00Z",
    "next_attempt": None,
    "ended": "2026-11-22T02:40:00Z",
    "status": 204,
    "answer": None,
    "count": 1,
    "folded_into": None,
}
FAILING = {
    **DONE,
    "channel": "chat",
    "state": "waiting",
    "attempts": 2,
    "next_attempt": "2100-01-01T00:00:00Z",
    "status": 500,
    "answer": "no\x1b[2J room",
}
FOLDED = {**DONE, "channel": "own", "state": "folded", "attempts": 0, "folded_into": "msg_0"}
GATHERED = {**DONE, "channel": "far", "count": 7}
ALERT = {
    "seq": 7,
    "id": "msg_1",
    "kind": "tier_bumped",
    "severity": "warning",
    "at": "2026-11-22T02:40:00Z",
    "chain": "default",
    "title": "a is\x1b[31m held",
    "message": "a is held.\nb goes on.",
    "link": "/",
    "data": {"tier": "a", "task": None},
    "deliveries": [DONE, FAILING, FOLDED, GATHERED],
}
WORKS = {
    "name": "ops",
    "type": "webhook",
    "waiting": 0,
    "oldest": None,
    "given_up": 0,
    "failures": 0,
    "failing_since": None,
    "last_sent": None,
    "disabled": None,
    "disabled_at": None,
}
BROKEN = {**WORKS, "name": "chat", "waiting": 3, "oldest": "2026-11-22T02:40:00Z", "failures": 2, "given_up": 1}
GONE = {**WORKS, "name": "own", "disabled": "410 Gone"}


def test_list_tells_what_became_of_each(cli, tmp_path):
    """One line a notice, one for its deliveries, and one for each channel in trouble; nothing steers the terminal."""
    answer = {"schema": 1, "alerts": [ALERT], "channels": [WORKS, BROKEN, GONE]}
    with answering(tmp_path / "locum.sock", {("GET", "/alerts"): answer}) as daemon:
        found = cli("alerts", "list", "--limit", "5", "--kind", "tier_bumped", "--failed")
    assert daemon.asked == [("GET", "/alerts?limit=5&kind=tier_bumped&failed=true", None)]
    first, became, chat, own = found.output.splitlines()
    assert first.startswith("msg_1")
    assert first.endswith("a is [31m held")
    assert became.strip().startswith("ops: sent, chat: waiting, failed 2 times, next try")
    assert became.endswith("(no [2J room), own: folded into msg_0, far: sent, with 6 others")
    assert chat.startswith("channel chat has failed 2 times in a row")
    assert "3 notices to look at" in chat
    assert "1 given up (locum alerts list --failed)" in chat
    assert own == "channel own is disabled: 410 Gone"
    assert "\x1b" not in found.output


def test_no_notices_are_told_as_such(cli, tmp_path):
    """An empty list is an answer."""
    with answering(tmp_path / "locum.sock", {("GET", "/alerts"): {"alerts": [], "channels": []}}):
        assert cli("alerts", "list").output == "no notices\n"


def test_show_tells_all_of_one(cli, tmp_path):
    """Kind, moment, message, numbers, and every channel's end."""
    with answering(tmp_path / "locum.sock", {("GET", "/alerts/msg_1"): ALERT}):
        lines = cli("alerts", "show", "msg_1").output.splitlines()
    assert lines[0] == "msg_1  tier_bumped  warning"
    assert lines[2:5] == ["  a is held.", "  b goes on.", "  tier: a"]
    assert lines[5] == "ops: sent, 1 attempt, answer 204"
    (tmp_path / "locum.sock").unlink()
    with answering(tmp_path / "locum.sock", {("GET", "/alerts/msg_1"): ALERT | {"deliveries": []}}):
        assert "no channel has taken it (yet)" in cli("alerts", "show", "msg_1").output


def test_replay_names_what_it_sends(cli, tmp_path):
    """What is sent again is told by channel; naming nothing is refused before anybody is asked."""
    answer = {"replayed": [{"channel": "ops", "messages": 2}]}
    with answering(tmp_path / "locum.sock", {("POST", "/alerts/replay"): answer}) as daemon:
        assert cli("alerts", "replay", "--channel", "ops").output == "ops: 2 messages to be sent again\n"
        assert cli("alerts", "replay").exit_code == 2
    assert daemon.asked == [("POST", "/alerts/replay", {"id": None, "channel": "ops"})]


@pytest.mark.parametrize(
    ("tried", "says", "code"),
    [
        ({"delivered": True, "status": 200, "answer": "hi"}, "delivered in 12 ms, answer 200: hi", 0),
        ({"status": 302, "answer": "a redirect"}, "NOT delivered in 12 ms, answer 302: a redirect", 1),
        ({"refused": True, "answer": "10.0.0.1, private"}, "refused in 12 ms: 10.0.0.1, private", 1),
    ],
)
def test_test_says_what_came_back(cli, tmp_path, tried, says, code):
    """Whether it got through, how long it took, the status and the first line; the exit code is 1 when it did not."""
    whole = {"channel": "ops", "milliseconds": 12, "delivered": False, "refused": False, "status": None, "answer": None}
    with answering(tmp_path / "locum.sock", {("POST", "/alerts/test"): {"tested": [whole | tried]}}):
        found = cli("alerts", "test", "ops")
        assert json.loads(cli("alerts", "test", "--json").output)["tested"][0]["channel"] == "ops"
    assert (found.output, found.exit_code) == (f"ops: {says}\n", code)


def test_status_names_channels_in_trouble_and_no_others():
    """A channel that works is no news, unless something was given up."""
    assert list(plain.channel_troubles([WORKS])) == []
    assert list(plain.channel_troubles([WORKS | {"given_up": 2}])) == [
        "channel ops works; 2 given up (locum alerts list --failed)"
    ]


def test_check_says_what_a_channel_lacks_and_what_it_is_for(monkeypatch):
    """A secret that is not there, a program that is not there, an extra that is not installed: all told beforehand."""
    monkeypatch.setattr(doctor, "is_there", lambda: False)
    channels = [
        {"name": "ops", "type": "webhook", "url": "https://example.com", "secret": {"env": "NO_SUCH"}, "chains": ["x"]},
        {"name": "own", "type": "command", "command": ["no-such-program"], "severity": "critical"},
        {"name": "far", "type": "apprise", "url": {"env": "NO_SUCH"}, "kinds": ["tier_bumped"]},
    ]
    tier = {"name": "a", "agent": "command", "command": ["true"]}
    told = {"failover": {"tiers": [tier]}, "chains": {"x": {"tiers": ["a"]}}, "notify": channels}
    loaded = load_bytes(Path("/srv/service.json"), json.dumps(told).encode(), Place(Path("/srv"), Path("/root")))
    doubts = [each for each in doctor.doubts(loaded, {"PATH": "/usr/bin:/bin"}) if each.startswith("channel")]
    assert [each.split(":")[0] for each in doubts] == ["channel ops", "channel own", "channel far", "channel far"]
    assert "NO_SUCH" in doubts[0]
    assert "no-such-program is not on PATH" in doubts[1]
    assert "locum[apprise]" in doubts[2]
    assert [each for each in doctor.understood(loaded) if each.startswith("channel")] == [
        "channel ops: notices about x, by webhook",
        "channel own: notices, critical or graver, by command",
        "channel far: tier_bumped, by apprise",
    ]
