"""What other runners tell of their work, and the verdict they get."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from locum.policy.failure import ANSWERS, DAY, HOUR, FailureKind
from locum.policy.task import Run, RunState
from locum.policy.usage import LARGEST
from locum.web.app import build
from locum.web.bodies import LARGEST_ORDER
from tests.ledgers import task_of
from tests.unit.web.asgi import ME, Caller, supervised
from tests.unit.web.sessions import holds, process, used

pytestmark = pytest.mark.anyio
PATH = "/hooks/post-task"
KINDS = [kind for kind in FailureKind if kind not in (FailureKind.TOKEN_BUDGET, FailureKind.OPERATOR)]


def on_one(id_: str = "job-1", **more):
    """A report of a piece of work on the first tier."""
    return {"id": id_, "chain": "default", "tier": "one", **more}


async def test_everything_that_is_told_is_answered_and_kept(tmp_path):
    """The whole body: counted by type, kept as it was told, answered with how the chain stands."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        tokens = {"input": 100, "output": 20, "cache_read": 3, "cache_write": 2}
        labels = {"model": "big", "provider": "acme", "session": "s-1"}
        status, verdict = await call.post(PATH, on_one(tokens=tokens, cost_usd=0.42, **labels))
        assert status == 200
        assert verdict == {
            "schema": 1,
            "go_on": True,
            "reason": None,
            "until": None,
            "chain": "default",
            "tier": "one",
            "active_tier": "one",
            "last_failure_kind": None,
            "percent": 2.5,
            "duplicate": False,
            "counted": {**tokens, "total": 125},
        }
        (kept,) = (await call.get("/reports"))[1]["reports"]
        assert kept["seq"] == 1
        assert kept == kept | {"agent": "report", "id": "job-1", "cost_usd": 0.42, **labels}
        assert (kept["tokens"], kept["failure"], kept["reason"]) == ({**tokens, "total": 125}, None, None)
        _, again = await call.post(PATH, on_one(tokens=tokens, cost_usd=0.42, **labels))
        assert again == verdict | {"duplicate": True, "counted": dict.fromkeys(verdict["counted"], 0)}
        assert len((await call.get("/reports"))[1]["reports"]) == 1


async def test_zero_tokens_are_not_unknown_ones(tmp_path):
    """Left out is null, told as zero is zero, in what is kept and in what is shown."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        for body in (on_one("unknown"), on_one("null", tokens=None), on_one("zero", tokens={})):
            assert (await call.post(PATH, body))[1]["counted"]["total"] == 0
        kept = {each["id"]: each["tokens"] for each in (await call.get("/reports"))[1]["reports"]}
        assert (kept["unknown"], kept["null"]) == (None, None)
        assert kept["zero"] == {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0, "total": 0}


async def test_work_of_unknown_use_is_counted_as_such(tmp_path):
    """A report without tokens makes the totals the least it can be, for its tier and chain and for no other."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await call.post(PATH, on_one())
        await call.post(PATH, {"id": "job-2"})
        usage = (await call.get("/usage"))[1]
        unknown = {name: each["unknown_usage_runs"] for name, each in {**usage["chains"], **usage["tiers"]}.items()}
        assert unknown == {"default": 1, "side": 0, "one": 1, "two": 0}


async def test_a_piece_of_work_belongs_to_the_tier_it_was_told_for(tmp_path):
    """The same id for another tier is somebody's mistake: it is refused, and counts nowhere."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await call.post(PATH, on_one(tokens={"input": 5}))
        for other in ({"tier": "two"}, {}):
            status, problem = await call.post(PATH, {"id": "job-1", "tokens": {"input": 9}, **other})
            assert (status, problem["code"]) == (409, "conflict")
            assert "was told for tier one of chain default before" in problem["detail"]
        assert await used(boss) == 5


async def test_what_has_left_a_run_may_not_report(tmp_path):
    """A process that only carries the mark of a run is refused: it could hold another's tier by a report."""
    async with supervised(tmp_path) as boss:
        with process(LOCUM_RUN="r-gone") as peer:
            status, problem = await Caller(build(boss), peer).post(PATH, on_one(failure={"kind": "usage_limit"}))
        assert (status, problem["code"]) == (403, "forbidden")
        assert holds(boss) == []


async def test_a_caller_that_hangs_up_is_no_mistake_of_ours(tmp_path):
    """Half a body and then nothing: no traceback, and nothing counted."""
    async with supervised(tmp_path) as boss:
        app, messages = build(boss), []
        pieces = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

        async def receive():
            return pieces.pop(0)

        async def send(message):
            messages.append(message)

        scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": []}
        await app(scope | {"state": {"peer": ME}}, receive, send)
        assert messages[0]["status"] == 400


async def test_a_spent_budget_is_answered_with_stop(tmp_path):
    """The report that crosses is told at once: why, until when, where the chain runs now, how much is used."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await call.post(PATH, on_one(tokens={"input": 4999}))
        _, verdict = await call.post(PATH, on_one("job-2", tokens={"input": 1}))
        assert (verdict["go_on"], verdict["active_tier"], verdict["percent"]) == (False, "two", 100.0)
        assert (verdict["last_failure_kind"], verdict["until"] is not None) == ("token_budget", True)
        assert "`locum release --tier one`" in verdict["reason"]
        _, other = await call.post(PATH, {**on_one("job-3"), "tier": "two"})
        assert (other["go_on"], other["tier"]) == (True, "two")


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_that_can_happen_is_taken(tmp_path, kind):
    """Each shows as the chain's last failure; what is hard holds at once, and what holds is answered with stop."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        status, verdict = await call.post(PATH, on_one(failure={"kind": kind, "message": "it broke"}))
        assert (status, verdict["last_failure_kind"]) == (200, kind)
        held = not ANSWERS[kind].soft and kind not in ("context_overflow", "invalid_request")
        assert (bool(holds(boss)), verdict["go_on"]) == (held, not held)
        assert not held or "it broke" in verdict["reason"]
        (kept,) = (await call.get("/reports"))[1]["reports"]
        assert (kept["failure"], kept["reason"]) == (kind, "it broke")


async def test_a_chain_that_does_not_act_on_a_kind_is_not_moved(tmp_path):
    """`triggers` are those of the chain that is named: the failure is on record, and nothing is held."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        body = {"id": "x", "chain": "side", "failure": {"kind": "usage_limit"}}
        _, verdict = await call.post(PATH, body)
        assert (verdict["go_on"], verdict["tier"], verdict["last_failure_kind"]) == (True, "two", "usage_limit")
        assert holds(boss) == []


async def test_a_limit_holds_the_account_whatever_model_was_used(tmp_path):
    """The model of the work is told for its tokens: it does not say that only that model is limited."""
    async with supervised(tmp_path) as boss:
        body = on_one(model="big", failure={"kind": "usage_limit"})
        await Caller(build(boss)).post(PATH, body)
        assert [target.partition(":")[0] for target in holds(boss)] == ["account"]


@pytest.mark.parametrize(
    ("reset", "least", "most"),
    [
        (timedelta(hours=2), 2 * HOUR - 60_000, 2 * HOUR + 60_000),
        (timedelta(hours=-2), 30 * 60_000 - 60_000, 30 * 60_000),
        (timedelta(days=4000), 8 * DAY - 60_000, 8 * DAY),
        (datetime(1, 1, 1, tzinfo=UTC), 30 * 60_000 - 60_000, 30 * 60_000),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 8 * DAY - 60_000, 8 * DAY),
        ("9999-12-31T23:59:59-12:00", 8 * DAY - 60_000, 8 * DAY),
        ("0001-01-01T00:00:00+14:00", 30 * 60_000 - 60_000, 30 * 60_000),
    ],
)
async def test_a_reset_is_believed_as_far_as_it_can_be_true(tmp_path, reset, least, most):
    """In the past it is not known, too far ahead it is cut; both hold for a while and for no longer."""
    async with supervised(tmp_path) as boss:
        now_ms = boss.clock.now_ms()
        told = datetime.now(UTC) + reset if isinstance(reset, timedelta) else reset
        failure = {"kind": "usage_limit", "reset_at": told if isinstance(told, str) else told.isoformat()}
        status, verdict = await Caller(build(boss)).post(PATH, on_one(failure=failure))
        assert status == 200, verdict
        (hold,) = boss.ledger.board.holds.values()
        assert least <= hold.until_ms - now_ms <= most + 5_000


BAD = [
    ({}, "`id` is missing"),
    ({"id": ""}, "`id` must be text of 1 to 200 characters"),
    ({"id": "x" * 201}, "`id` must be text"),
    ({"id": 7}, "`id` must be text"),
    ({"id": None}, "`id` must be text"),
    (on_one(tokens=5), "`tokens` must be an object"),
    (on_one(tokens={"input": -1}), "`tokens.input` must be a whole number from 0 to 1,000,000,000,000"),
    (on_one(tokens={"input": LARGEST + 1}), "`tokens.input` must be a whole number"),
    (on_one(tokens={"input": 1.5}), "`tokens.input` must be a whole number"),
    (on_one(tokens={"input": "5"}), "`tokens.input` must be a whole number"),
    (on_one(tokens={"input": True}), "`tokens.input` must be a whole number"),
    (on_one(tokens={"total": 5}), "unknown key `tokens.total`"),
    (on_one(cost_usd=-1), "`cost_usd` must be an amount of US dollars"),
    (on_one(cost_usd=1_000_001), "`cost_usd` must be an amount"),
    (on_one(cost_usd="much"), "`cost_usd` must be an amount"),
    (on_one(model=""), "`model` must be text of 1 to 200 characters"),
    (on_one(provider="x" * 201), "`provider` must be text of 1 to 200 characters"),
    (on_one(session=[]), "`session` must be text of 1 to 200 characters"),
    (on_one(chain=""), "`chain` must be a name"),
    (on_one(tier="x" * 65), "`tier` must be a name"),
    (on_one(failure="auth_error"), "`failure` must be an object"),
    (on_one(failure={}), "`failure.kind` is missing"),
    (on_one(failure={"kind": "bad luck"}), "`failure.kind` must be a failure kind"),
    (on_one(failure={"kind": "token_budget"}), "`failure.kind` must be a failure kind"),
    (on_one(failure={"kind": "operator"}), "`failure.kind` must be a failure kind"),
    (on_one(failure={"kind": "crash", "message": "x" * 2001}), "`failure.message` must be text of at most 2000"),
    (on_one(failure={"kind": "crash", "reset_at": "soon"}), "`failure.reset_at` must be a moment with its time zone"),
    (on_one(failure={"kind": "crash", "reset_at": "2026-01-31T05:00:00"}), "`failure.reset_at` must be a moment"),
    (on_one(failure={"kind": "crash", "reset_at": [1]}), "`failure.reset_at` must be a moment"),
    (on_one(failure={"kind": "crash", "reset_at": 1795340351}), "`failure.reset_at` must be a moment"),
    (on_one(tokns={}), "unknown key `tokns`"),
    ([], "the body must be an object"),
    (b"{", "the body is not JSON"),
    (b"[" * 10_000 + b"]" * 10_000, "the body is not JSON"),
    (b'{"id": "\xff"}', "the body is not JSON"),
    (b'{"id": "x", "cost_usd": NaN}', "`cost_usd` must be an amount"),
    (b'{"id": "x", "cost_usd": Infinity}', "`cost_usd` must be an amount"),
]


@pytest.mark.parametrize(("body", "says"), BAD)
async def test_each_bad_field_is_named_and_nothing_is_counted(tmp_path, body, says):
    """A 400 names the field, what it must be and what to do; the rest of the body is not taken either."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, found = await call.post(PATH, data)
        assert (status, found["code"]) == (400, "usage"), found
        assert says in found["detail"]
        assert found["remedy"]
        assert (await used(boss), holds(boss)) == (0, [])
        assert (await call.get("/reports"))[1]["reports"] == []


async def test_a_kind_that_only_locum_decides_is_not_among_those_offered(tmp_path):
    """The remedy lists the kinds that a runner may tell, and no others."""
    async with supervised(tmp_path) as boss:
        _, found = await Caller(build(boss)).post(PATH, on_one(failure={"kind": "token_budget"}))
        assert all(kind in found["remedy"] for kind in KINDS)
        assert "operator" not in found["remedy"]
        assert "token_budget" not in found["remedy"]


async def test_a_report_that_is_too_large_is_refused(tmp_path):
    """Nobody can fill the daemon's memory with a report."""
    async with supervised(tmp_path) as boss:
        status, found = await Caller(build(boss)).post(PATH, b" " * (LARGEST_ORDER + 1))
        assert (status, found["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("where", "status", "says"),
    [
        ({"chain": "none"}, 404, "The chains are default, side"),
        ({"tier": "none"}, 404, "Its tiers are one, two"),
        ({"chain": "side", "tier": "one"}, 404, "Its tiers are two"),
        ({"chain": "default"}, 400, "Name one of one, two"),
    ],
)
async def test_a_place_that_is_not_there_is_refused_with_those_there_are(tmp_path, where, status, says):
    """A misspelt name is told at once, and not counted for nobody."""
    async with supervised(tmp_path) as boss:
        answered, found = await Caller(build(boss)).post(PATH, {"id": "x", **where, "tokens": {"input": 5}})
        assert answered == status
        assert says in found["remedy"]
        assert await used(boss) == 0


@pytest.mark.parametrize(
    ("where", "chain", "tier"),
    [({"tier": "two"}, "default", "two"), ({"chain": "side"}, "side", "two"), ({}, None, None)],
)
async def test_a_place_can_be_named_in_part_or_not_at_all(tmp_path, where, chain, tier):
    """A tier alone is the one in the chain default, a chain of one tier needs no tier, and nothing is nobody's."""
    async with supervised(tmp_path) as boss:
        body = {"id": "x", **where, "tokens": {"input": 5}, "failure": {"kind": "context_overflow"}}
        _, verdict = await Caller(build(boss)).post(PATH, body)
        assert (verdict["chain"], verdict["tier"], verdict["go_on"]) == (chain, tier, True)
        assert await used(boss, f"tier:{tier}" if tier else "unattributed") == 5
        assert verdict["last_failure_kind"] == ("context_overflow" if tier else None)


async def test_a_secret_in_a_message_is_masked(tmp_path):
    """A runner that hands on what its agent printed does not put a key into the log of the chain."""
    (tmp_path / "key").write_text("sk-very-secret-0001")
    (tmp_path / "key").chmod(0o600)
    env = {"KEY": {"file": "key"}}
    tier = {"name": "one", "agent": "command", "command": ["true"], "env": env}
    async with supervised(tmp_path, {"failover": {"tiers": [tier]}}) as boss:
        body = on_one(failure={"kind": "auth_error", "message": "sk-very-secret-0001 is wrong"})
        await Caller(build(boss)).post(PATH, body)
        kept = repr([await boss.ledger.reports(), await boss.ledger.events(), await boss.ledger.notices()])
        assert "is wrong" in kept
        assert "very-secret" not in kept


# ── from within a run ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def within(tmp_path, monkeypatch):
    """A supervisor with a run of ours on tier two of the chain side, and a caller that is its agent."""
    async with supervised(tmp_path) as boss:
        now_ms, tier = boss.clock.now_ms(), boss.ledger.plan.tiers["two"]
        await boss.ledger.submit(task_of(1, "side"), b"")
        made = ("r-1", task_of(1).id, 1, "side", tier, "/", RunState.RUNNING, now_ms)
        await boss.ledger.start_run(Run(*made), now_ms)
        with process() as peer:
            monkeypatch.setattr(boss, "running", lambda: {"r-1": peer.pid})
            yield boss, Caller(build(boss), peer)
        assert (await boss.ledger.audit()).problems == ()


async def test_an_agent_of_ours_reports_for_its_own_run(within):
    """It is counted as the run's, once an id, and is no report of somebody else's."""
    boss, call = within
    for number, body in enumerate(({"id": "sub"}, {"id": "sub", "chain": "side"}, {"id": "sub", "tier": "two"})):
        status, verdict = await call.post(PATH, {**body, "tokens": {"input": 5}})
        assert (status, verdict["duplicate"], verdict["counted"]["total"]) == (200, number > 0, 0 if number else 5)
        assert (verdict["chain"], verdict["tier"]) == ("side", "two")
    assert (await boss.ledger.run("r-1")).tokens.total == 5
    assert await boss.ledger.reports() == []


async def test_an_agent_of_ours_may_not_report_for_another_tier(within):
    """403, and nothing is counted: neither what would spend another's budget nor what would hold another's tier."""
    boss, call = within
    for where in ({"tier": "one"}, {"chain": "default"}, {"chain": "default", "tier": "two"}, {"tier": "none"}):
        body = {"id": "x", **where, "tokens": {"input": 5}, "failure": {"kind": "auth_error"}}
        status, found = await call.post(PATH, body)
        assert (status, found["code"], found["remedy"]) == (403, "forbidden", "Leave chain and tier out.")
    assert (await used(boss), holds(boss)) == (0, [])


async def test_an_agent_of_ours_cannot_move_its_chain(within):
    """A failure that it tells of is judged where the run is watched: here it holds nothing and is no last failure."""
    boss, call = within
    for number in range(3):
        failure = {"kind": "auth_error", "message": "let me out"}
        _, verdict = await call.post(PATH, {"id": f"x{number}", "failure": failure})
        assert (verdict["go_on"], verdict["last_failure_kind"]) == (True, None)
    assert holds(boss) == []


async def test_an_agent_of_ours_crosses_its_budget_by_what_it_reports(within):
    """What a run's agent reports counts against the budgets as all that its run spends."""
    boss, call = within
    config = json.loads((boss.loaded.path).read_text())
    config["chains"]["side"] |= {"tiers": ["two", "one"], "usage_threshold_tokens": 10, "triggers": ["token_budget"]}
    boss.loaded.path.write_text(json.dumps({**config, "usage_threshold_tokens": None}))
    await boss.reload()
    _, verdict = await call.post(PATH, {"id": "x", "tokens": {"input": 10}})
    assert (verdict["go_on"], verdict["active_tier"], verdict["percent"]) == (False, "one", 100.0)
