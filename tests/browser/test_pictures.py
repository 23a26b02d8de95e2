"""The page with a past and work going on, at three sizes; and what it does when the daemon goes away."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.browser.conftest import free_port
from tests.browser.stage import Stage
from tests.harness import running

pytestmark = pytest.mark.browser

LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 780}},
}
LARGEST = 200_000


@pytest.fixture(scope="module")
def stage():
    """A daemon that has worked for a month."""
    folder = Path(tempfile.mkdtemp(prefix="locum-"))  # a short path, for it is in the pictures
    made = Stage(folder, http={"listen": f"127.0.0.1:{free_port()}"})
    made.fill()
    with running(made) as daemon:
        daemon.play()
        yield daemon
        daemon.gate.touch()
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", LOOKS)
def test_a_picture(stage, watched, tmp_path, name) -> None:
    """Nothing is wider than its window, and the picture is small; LOCUM_PICTURES names a folder to keep it in."""
    page = watched(stage, **LOOKS[name], reduced_motion="reduce")
    page.wait_for_selector("#chart canvas")
    text = page.locator("main").inner_text()
    for word in ("usage_limit", "auth_error", "tokens this week", "At today", "91 %", "stale", "working", "ready"):
        assert word in text
    assert page.evaluate("document.documentElement.scrollWidth") == LOOKS[name]["viewport"]["width"]
    height = min(page.evaluate("document.documentElement.scrollHeight"), 1700)
    page.set_viewport_size({**LOOKS[name]["viewport"], "height": height})
    page.wait_for_timeout(300)
    file = Path(os.environ.get("LOCUM_PICTURES") or tmp_path) / f"dashboard-{name}.webp"
    file.parent.mkdir(parents=True, exist_ok=True)
    shot = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 80})
    file.write_bytes(base64.b64decode(shot["data"]))
    assert 10_000 < file.stat().st_size < LARGEST


def test_a_daemon_that_comes_back(tmp_path, watched) -> None:
    """The page says that it is not current while the daemon is away, and is current again once it is back."""
    made = Stage(tmp_path, http={"listen": f"127.0.0.1:{free_port()}"})
    watched.expected.append("ERR_")  # the browser tells that nobody answered
    with running(made) as daemon:
        page = watched(daemon)
        page.evaluate("window.same = true")
        daemon.stop()
        page.wait_for_selector("#live:not(.on)")
        daemon.start()
        daemon.run("pause")
        page.wait_for_selector("#live.on")
        page.wait_for_function("() => document.getElementById('now').textContent.includes('Paused')")
        assert page.evaluate("window.same"), "it was not loaded anew"
