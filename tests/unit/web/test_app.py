"""The HTTP face, asked without a socket."""

from __future__ import annotations

import json
import os
import subprocess

import anyio
import pytest

from locum.web.app import build
from locum.web.bodies import LARGEST_ORDER
from locum.web.peer import Peer
from tests.unit.web.asgi import Caller, supervised

pytestmark = pytest.mark.anyio


def started(argv, **more):
    """A real process, to be ended by who asked for it."""
    return subprocess.Popen(argv, **more)


async def test_reading_answers_are_json_with_a_version(tmp_path):
    """Every reading path answers, on a ledger to which nothing has happened."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        for path in ("/status", "/usage", "/explain", "/version", "/audit", "/tasks"):
            status, found = await call.get(path)
            assert (status, found["schema"]) == (200, 1), path
        assert (await call.get("/healthz"))[1] == {"status": "ok"}
        assert (await call.get("/notices"))[1] == {"schema": 1, "notices": [], "next": None}
        assert (await call.get("/audit"))[1]["clean"] is True
        assert (await call.get("/status"))[1]["config"]["path"] == str(tmp_path / "service.json")


async def test_a_task_is_durable_when_it_is_answered(tmp_path):
    """What is submitted can be read back at once, prompt included."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        status, task = await call.post("/tasks", {"prompt": "grüß dich", "cwd": str(tmp_path), "title": "hi"})
        assert (status, task["state"], task["chain"], task["title"]) == (201, "queued", "default", "hi")
        assert await boss.ledger.prompt(task["id"]) == "grüß dich".encode()
        assert (await call.get(f"/tasks/{task['id']}"))[1]["runs"] == []
        assert [each["id"] for each in (await call.get("/tasks", "state=queued"))[1]["tasks"]] == [task["id"]]
        assert (await call.get("/tasks", "state=done"))[1]["tasks"] == []
        assert (await call.get("/status"))[1]["chains"]["default"]["queued"] == 1


async def test_a_prompt_of_five_megabytes_is_fine(tmp_path):
    """Size alone refuses no sensible prompt."""
    async with supervised(tmp_path) as boss:
        prompt = "x" * 5_000_000
        status, task = await Caller(build(boss)).post("/tasks", {"prompt": prompt, "cwd": str(tmp_path)})
        assert status == 201
        assert len(await boss.ledger.prompt(task["id"])) == len(prompt)


async def test_a_body_over_its_limit_is_refused(tmp_path):
    """Nobody can fill the daemon's memory with an order."""
    async with supervised(tmp_path) as boss:
        status, found = await Caller(build(boss)).post("/chains/default/bump", b" " * (LARGEST_ORDER + 1))
        assert (status, found["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("path", "body", "says", "remedy"),
    [
        ("/tasks", b"{", "the body is not JSON", "Send an object: {…}"),
        ("/tasks", {"cwd": "/"}, "`prompt` is missing", "Add `prompt`"),
        ("/tasks", {"prompt": "", "cwd": "/"}, "`prompt` must be text that is not empty", "Say what to do"),
        ("/tasks", {"prompt": "x", "cwd": "relative"}, "`cwd` must be an absolute path", "Begin it with `/`"),
        ("/tasks", {"prompt": "x", "cwd": "/", "no_wait": 7}, "`no_wait` must be true or false", "Write it without"),
        (
            "/tasks",
            {"prompt": "x", "cwd": "/", "shared_cwd": 0},
            "`shared_cwd` must be true or false",
            "Write it without",
        ),
        ("/tasks", {"prompt": "x", "cwd": "/", "chian": "a"}, "unknown key `chian`", "Did you mean `chain`?"),
        ("/tasks", b"[]", "the body must be an object", "Write it in braces"),
        ("/chains/default/bump", {"for": "2 hours"}, "`for` must be a length of time", "such as 90s, 10m or 1h30m"),
        ("/chains/default/release", {"kind": "nonsense"}, "`kind` must be a failure kind", "`usage_limit`"),
    ],
)
async def test_a_body_that_is_not_understood_is_told_where(tmp_path, path, body, says, remedy):
    """A 400 names the field and what to do in locum's own words, and never repeats what was sent."""
    async with supervised(tmp_path) as boss:
        status, found = await Caller(build(boss)).post(path, body)
        assert (status, found["code"]) == (400, "usage")
        assert found["detail"] == says
        assert remedy in found["remedy"]
        assert found.keys() == {"type", "title", "status", "code", "detail", "remedy"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/tasks/t-000000", 404, "not_found"),
        ("GET", "/tasks/t-000000/follow", 404, "not_found"),
        ("POST", "/tasks/t-000000/cancel", 404, "not_found"),
        ("POST", "/chains/none/bump", 404, "not_found"),
        ("POST", "/status", 405, "http"),
    ],
)
async def test_what_is_not_there_is_a_problem(tmp_path, method, path, status, code):
    """Unknown paths, tasks, chains and methods all answer in the one shape."""
    async with supervised(tmp_path) as boss:
        answered, found = await Caller(build(boss)).ask(method, path)
        assert (answered, found["code"]) == (status, code)


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "limit=1001", "limit=٣", "state=gone"])
async def test_a_query_that_makes_no_sense_is_refused(tmp_path, query):
    """A wrong number or state is a 400, not a crash and not a guess."""
    async with supervised(tmp_path) as boss:
        assert (await Caller(build(boss)).get("/tasks", query))[0] == 400


async def test_a_mistake_of_the_daemon_shows_no_insides(tmp_path, monkeypatch):
    """What nobody foresaw is a 500 in the one shape; its text goes to the log and not over the socket."""

    def fail():
        raise ValueError("a secret of the daemon")

    async with supervised(tmp_path) as boss:
        monkeypatch.setattr(boss, "busy", fail)
        messages = []
        with pytest.raises(ValueError, match="a secret"):
            await Caller(build(boss)).stream("GET", "/status", messages.append)
        assert messages[0]["status"] == 500
        assert json.loads(messages[1]["body"])["code"] == "internal"
        assert b"a secret" not in messages[1]["body"]


async def test_bump_and_release_can_be_repeated(tmp_path):
    """Steering says where the chain stands afterwards, and that nothing was left to do."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        _, first = await call.post("/chains/default/bump", {"for": "2h", "reason": "upkeep"})
        assert (first["tier"], first["active_tier"], first["already_held"]) == ("one", "two", False)
        assert (first["hold"]["kind"], first["hold"]["reason"]) == ("operator", "upkeep")
        _, second = await call.post("/chains/default/bump", {"tier": "one"})
        assert (second["already_held"], second["hold"]["until"]) == (True, None)
        _, lifted = await call.post("/chains/default/release", {"tier": "one", "kind": "operator"})
        assert [each["tier"] for each in lifted["released"]] == ["one"]
        assert lifted["active_tier"] == "one"
        assert (await call.post("/chains/default/release"))[1]["released"] == []


async def test_a_bump_with_nothing_left_to_hold_is_refused(tmp_path):
    """When every tier is held there is no active one to bump: 409 with the code of that."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await call.post("/chains/side/bump")
        status, found = await call.post("/chains/side/bump")
        assert (status, found["code"]) == (409, "no_tier")


async def test_a_tier_of_another_chain_is_not_steered(tmp_path):
    """A name that the chain does not list is told with those it lists."""
    async with supervised(tmp_path) as boss:
        status, found = await Caller(build(boss)).post("/chains/side/bump", {"tier": "one"})
        assert (status, found["remedy"]) == (404, "Its tiers are two.")


async def test_pause_and_resume_can_be_repeated(tmp_path):
    """The second time says that it was so already."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        answers = [(await call.post(f"/chains/default/{verb}"))[1] for verb in ("pause", "pause", "resume", "resume")]
        assert [each.get("already_paused", each.get("already_running")) for each in answers] == [False, True] * 2
        assert [each["paused"] for each in answers] == [True, True, False, False]


async def test_explain_can_be_asked_of_one_chain(tmp_path):
    """Without a name every chain explains itself."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        assert list((await call.get("/explain"))[1]["chains"]) == ["default", "side"]
        assert list((await call.get("/explain", "chain=side"))[1]["chains"]) == ["side"]
        assert (await call.get("/explain", "chain=none"))[0] == 404


async def test_a_bad_edit_is_told_and_changes_nothing(tmp_path):
    """A reload of a broken file answers with the problem, and status goes on showing it."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        before = (tmp_path / "service.json").read_text()
        (tmp_path / "service.json").write_text("{")
        assert (await call.post("/reload"))[1]["result"] == "rejected"
        status = (await call.get("/status"))[1]
        assert "service.json:1" in status["config"]["problems"][0]
        assert status["chains"]["default"]["active_tier"] == "one"
        (tmp_path / "service.json").write_text(before)
        assert (await call.post("/reload"))[1]["problems"] == []


async def test_the_log_is_read_from_where_one_left_off(tmp_path):
    """Events come oldest first with their row, and `after` leaves out what is known."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await call.post("/chains/default/bump")
        await call.post("/chains/default/release")
        events = (await call.get("/events"))[1]["events"]
        assert [each["kind"] for each in events] == ["bumped", "released"]
        again = (await call.get("/events", f"after={events[0]['seq']}"))[1]["events"]
        assert again == events[1:]
        assert (await call.get("/notices"))[1]["notices"][0]["kind"] == "tier_bumped"


async def test_following_ends_with_the_task(tmp_path):
    """One JSON object a line, the last one says how it ended."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        call = Caller(app)
        _, task = await call.post("/tasks", {"prompt": "x", "cwd": str(tmp_path)})
        await call.post(f"/tasks/{task['id']}/cancel")
        messages = []
        await call.stream("GET", f"/tasks/{task['id']}/follow", messages.append)
        lines = b"".join(message.get("body", b"") for message in messages).splitlines()
        assert json.loads(lines[-1])["state"] == "cancelled"
        assert messages[-1]["more_body"] is False


@pytest.mark.parametrize("who", ["reader", "daemon"])
async def test_following_ends_when_either_side_leaves(tmp_path, who):
    """A reader that hangs up and a daemon that stops both end the stream at once."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        _, task = await Caller(app).post("/tasks", {"prompt": "x", "cwd": str(tmp_path)})
        gone = anyio.Event()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                path = f"/tasks/{task['id']}/follow"
                tasks.start_soon(Caller(app).stream, "GET", path, lambda _: None, b"", "", gone)
                await anyio.sleep(0.05)
                (gone if who == "reader" else app.state.stopping).set()


@pytest.mark.parametrize(
    ("peer", "method", "path", "status"),
    [
        (None, "GET", "/status", 403),
        (Peer(os.getpid(), os.geteuid() + 1), "GET", "/status", 403),
        (Peer(os.getpid(), 0), "GET", "/status", 200),
        (Peer(0, os.geteuid()), "GET", "/status", 200),
        (Peer(0, os.geteuid()), "POST", "/chains/default/pause", 403),
    ],
)
async def test_strangers_are_refused(tmp_path, peer, method, path, status):
    """Another user reads nothing, and whom nobody knows changes nothing."""
    async with supervised(tmp_path) as boss:
        answered, found = await Caller(build(boss), peer).ask(method, path)
        assert answered == status
        if status == 403:
            assert found["code"] == "forbidden"


@pytest.mark.parametrize("how", ["descends", "marked"])
async def test_an_agent_may_read_and_submit_but_not_steer(tmp_path, monkeypatch, how):
    """A process of a run is refused every order that changes what it runs under."""
    env = {**os.environ, "LOCUM_RUN": "r-1"} if how == "marked" else None
    script = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with started(script, env=env, process_group=0, stdout=subprocess.PIPE) as agent:
        try:
            async with supervised(tmp_path) as boss:
                running = {"r-1": agent.pid} if how == "descends" else {}
                monkeypatch.setattr(boss, "running", lambda: running)
                call = Caller(build(boss), Peer(int(agent.stdout.readline()), os.geteuid()))
                assert (await call.get("/status"))[0] == 200
                assert (await call.post("/tasks", {"prompt": "x", "cwd": str(tmp_path)}))[0] == 201
                for order in ("chains/default/bump", "chains/default/release", "chains/default/pause", "reload"):
                    assert (await call.post(f"/{order}"))[0] == 403, order
                assert (await call.post("/tasks/t-1/cancel"))[0] == 403
        finally:
            os.killpg(agent.pid, 9)


async def test_a_daemon_inside_a_run_obeys_those_beside_it(tmp_path, monkeypatch):
    """The mark that the daemon itself inherited is no mark of its own agents."""
    monkeypatch.setenv("LOCUM_RUN", "r-outer")
    with started(["sleep", "60"]) as beside:
        try:
            async with supervised(tmp_path) as boss:
                call = Caller(build(boss), Peer(beside.pid, os.geteuid()))
                assert (await call.post("/chains/default/pause"))[0] == 200
        finally:
            beside.kill()
