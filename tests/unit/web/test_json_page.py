"""docs/specs/json.md and the answers it describes, key by key."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from locum.agents.replay import CORPUS
from locum.cli.client import Client
from locum.cli.main import locum
from locum.cli.work import submitted
from locum.drill.evidence import Held
from locum.drill.promises import Breach
from locum.drill.report import Happening, Result, as_json
from locum.engine.post_task import result
from locum.engine.spool import Spool
from locum.policy.delivery import Outcome, Wanted
from locum.policy.failure import DAY, Failure, FailureKind
from locum.policy.plan import Tier
from locum.policy.task import Ending, PostTaskState, Run, RunState
from locum.policy.usage import Tokens, Usage
from locum.policy.vendor import VendorWindow
from locum.store.ledger import Ledger
from locum.store.worker import InlineWorker
from locum.web.app import build
from tests.ledgers import START, plan_of, started
from tests.unit.web.asgi import CONFIG, Caller, supervised

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).resolve().parents[3] / "docs" / "specs" / "json.md"
PIECE = {"tier": "one", "tokens": {"input": 3}, "model": "m", "provider": "p", "session": "s", "cost_usd": 0.01}
NOBODY = {"name": "ops", "type": "webhook", "url": "http://127.0.0.1:9", "allow_private": ["127.0.0.1"]}
WATCHED = [{"agent": "codex", "home": "watched"}]
RELOADED = {"result": "applied", "path": "p", "problems": ["none"]}
_PARTS = "standing,hold,measure,tokens,task fields,attempt,followed by,vendor window,score,watched homes,tier fields,token fields,channels,alert fields"
_READ = "status,usage,tasks,explain,events,notices,reports,audit,chains,chain,tiers,tier,holds,usage history"
PARTS = {"chain": "chains/default", "tier": "tiers/one", "usage history": "usage/history"}
"""Where what is read lies, if not under its own name."""
SHAPES = set(_PARTS.split(","))
"""Sections that are parts of others."""


def sections():
    """What each section of the page says of keys: rows of a path and the section it links to, if any."""
    found = {}
    for part in PAGE.read_text().split("\n## ")[1:]:
        rows = []
        for row in re.findall(r"^\| (`.*?|\(top\)) \| (.*) \|$", part, re.MULTILINE):
            link = re.search(r"\]\(#([a-z-]+)\)", row[1])
            shape = link[1].replace("-", " ") if link else None
            rows += [(name, shape) for name in re.findall(r"`([^`]+)`", row[0]) or [""]]
        found[part.partition("\n")[0]] = rows
    return found


def documented(page, name):
    """Every path to a value in the answers of that section."""
    paths = set()
    for path, shape in page[name]:
        inside = documented(page, shape) if shape else set()
        paths |= {f"{path}.{each}".lstrip(".") for each in inside} or {path}
    return paths


def paths_of(value, path=()):
    """Every path, step by step, to a value that is neither an object nor a list of objects; and whether it is empty."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from paths_of(each, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for each in value:
            yield from paths_of(each, (*path, "[]"))
    else:
        yield path, value in (None, [], {})


def steps_of(known):
    """The steps of a documented path."""
    return re.findall(r"\[\]|[^.\[]+", known)


def begins(known, path):
    """Whether the documented path begins with this one: `*` is any name."""
    steps = steps_of(known)
    return len(steps) >= len(path) and all(a in ("*", b) for a, b in zip(steps, path, strict=False))


def compare(name, answers, page):
    """Fail for a key that is not documented, and for a documented one that no answer has."""
    known, seen = documented(page, name), set()
    for path, empty in (each for answer in answers for each in paths_of(answer)):
        found = {each for each in known if begins(each, path)}
        whole = {each for each in found if len(steps_of(each)) == len(path)}
        assert whole or (empty and found), f"{name}: {'.'.join(path)} is not documented"
        seen |= whole
    assert known <= seen, f"{name}: no answer has {sorted(known - seen)}"


async def lived(boss, call, folder):
    """A task that failed over after a bump and a release, and whose post_task failed; its id."""
    _, task = await call.post("/tasks", {"prompt": "x", "cwd": str(folder)})
    tiers, now_ms = boss.ledger.plan.chains["default"].tiers, boss.clock.now_ms()
    await call.post("/chains/default/bump")
    await call.post("/chains/default/release")
    failure = Failure(FailureKind.AUTH_ERROR, "401", rule="status:401")
    for number, (state, verdict) in enumerate(((RunState.FAILED, failure), (RunState.SUCCEEDED, None)), 1):
        run = Run(
            f"r-{number}", task["id"], number, "default", tiers[number - 1], str(folder), RunState.RUNNING, now_ms
        )
        await boss.ledger.start_run(run, boss.clock.now_ms())
        spool = boss.spool(run.id)
        spool.create("x")
        spool.out.write_text("working\n")
        await boss.ledger.record(run.id, [Usage("k", Tokens(5, 5))], boss.clock.now_ms())
        await boss.ledger.end_run(run.id, Ending(state, exit=number - 1, said="hi"), verdict, boss.clock.now_ms())
    await boss.ledger.post_tasks.start(task["id"], now_ms)
    await boss.ledger.post_tasks.end(task["id"], PostTaskState.FAILED, 3, "exit code 3: no", boss.clock.now_ms())
    return task["id"]


async def rejected(boss, call, folder):
    """The configuration as it is shown when a newer edit of it is refused, and something in it does little."""
    path = folder / "service.json"
    before = path.read_text()
    warned = json.loads(before) | {"usage_reset": "all"}
    warned["failover"]["tiers"][0]["env"] = {"TOKEN": "plain", "KEY": {"env": "KEY"}}
    for text in (json.dumps(warned), "{"):
        path.write_text(text)
        await call.post("/reload")
    _, found = await call.get("/config")
    assert found["config"]["failover"]["tiers"][0]["env"] == {"TOKEN": "********", "KEY": {"env": "KEY"}}
    path.write_text(before)
    await call.post("/reload")
    return found | {"config": {}}  # its keys are another page's: service.json has them from its schema


async def read(boss, call, task, folder):
    """What can be read of a service in which a task has lived."""
    found = {name: [(await call.get(f"/{PARTS.get(name, name)}"))[1]] for name in _READ.split(",")}
    found["output"] = [(await call.get(f"/tasks/{task}/output", "run=1"))[1]]
    found["config"] = [await rejected(boss, call, folder)]
    call.app.state.network.address = ("127.0.0.1", 1)  # as if it listened
    for name, path in (("token created", "tokens"), ("login link", "logins")):
        found[name] = [(await call.post(f"/{path}", {"name": "a", "lasts": "1h"} if path == "tokens" else {}))[1]]
    found["all tokens"] = [(await call.get("/tokens"))[1]]
    found["token revoked"] = [(await call.post("/tokens/a/revoke"))[1]]
    return found | {"task": [(await call.get(f"/tasks/{task}"))[1]]}


async def followed(app, task, **more):
    """What a follower of the task is told."""
    messages = []
    await Caller(app).stream("GET", f"/tasks/{task}/follow", messages.append, **more)
    return [json.loads(line) for each in messages for line in each.get("body", b"").splitlines()]


async def waiting(app, call, folder):
    """What a follower of a task that waits is told at first."""
    await call.post("/chains/side/pause")
    _, task = await call.post("/tasks", {"prompt": "x", "cwd": str(folder), "chain": "side", "shared_cwd": True})
    told, gone = [], anyio.Event()

    def take(message):
        if message.get("body"):
            told.append(json.loads(message["body"]))
            gone.set()

    with anyio.fail_after(5):
        await Caller(app).stream("GET", f"/tasks/{task['id']}/follow", take, gone=gone)
    return task, told


async def unexplained(state):
    """The ledger and the spool of a host on which two runs failed for reasons that no rule knew."""
    ledger = await Ledger.open(state / "locum.db", plan_of(), START, InlineWorker())
    for number, words in enumerate(("what?", "The moon"), 1):
        run = await started(ledger, number, Tier("a", "codex", "acme"))
        spool = Spool(state / "runs" / run.id)
        spool.create("x")
        spool.err.write_text(words)
        failure = Failure(FailureKind.UNKNOWN, words)
        await ledger.end_run(run.id, Ending(RunState.FAILED, exit=1), failure, START + number)
    await ledger.close()


async def rules_told(folder):
    """What the verbs of rules answer: of a run, of rules, of a proof that fails, of a rule that comes and goes."""
    config = folder / "ruled" / "service.json"
    config.parent.mkdir()
    await unexplained(config.parent)
    wide = {"id": "wide", "agent": "codex", "kind": "crash", "pattern": "You.ve hit", "model": "m"}
    config.write_text(json.dumps({"failover": {"tiers": [{"name": "one", "agent": "codex"}]}, "signals": [wide]}))

    def told(*asked):
        done = CliRunner().invoke(
            locum, ["--config", str(config), "--state", str(config.parent), "signals", *asked, "--json"]
        )
        return json.loads(done.stdout)

    limit = CORPUS / "claude-code" / "usage_limit.oauth" / "stdout"
    explained = told("explain", "--agent", "claude-code", "--exit", "1", "--stdout", str(limit))
    rule = ["--id", "mine", "--agent", "codex", "--kind", "crash", "--pattern", "The moon", "--said", "The moon"]
    rule += ["--twin", "A moon"]
    added, unknown = told("add", *rule), told("list", "--unknown")
    return {
        "signals explain": [explained],
        "signals list": [told("list")],
        "signals test": [told("test")],
        "signals add": [added, {**told("remove", "mine"), "trials": 0, "kept": "", "daemon": RELOADED}],
        "signals unknown": [unknown],
    }


def rehearsed():
    """What a drill that found something would print."""
    result = Result(
        "auth",
        "logins are refused",
        0,
        breaches=(Breach("one path", "it was used again"),),
        notes=("it does not move",),
        unrehearsed={("one", "cut"): "no run was recorded"},
        failovers=(0.1,),
        holds=(Held("tier:one", "crash", "default", "one", "t-1", 1, 2, 3, "why", None),),
        timeline=(Happening(5, "default", "one", "runs"),),
        log="ready",
    )
    return json.loads(json.dumps(as_json("service.json", [result])))


async def imported(boss, app, folder):
    """What is told of imports: one that uses a budget up, and one that fails."""
    usage = {"input_tokens": 10**7}
    row = {"type": "assistant", "sessionId": "s", "message": {"id": "m", "usage": usage}}
    there = folder / "claude" / "projects" / "p"
    there.mkdir(parents=True)
    (there / "s.jsonl").write_text(json.dumps(row) + "\n")
    found = []
    for broken in (False, True):
        if broken:
            boss.ledger.record_history = None
            (there / "t.jsonl").write_text(json.dumps(row) + "\n")
        messages = []
        async with anyio.create_task_group() as group:
            boss.history.begin(group)
            with anyio.fail_after(30):
                await Caller(app).stream("POST", "/import", messages.append, body=b"{}")
        found += [json.loads(line) for each in messages for line in each.get("body", b"").splitlines()]
    return found


async def alerted(boss, call):
    """What is told of notices: one that a channel gave up on, one that is tried again, and what asking for them says."""
    rows = boss.ledger.outbox
    ends = [(True, 0), (False, 0), (False, 3 * DAY)]
    for told, later_ms in ends:
        claim = await rows.next(Wanted("ops"), boss.clock.now_ms() + later_ms)
        outcome = Outcome(told=told, why="no", status=500)
        await rows.end(claim, outcome, Wanted("nobody"), boss.clock.now_ms() + later_ms, 0.0)
        if not later_ms:
            stands = (await call.get("/status"))[1]
    last = (await call.get("/alerts"))[1]
    return {
        "status": [stands],
        "alerts": [last, (await call.get("/alerts", "failed=true"))[1]],
        "alert": [(await call.get(f"/alerts/{each['id']}"))[1] for each in last["alerts"]],
        "alerts replay": [(await call.post("/alerts/replay", {"channel": "ops"}))[1]],
        "alerts test": [(await call.post("/alerts/test", {}))[1]],
    }


async def test_every_answer_has_the_keys_of_the_page_and_no_others(tmp_path, monkeypatch):
    """A program written from the page alone finds every key it reads about, and meets none that it does not."""
    page = sections()
    answers = {name: [] for name in page if name not in SHAPES}
    more = {"notify": [NOBODY], "post_task": {"command": ["true"]}, "usage_sources": WATCHED}
    paid = {"tiers": [{"name": "paid", "agent": "claude-code", "home": "claude"}], "usage_halt_tokens": 5000}
    async with supervised(tmp_path, {**CONFIG, **more, "chains": {**CONFIG["chains"], "paid": paid}}) as boss:
        call = Caller(app := build(boss))
        task = await lived(boss, call, tmp_path)
        now_ms = boss.clock.now_ms()
        window = VendorWindow(next(iter(boss.ledger.plan.tiers.values())).account, "five_hour", "allowed", now_ms, 1.0)
        await boss.ledger.saw_vendor([window, replace(window, name="daily", reset_ms=now_ms + 1_000)])
        await boss.sources._begin()
        other, told = await waiting(app, call, tmp_path)
        answers["happenings"] = [submitted(task), *told, *await followed(app, task)]
        answers["orders"] = [other, (await call.post(f"/tasks/{other['id']}/cancel"))[1]]
        answers["steering"] = [
            (await call.post(f"/chains/default/{verb}"))[1] for verb in ("pause", "resume", "bump", "release", "bump")
        ]
        answers["reload"] = [(await call.post("/reload"))[1]]
        answers["report"] = [
            (await call.post("/hooks/post-task", {"id": "w-1", **told}))[1]
            for told in (PIECE, PIECE | {"id": "w-2", "failure": {"kind": "usage_limit"}})
        ]
        tried = {"hook_event_name": "LocumTest", "session_id": "any"}
        answers["hook test"] = [
            (await call.ask("POST", "/hooks/claude-code", json.dumps(tried).encode(), "chain=default&tier=one"))[1]
        ]
        answers |= await alerted(boss, call)
        answers |= await read(boss, call, task, tmp_path)
        answers["result"] = [json.loads(json.dumps(await result(boss, await boss.ledger.task(task))))]
        answers["import"] = await imported(boss, app, tmp_path)
        answers["refusals"], version = [(await call.get("/tasks/none"))[1]], (await call.get("/version"))[1]
    with monkeypatch.context() as patched:
        patched.setattr(Client, "get", lambda *_: version)
        answers["version"] = [json.loads(CliRunner().invoke(locum, ["version", "--json"]).output)]
    tier = {"name": "one", "agent": "command", "command": ["true"], "env": {"A_TOKEN": "b"}}
    (tmp_path / "tier.json").write_text(json.dumps({"failover": {"tiers": [tier]}}))
    lent = CliRunner().invoke(locum, ["--config", str(tmp_path / "tier.json"), "env", "--tier", "one", "--json"])
    answers["env"] = [json.loads(lent.output)]
    place = ["--settings", str(tmp_path / "hooks.json")]
    for verb in (["install"], ["install", "--chain", "c", "--tier", "t"], ["uninstall"]):
        order = ["--state", str(tmp_path), "hooks", verb[0], "codex", *verb[1:], "--json"]
        done = CliRunner().invoke(locum, [*order, *place])
        answers["hooks"].append(json.loads(done.stdout))
    with monkeypatch.context() as patched:  # and where a daemon answers
        patched.setattr(Client, "get", lambda *_, **__: answers["status"][0])
        patched.setattr(Client, "post", lambda *_: answers["hook test"][0])
        done = CliRunner().invoke(locum, ["hooks", "install", "codex", "--json", *place])
        answers["hooks"].append(json.loads(done.stdout))
    answers |= await rules_told(tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "service.json"):
        checked = CliRunner().invoke(locum, ["check", "--config", str(tmp_path / name), "--json"])
        answers["check"].append(json.loads(checked.output))
    for tiers in (str(tmp_path / "tier.json"), str(tmp_path / "bad.json")):
        listed = CliRunner().invoke(locum, ["--config", tiers, "agents", "--json"], env={"PATH": "/nowhere"})
        answers["agents"].append(json.loads(listed.stdout))
    answers["drill"] = [rehearsed()]
    for name, found in answers.items():
        compare(name, found, page)
