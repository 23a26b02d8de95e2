"""The dashboard's endpoints on a real supervisor: the page, its files, and what agents say."""

from __future__ import annotations

import gzip
import re

import pytest

from locum.page.assets import ASSETS
from locum.web.app import build
from tests.unit.page.scenes import Read
from tests.unit.web.asgi import Caller, supervised

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    """The daemon's own."""
    return "asyncio"


async def fetched(app, path, query=""):
    """Status, headers and body of an answer."""
    messages = []
    await Caller(app).stream("GET", path, messages.append, query=query)
    body = b"".join(message.get("body", b"") for message in messages)
    return messages[0]["status"], dict(messages[0]["headers"]), body


async def test_the_page_is_there_and_whole(tmp_path) -> None:
    """The first answer shows every tier of the main chain, without any script having run."""
    async with supervised(tmp_path) as boss:
        status, headers, body = await fetched(build(boss), "/")
    assert status == 200
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert headers[b"cache-control"] == b"no-store"
    found = Read(body.decode())
    assert "Idle. The next task starts on one." in found.text
    assert "0 of 5 k tokens this week" in found.text.replace("\xa0", " ")


async def test_a_chain_is_shown_by_name(tmp_path) -> None:
    """Each chain has an address; one that is not there is refused like everywhere else."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        status, _, body = await fetched(app, "/", "chain=side&tasks=failed")
        assert status == 200
        assert "Idle. The next task starts on two." in Read(body.decode()).text
        assert (await Caller(app).get("/", "chain=nowhere"))[0] == 404
        assert (await Caller(app).get("/", "cursor=nonsense"))[0] == 400


async def test_its_files_are_there_and_kept(tmp_path) -> None:
    """Every file that the page names is served; its address changes with what is in any of them, so it may be kept."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        _, _, body = await fetched(app, "/")
        named = set(re.findall(rf"/page/{ASSETS.version}/[\w.]+", body.decode()))
        assert {path.rpartition("/")[2] for path in named} >= {
            "page.css",
            "page.js",
            "uplot.js",
            "uplot.css",
            "icon.svg",
        }
        for path in named:
            status, headers, file = await fetched(app, path)
            assert status == 200
            assert b"immutable" in headers[b"cache-control"]
            assert file == ASSETS.files[path.rpartition("/")[2]].body
        assert (await fetched(app, "/page/old/page.css"))[1][b"cache-control"] == b"no-store"
        for wrong in ("/page/x/nothing.js", "/page/x/uplot.LICENSE", "/page/x/..%2fsite.py"):
            assert (await fetched(app, wrong))[0] == 404


async def test_what_is_kept_compressed_is_the_same() -> None:
    """Who takes gzip gets the same bytes."""
    for asset in ASSETS.files.values():
        assert gzip.decompress(asset.packed) == asset.body
    assert set(ASSETS.files) >= {"morph.js", "ask.js", "times.js", "tails.js", "chart.js"}


async def test_who_never_ran_has_said_nothing(tmp_path) -> None:
    """What the agent of a task has said is refused where there is no attempt."""
    async with supervised(tmp_path) as boss:
        app = build(boss)
        work = tmp_path / "work"
        work.mkdir()
        _, task = await Caller(app).post("/tasks", {"prompt": "<b>x</b>", "cwd": str(work)})
        assert (await Caller(app).get(f"/page/said/of/{task['id']}"))[0] == 404
        text = Read((await fetched(app, "/"))[2].decode()).text
        assert "1 task waits for a free place" in text
        assert "<b>x</b>" in text
