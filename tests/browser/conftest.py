"""A real daemon over TCP and headless Chromium, logged in by the link that `locum dashboard` prints."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tests.harness import World, running

CHROMIUM = shutil.which("chromium") or ""
AXE = Path(__file__).resolve().parents[2] / ".cache" / "browser" / "package" / "axe.min.js"


def free_port() -> int:
    """A port of this host that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def link(daemon) -> str:
    """A login link, as people get it."""
    done = daemon.run("dashboard", "--print")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def chromium():
    """The browser."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser")
    if not CHROMIUM:
        pytest.skip("there is no chromium: make browser")
    with api.sync_playwright() as found:
        browser = found.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A daemon for all tests of a file; each adds a chain of its own."""
    folder = tmp_path_factory.mktemp("world")
    made = World(folder, {"http": {"listen": f"127.0.0.1:{free_port()}"}})
    with running(made) as daemon:
        yield daemon


@pytest.fixture
def watched(chromium):
    """Opens pages, and holds them to it: no error in the console, no request to elsewhere, no dialog of the browser's."""
    contexts, wrong, expected = [], [], []

    def opened(daemon, path="/", **more):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **more})
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        url = link(daemon)
        origin = url.partition("/login")[0]
        page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda box: (wrong.append(box.message), box.dismiss()))
        page.on("request", lambda asked: asked.url.startswith((origin, "data:")) or wrong.append(asked.url))
        page.goto(url)
        if path != "/":
            page.goto(origin + path)
        page.wait_for_selector("#live.on")
        return page

    opened.expected = expected
    yield opened
    for context in contexts:
        context.close()
    assert [each for each in wrong if not any(part in each for part in expected)] == []
