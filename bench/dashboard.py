"""The dashboard in headless Chromium: how soon it paints a large state, and how soon it shows what has happened."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio

from bench.rounds import median, quantile, told
from bench.subject import Found, Limit, Subject
from locum.config.load import load
from locum.policy.task import Task, TaskState
from locum.policy.usage import Payer, Tokens, Usage
from locum.store.ledger import Ledger
from tests.harness import Daemon, running

CHROMIUM = shutil.which("chromium") or ""
HOUR = 3_600_000
AT_ONCE = 500
PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  const found = list.getEntriesByName('first-contentful-paint');
  if (found.length) done(found[0].startTime);
}).observe({ type: 'paint', buffered: true }))"""
SEE = """(word) => new Promise((done) => {
  const seen = () => document.getElementById('now').textContent.includes(word);
  if (seen()) return done(Date.now());
  const watch = new MutationObserver(() => {
    if (!seen()) return;
    watch.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(Date.now())));
  });
  watch.observe(document.body, { subtree: true, childList: true, characterData: true });
})"""


def why_not() -> str:
    """Why it cannot be measured here; nothing when it can."""
    if not CHROMIUM:
        return "there is no chromium: make browser"
    return "" if importlib.util.find_spec("playwright") else "playwright is not installed: make browser"


def measure(folder: Path, tiers: int = 100, tasks: int = 10_000, paints: int = 30, bumps: int = 200) -> Found:
    """Open the page again and again, then bump and release and look when each is seen."""
    assert not why_not(), why_not()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    names = [f"tier-{number:03}" for number in range(tiers)]
    config = {
        "http": {"listen": f"127.0.0.1:{port}"},
        "usage_threshold_tokens": 50_000_000,
        "failover": {"tiers": [_tier(name) for name in names]},
    }
    daemon = Daemon(folder, config)
    _fill(daemon, names, tasks)
    with running(daemon), _browser() as browser:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(daemon.run("dashboard", "--print").stdout.strip())
        page.wait_for_selector("#live.on")
        sizes = page.evaluate(
            "() => [document.querySelectorAll('*').length, document.documentElement.outerHTML.length]"
        )
        painted = [_painted(page) for _ in range(paints + 2)][2:]
        seen = [_seen(daemon, page, number) for number in range(bumps + 4)][4:]
    figures = (median(painted), quantile(seen, 0.99))
    return Found(
        figures,
        (
            ("first paint", told(painted, "ms")),
            ("from a bump or a release until it is in the page", told(seen, "ms")),
            ("elements and characters of the page", f"{sizes[0]:,} and {sizes[1]:,}"),
        ),
    )


def _tier(name: str) -> dict[str, Any]:
    return {"name": name, "agent": "command", "command": ["true"], "usage_threshold_tokens": 1_000_000}


def _fill(daemon: Daemon, names: list[str], tasks: int) -> None:
    """A ledger with so many tasks, and two days of usage on every tier."""
    daemon.state.mkdir(parents=True, exist_ok=True)
    anyio.run(_filled, daemon, names, tasks)


async def _filled(daemon: Daemon, names: list[str], tasks: int) -> None:
    now_ms = int(time.time() * 1000)
    loaded = load(daemon.config, daemon.env)
    ledger = await Ledger.open(daemon.state / "locum.db", loaded.plan, now_ms)
    try:
        for name in names:
            payer = Payer("command", "default", name, loaded.plan.tiers[name].account, None, f"past-{name}")
            past = [
                Usage(f"{name}-{hour}", Tokens(90, 60, 900, 150), "scripted", None, now_ms - hour * HOUR)
                for hour in range(1, 49)
            ]
            await ledger.record_outside(payer, past, now_ms)
        for first in range(0, tasks, AT_ONCE):  # together, so that they share their commits
            async with anyio.create_task_group() as group:
                for number in range(first, min(tasks, first + AT_ONCE)):
                    group.start_soon(_ended, ledger, number, str(daemon.work), now_ms)
    finally:
        await ledger.close()


async def _ended(ledger: Ledger, number: int, cwd: str, now_ms: int) -> None:
    task = Task(f"t-{number:012x}", "default", cwd, TaskState.QUEUED, now_ms, f"Task {number}")
    await ledger.submit(task, b"do it")
    await ledger.cancel(task.id, now_ms)


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where it is installed

    with sync_playwright() as found:
        browser = found.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def _painted(page: Any) -> float:
    """How many milliseconds a reload takes until the first paint with content, in which the tiers are."""
    page.reload(wait_until="commit")
    return float(page.evaluate(PAINT))


def _seen(daemon: Daemon, page: Any, number: int) -> float:
    """How many milliseconds after a bump was sent, or the release after it, the page shows it."""
    bumps = number % 2 == 0
    page.evaluate("word => { window.seen = (" + SEE + ")(word); }", f"starts on tier-00{1 if bumps else 0}.")
    began = time.time()
    if bumps:
        daemon.client.post("/chains/default/bump", {"tier": "tier-000"})
    else:
        daemon.client.post("/chains/default/release", {"tier": "tier-000"})
    return max(1.0, float(page.evaluate("() => window.seen")) - 1000 * began)


SUBJECT = Subject(
    name="dashboard",
    limits=(
        Limit("first paint of 100 tiers and 10,000 tasks, headless Chromium, p50", 300, "ms"),
        Limit("an event is committed → it is visible in the page, p99", 500, "ms"),
    ),
    how=(
        "A real daemon over TCP, with 100 tiers that each have a budget and two days of usage by the hour, and 10,000 "
        "tasks; headless Chromium is logged in by the link of `locum dashboard`. Paint: a reload, until the browser's "
        "own `first-contentful-paint`; the tiers are in the first answer, so they are in that paint. Visible: 200 "
        "bumps and releases in turn; from just before the order is sent, so ahead of its commit, until the frame after "
        "the page's first sentence has changed."
    ),
    measure=measure,
    cannot=why_not,
    tiny={"tiers": 3, "tasks": 50, "paints": 1, "bumps": 2},
)
