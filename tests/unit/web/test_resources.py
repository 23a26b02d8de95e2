"""The parts of the API: each thing by its own path, page by page, and orders only on what was seen."""

from __future__ import annotations

import json

import anyio
import msgspec
import pytest

from locum.config.conceal import concealed
from locum.engine.redact import Redactor
from locum.policy.task import Run, RunState
from locum.policy.usage import Tokens, Usage
from locum.web import shapes
from locum.web.app import build
from locum.web.endpoint import encode
from tests.unit.web.asgi import CONFIG, Caller, supervised

pytestmark = pytest.mark.anyio


async def begun(boss, call, folder, tier=0):
    """A run in progress of a new task."""
    _, task = await call.post("/tasks", {"prompt": "x", "cwd": str(folder)})
    found = boss.ledger.plan.chains["default"].tiers[tier]
    now_ms = boss.clock.now_ms()
    run = Run(f"r-{task['id']}", task["id"], 1, "default", found, str(folder), RunState.RUNNING, now_ms)
    await boss.ledger.start_run(run, now_ms)
    return run


async def test_a_hold_shows_wherever_it_is_felt(tmp_path):
    """A tier of two chains that is bumped in one is held in both, and the hold says where it began."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await call.post("/chains/side/bump", {"reason": "upkeep"})
        (hold,) = (await call.get("/holds"))[1]["holds"]
        assert (hold["chain"], hold["tier"], hold["reason"]) == ("side", "two", "upkeep")
        assert hold["chains"] == ["default", "side"]
        _, tier = await call.get("/tiers/two")
        assert tier["chains"] == [{"chain": "default", "state": "held"}, {"chain": "side", "state": "held"}]
        assert [each["target"] for each in tier["holds"]] == [hold["target"]]
        assert [each["name"] for each in (await call.get("/tiers"))[1]["tiers"]] == ["one", "two"]
        assert (await call.get("/chains/side"))[1]["exhausted"] is True
        assert (await call.get("/tiers/none"))[0] == 404
        assert (await call.get("/chains/none"))[0] == 404


async def test_usage_is_told_by_hour_and_day_and_model(tmp_path):
    """What the rows of the history add up to is what was recorded, for each model and type, also when there is more."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        run = await begun(boss, call, tmp_path)
        now_ms = boss.clock.now_ms()
        for round_ in range(2):
            usages = [
                Usage(f"{round_}{model}", Tokens(10, 2, 3, 4), model, at_ms=now_ms) for model in ("opus", "haiku", None)
            ]
            await boss.ledger.record(run.id, usages, boss.clock.now_ms())
            for by in ("hour", "day"):
                rows = (await call.get("/usage/history", f"by={by}"))[1]["rows"]
                assert {(each["tier"], each["model"]) for each in rows} == {
                    ("one", "opus"),
                    ("one", "haiku"),
                    ("one", None),
                }
                assert sum(each["tokens"]["cache_write"] for each in rows) == 12 * (round_ + 1)
        (row,) = (await call.get("/usage/history", "by=day&model=opus&chain=default"))[1]["rows"]
        assert row["tokens"] == {"input": 20, "output": 4, "cache_read": 6, "cache_write": 8, "total": 38}
        assert (await call.get("/usage/history", "tier=two"))[1]["rows"] == []
        assert (await call.get("/audit"))[1]["clean"]


async def test_a_day_begins_where_its_zone_says(tmp_path):
    """The same hour is of another day in another zone."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        query = "by=day&start=2026-03-01T23:30:00Z&end=2026-03-02T12:00:00Z"
        assert (await call.get("/usage/history", query))[1]["start"] == "2026-03-01T00:00:00Z"
        told = (await call.get("/usage/history", query + "&timezone=Asia/Tokyo"))[1]
        assert told["start"] == "2026-03-01T15:00:00Z"


@pytest.mark.parametrize(
    "query",
    [
        "by=year",
        "start=yesterday",
        "start=2026-03-01T00:00:00",
        "timezone=Mars",
        "timezone=../../etc/passwd",
        "timezone=/etc/passwd",
        "by=hour&start=2026-01-01T00:00:00Z&end=2026-03-01T00:00:00Z",
        "start=2026-03-02T00:00:00Z&end=2026-03-01T00:00:00Z",
        "start=9999-12-31T23:59:59-12:00",
    ],
)
async def test_a_time_that_cannot_be_told_is_refused(tmp_path, query):
    """Times, zones and lengths that make no sense are a 400 with a remedy."""
    async with supervised(tmp_path) as boss:
        status, found = await Caller(build(boss)).get("/usage/history", query)
        assert (status, found["code"]) == (400, "usage")
        assert found["remedy"]


async def test_pages_hold_every_task_once(tmp_path):
    """Following `next` to its end tells every row, none twice, also when new ones come meanwhile."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        made = [(await call.post("/tasks", {"prompt": "x", "cwd": str(tmp_path)}))[1]["id"] for _ in range(7)]
        seen, query = [], "limit=3"
        while True:
            _, found = await call.get("/tasks", query)
            seen += [each["id"] for each in found["tasks"]]
            await call.post("/tasks", {"prompt": "late", "cwd": str(tmp_path)})
            if found["next"] is None:
                break
            query = f"limit=3&cursor={found['next']}"
        assert seen == made[::-1]
        for _ in range(5):
            await call.post("/chains/default/bump", {"tier": "one"})
        _, first = await call.get("/events", "limit=2")
        _, second = await call.get("/events", f"limit=2&cursor={first['next']}")
        assert [each["seq"] for each in first["events"] + second["events"]] == [1, 2, 3, 4]
        assert (await call.get("/tasks", f"cursor={first['next']}"))[0] == 400, "a cursor of another list"


@pytest.mark.parametrize(
    "cursor", ["x", "", "dGFza3M6", "ZXZlbnRzOng=", "%00", "ZXZlbnRzOi0x", "9" * 999, "ZXZlbnRzOuKCrA=="]
)
async def test_a_made_up_cursor_is_refused(tmp_path, cursor):
    """What is no cursor of the list is a 400."""
    async with supervised(tmp_path) as boss:
        assert (await Caller(build(boss)).get("/events", f"cursor={cursor}"))[0] == 400


async def test_an_order_on_what_has_changed_is_refused(tmp_path):
    """With If-Match only the first of two bumps that saw the same chain is carried out; each change has a new tag."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))

        async def tag():
            heads = []
            await call.stream("GET", "/chains/default", heads.append)
            return dict(heads[0]["headers"])[b"etag"].decode()

        seen, tags = await tag(), set()
        answers = [await call.post("/chains/default/bump", headers={"if-match": seen}) for _ in range(2)]
        assert [status for status, _ in answers] == [200, 412]
        assert answers[1][1]["code"] == "changed"
        assert (await call.get("/chains/default"))[1]["active_tier"] == "two"
        for verb in ("pause", "resume", "release"):
            tags.add(now := await tag())
            assert (await call.post(f"/chains/default/{verb}", headers={"if-match": f'"x", {now}'}))[0] == 200
        assert len(tags) == 2, "running again it is what it was"
        assert await tag() == seen
        assert (await call.post("/chains/default/pause", headers={"if-match": "*"}))[0] == 200


async def test_output_comes_in_pieces_without_secrets(tmp_path):
    """All pieces together are what was written, a secret across their border is masked, half a line is waited for."""
    secret = "s3cr3t-" + "x" * 40
    config = json.loads(json.dumps(CONFIG))
    config["failover"]["tiers"][0]["env"] = {"A_TOKEN": secret}
    async with supervised(tmp_path, config) as boss:
        call = Caller(build(boss))
        run = await begun(boss, call, tmp_path)
        spool = boss.spool(run.id)
        spool.create("x")
        line = "a" * ((64 << 10) - 20) + secret + "b" * 70_000 + "\n"
        spool.out.write_text(f"one\n{line}half")
        text, after = "", 0
        with anyio.fail_after(10):
            while True:
                _, found = await call.get(f"/tasks/{run.task}/output", f"after={after}")
                text, after = text + found["text"], found["after"]
                if not found["more"]:
                    break
        assert text == "one\n" + line.replace(secret, "•••")
        assert not found["ended"]
        assert (await call.get(f"/tasks/{run.task}/output", "after=99999999999"))[1]["text"] == ""
        assert (await call.get(f"/tasks/{run.task}/output", "run=2"))[0] == 404
        spool.out.unlink()
        spool.out.symlink_to("/etc/passwd")
        assert (await call.get(f"/tasks/{run.task}/output"))[1]["text"] == ""


def test_a_piece_of_text_never_ends_in_a_secret():
    """Wherever a piece is cut, its secrets are masked whole and it has at least one byte."""
    hide = Redactor(frozenset({"abcdefghij"}))
    data = b"123abcdefghij456abcdefghij"
    for most in range(1, len(data) + 1):
        text, rest = "", data
        while rest:
            told, size = hide.piece(rest[: most + hide.longest], most)
            text, rest = text + told, rest[size:]
        assert text.replace("•••", "") == "123456", most


def test_what_is_shown_of_the_configuration_holds_no_secret():
    """Plain values of the environment, whatever is called a secret, and the paths of addresses are masked."""
    shown = {
        "tiers": [{"env": {"A": "plain", "B": {"file": "x"}}, "args": ["--flag"], "base_url": "https://h:8/"}],
        "notify": {"hooks": [{"url": "https://hooks.example/T0/B0/xyz", "secret": ["whsec_1", {"env": "S"}]}]},
        "headers": {"authorization": "Bearer x"},
        "apprise": ["tgram://token@host/chat", "mailto://u:p@host", "bad://[::1"],
        "usage_threshold_tokens": 5,
    }
    assert concealed(shown) == {
        "tiers": [{"env": {"A": "********", "B": {"file": "x"}}, "args": ["--flag"], "base_url": "https://h:8"}],
        "notify": {"hooks": [{"url": "https://hooks.example/********", "secret": ["********", {"env": "S"}]}]},
        "headers": {"authorization": "********"},
        "apprise": ["tgram://host/********", "mailto://host/********", "********"],
        "usage_threshold_tokens": 5,
    }


async def test_every_answer_that_is_described_is_reached_by_a_path(tmp_path):
    """The page names each path of the router with its method, its parameters and its refusals."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        _, page = await Caller(app).get("/openapi.json")
        routes = {(route.path, method.lower()) for route in app.routes for method in route.methods - {"HEAD"}}
        assert {(path, method) for path, found in page["paths"].items() for method in found} | {
            ("/openapi.json", "get")
        } == routes
        assert page["openapi"] == "3.1.0"
        bump = page["paths"]["/chains/{chain}/bump"]["post"]
        assert [each["name"] for each in bump["parameters"]] == ["chain", "If-Match"]
        assert set(bump["responses"]) == {"200", "400", "401", "403", "404", "409", "412", "413", "500"}
        reached = json.dumps(page)
        for name in page["components"]["schemas"]:
            assert f"#/components/schemas/{name}" in reached, f"{name} is nobody's"


def test_an_answer_that_is_not_described_is_not_sent():
    """A key too many, one too few or another type cannot leave the daemon."""
    for wrong in ({"status": "ok", "more": 1}, {}, {"status": 1}):
        with pytest.raises(msgspec.ValidationError):
            encode(wrong, shapes.Health)


async def test_usage_is_worked_out_once_for_all_who_ask(tmp_path, monkeypatch):
    """Many who ask at once share one look into the ledger, and nobody is told less than was written before."""
    async with supervised(tmp_path) as boss:
        call, looked = Caller(build(boss)), []
        usages = boss.ledger.usages

        async def counted(*asked):
            looked.append(asked)
            return await usages(*asked)

        monkeypatch.setattr(boss.ledger, "usages", counted)
        run = await begun(boss, call, tmp_path)
        for number in range(1, 4):
            await boss.ledger.record(run.id, [Usage(f"k{number}", Tokens(5))], boss.clock.now_ms())
            async with anyio.create_task_group() as tasks:
                found = []

                async def ask(found=found):
                    found.append((await call.get("/usage"))[1]["used_tokens"])

                for _ in range(20):
                    tasks.start_soon(ask)
            assert found == [5 * number] * 20
            assert len(looked) == number
