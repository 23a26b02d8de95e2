"""/metrics as Prometheus reads it, and the line for a status bar."""

from __future__ import annotations

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from locum.policy.failure import Failure, FailureKind
from locum.policy.task import Ending, Run, RunState
from locum.policy.usage import Tokens, Usage
from locum.store.commits import BOUNDS_S, Commits
from locum.web.app import build
from locum.web.exposition import Family, Sample, histogram, written
from tests.unit.web.asgi import Caller, supervised

pytestmark = pytest.mark.anyio


async def text_of(call, path, query=""):
    """The text that is answered."""
    messages = []
    await call.stream("GET", path, messages.append, query=query)
    assert messages[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in messages).decode()


async def figures(call):
    """Every figure, by its name and labels, as the official parser reads it."""
    found = {}
    for family in text_string_to_metric_families(await text_of(call, "/metrics")):
        assert family.documentation
        assert family.type in ("gauge", "counter", "histogram")
        for each in family.samples:
            key = (each.name, *sorted(each.labels.items()))
            assert key not in found, "a figure is told once"
            found[key] = each.value
    return found


async def ran(boss, call, folder, usage, failure=None):
    """A task whose one attempt has ended."""
    _, task = await call.post("/tasks", {"prompt": "x", "cwd": str(folder)})
    tier, now_ms = boss.ledger.plan.chains["default"].tiers[0], boss.clock.now_ms()
    run = Run(f"r-{task['id']}", task["id"], 1, "default", tier, str(folder), RunState.RUNNING, now_ms)
    await boss.ledger.start_run(run, now_ms)
    await boss.ledger.record(run.id, [usage], boss.clock.now_ms())
    state = RunState.FAILED if failure else RunState.SUCCEEDED
    await boss.ledger.end_run(run.id, Ending(state), failure, boss.clock.now_ms())


async def test_what_happened_is_in_the_figures(tmp_path):
    """Tokens by type and model, attempts by outcome, bumps by kind and holds are what a chain has gone through."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await ran(boss, call, tmp_path, Usage("a", Tokens(10, 2, 3, 4), 'a "model"\\'))
        failed = Failure(FailureKind.AUTH_ERROR, "401", rule="status:401")
        await ran(boss, call, tmp_path, Usage("b", Tokens(5), None), failed)
        await call.post("/tasks", {"prompt": "x", "cwd": str(tmp_path)})
        found = await figures(call)
        one, chain = ("tier", "one"), ("chain", "default")
        spent = {
            (dict(key[1:])["model"], dict(key[1:])["type"]): value
            for key, value in found.items()
            if key[0] == "locum_tokens"
        }
        assert spent['a "model"\\', "cache_write"] == 4
        assert spent["", "input"] == 5
        assert sum(spent.values()) == 24
        assert found["locum_bumps_total", chain, ("kind", "auth_error"), one] == 1
        assert found["locum_holds", chain, ("kind", "auth_error"), one] == 1
        agent = ("agent", "command")
        assert found["locum_attempts_total", agent, chain, ("outcome", "auth_error"), one] == 1
        assert found["locum_attempts_total", agent, chain, ("outcome", "succeeded"), one] == 1
        assert found["locum_runs_open", chain, one] == 0
        assert found["locum_tasks_open", chain, ("state", "queued")] == 2, "one waits for its next tier"
        assert found["locum_tier_active", chain, ("tier", "two")] == 1
        assert found["locum_budget_used_tokens", ("budget", "chain:default")] == 24
        assert found["locum_config_last_reload_successful",] == 1
        assert found["locum_ledger_commit_seconds_count",] == boss.ledger.commits.number > 0
        (tmp_path / "service.json").write_text("{")
        await call.post("/reload")
        assert (await figures(call))["locum_config_last_reload_successful",] == 0


async def test_another_part_can_add_what_it_counts(tmp_path):
    """What a further source tells is beside the rest, in its own words."""
    async with supervised(tmp_path) as boss:
        app = build(boss)

        async def outbox():
            return [Family("outbox_depth", "gauge", "How many wait.", [Sample(3)])]

        app.state.metrics.sources.append(outbox)
        assert (await figures(Caller(app)))["outbox_depth",] == 3


def test_any_text_is_a_label():
    """Quotes, backslashes and line ends in a name come back as they were."""
    nasty = 'a"b\\c\nd\\n'
    (family,) = text_string_to_metric_families(
        written([Family("x", "gauge", "It.", [Sample(1, (("l", nasty),))])]).decode()
    )
    assert family.samples[0].labels == {"l": nasty}


def test_a_histogram_adds_up():
    """Each part holds those below it, the last is all of them, and the parser takes it for one."""
    told = written([histogram("h", "It.", (0.5, 1.0), (1, 2, 3), 9.5)]).decode()
    (family,) = text_string_to_metric_families(told)
    values = [each.value for each in family.samples]
    assert values == [1, 3, 6, 9.5, 6]
    assert family.type == "histogram"


def test_a_commit_is_counted_where_it_belongs():
    """A commit of exactly a bound is within it, one beyond the last is in the rest, and a failed one is none."""
    now = iter((0.0, BOUNDS_S[0], 1.0, 1.0 + 2 * BOUNDS_S[-1], 5.0))
    commits = Commits(lambda: next(now))
    for _ in range(2):
        with commits.one():
            pass
    with pytest.raises(OSError, match="full"), commits.one():
        raise OSError("full")
    assert (commits.parts[0], commits.parts[-1], commits.number) == (1, 1, 2)


async def test_the_line_says_what_an_agent_wants_to_know(tmp_path):
    """The tier, the share of the budget and when it begins anew; what holds everything; and it follows each change."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        await ran(boss, call, tmp_path, Usage("a", Tokens(625)))
        line = await text_of(call, "/statusline")
        assert line.startswith("one | 12.5 % | anew in ")
        assert line.endswith("\n")
        assert line.count("\n") == 1
        await call.post("/chains/side/bump", {"for": "2h"})
        assert (await text_of(call, "/statusline", "chain=side")) == "every tier is held, next in 2 h\n"
        await call.post("/chains/default/pause")
        assert "paused" in await text_of(call, "/statusline")
        assert (await call.get("/statusline", "chain=none"))[0] == 404


async def test_a_busy_ledger_keeps_no_status_bar_waiting(tmp_path, monkeypatch):
    """While the ledger is busy with something long, the line comes at once, with the last figure there was."""
    async with supervised(tmp_path) as boss:
        call = Caller(build(boss))
        usage = boss.ledger.usage

        async def stuck(*_):
            await anyio.sleep_forever()

        monkeypatch.setattr(boss.ledger, "usage", stuck)
        with anyio.fail_after(5):
            assert await text_of(call, "/statusline") == "one\n"
        monkeypatch.setattr(boss.ledger, "usage", usage)
        assert "0 %" in await text_of(call, "/statusline")
