"""The socket itself: who can reach it, what stands in its way, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from locum.cli.client import Client
from locum.errors import ConflictError, ForbiddenError, StateError
from locum.web import listener
from locum.web.app import build
from locum.web.listener import LONGEST_PATH, bind, identity, keep, remove, serve
from tests.unit.web.asgi import supervised

anyio_test = pytest.mark.anyio


def test_only_its_owner_can_open_it(tmp_path):
    """The socket is private from its first moment, whatever the umask was, and the umask is given back."""
    before = os.umask(0)
    try:
        with bind(tmp_path / "deep" / "locum.sock"):
            assert stat.S_IMODE((tmp_path / "deep" / "locum.sock").stat().st_mode) == 0o600
            assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
        assert os.umask(0) == 0
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path, kind):
    """Something else at the path is named, and never removed."""
    path = tmp_path / "locum.sock"
    {"file": path.touch, "folder": path.mkdir, "link": lambda: path.symlink_to("elsewhere")}[kind]()
    with pytest.raises(StateError, match=f"a {kind} is there"):
        bind(path)
    assert os.path.lexists(path)


def test_a_dead_daemons_socket_is_replaced(tmp_path):
    """What a killed daemon leaves behind stops nobody."""
    path = tmp_path / "locum.sock"
    bind(path).close()
    assert path.exists()
    with bind(path), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))


def test_a_living_daemon_is_not_replaced(tmp_path):
    """The second daemon is refused, and the first still answers."""
    path = tmp_path / "locum.sock"
    with bind(path), socket.socket(socket.AF_UNIX) as caller:
        with pytest.raises(ConflictError, match="another daemon"):
            bind(path)
        caller.connect(str(path))


def test_a_path_that_is_too_long_says_so(tmp_path):
    """The kernel's limit is told with a remedy, not as an error number."""
    with pytest.raises(StateError, match=f"longer than {LONGEST_PATH} bytes"):
        bind(tmp_path / ("x" * LONGEST_PATH))


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    """A file where the folder should be is an error with a remedy."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be made"):
        bind(tmp_path / "file" / "locum.sock")


def test_only_ones_own_socket_is_removed(tmp_path):
    """A daemon that stops late does not take its successor's socket away."""
    path = tmp_path / "locum.sock"
    first = bind(path)
    mine = identity(path)
    remove(path, mine)
    assert not path.exists()
    with bind(path):
        theirs = identity(path)
        if theirs != mine:  # the file system may give the same inode again
            remove(path, mine)
            assert path.exists()
        remove(path, theirs)
    first.close()
    remove(path, None)


async def _with_server(folder, use, **replaced):
    """Run `use(path)` in a thread while a server answers at the path."""
    path, stop = folder / "locum.sock", anyio.Event()
    async with supervised(folder) as boss:
        vars(boss).update(replaced)
        ready = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, build(boss), bind(path), ready.set, stop)
            with anyio.fail_after(10):
                await ready.wait()
                try:
                    return await anyio.to_thread.run_sync(use, path)
                finally:
                    stop.set()


def test_a_crowd_is_let_in_at_once(tmp_path):
    """Hundreds may connect before the first of them is answered."""
    path = tmp_path / "locum.sock"
    crowd = min(300, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    with bind(path), contextlib.ExitStack() as callers:
        for _ in range(crowd):
            caller = callers.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            caller.connect(str(path))


@anyio_test
async def test_a_socket_that_was_removed_is_made_again(tmp_path, monkeypatch):
    """The daemon can be reached again, those it talks to notice nothing, and in the end no socket is left."""
    monkeypatch.setattr(listener, "LOOK_EVERY_S", 0.05)
    path, stop, ready = tmp_path / "locum.sock", anyio.Event(), anyio.Event()

    def use():
        client = Client([path])
        client.post("/chains/default/pause")
        stream = client.follow(client.post("/tasks", {"prompt": "x", "cwd": str(tmp_path)})["id"])
        assert next(stream)["type"] == "waiting"
        path.unlink()
        deadline = time.monotonic() + 5
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert client.get("/status")["chains"]["default"]["queued"] == 1
        client.post("/chains/default/release")
        return stream

    async with supervised(tmp_path) as boss, anyio.create_task_group() as tasks:
        tasks.start_soon(keep, build(boss), path, bind(path), ready.set, stop)
        with anyio.fail_after(10):
            await ready.wait()
            try:
                stream = await anyio.to_thread.run_sync(use)
            finally:
                stop.set()
    assert list(stream) == []
    assert not path.exists()


@anyio_test
async def test_another_daemons_socket_is_left_in_its_place(tmp_path, monkeypatch):
    """A daemon whose place was taken by something else neither removes that nor gives up."""
    monkeypatch.setattr(listener, "LOOK_EVERY_S", 0.02)
    path, stop, ready = tmp_path / "locum.sock", anyio.Event(), anyio.Event()
    async with supervised(tmp_path) as boss, anyio.create_task_group() as tasks:
        tasks.start_soon(keep, build(boss), path, bind(path), ready.set, stop)
        with anyio.fail_after(10):
            await ready.wait()
            path.rename(tmp_path / "aside.sock")
            with bind(path):
                await anyio.sleep(0.1)
                stop.set()
    assert path.exists()


@anyio_test
async def test_it_answers_this_user(tmp_path):
    """A real client on a real socket is let in by its real user id, and the socket stays private."""

    def use(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return Client([path]).get("/usage")

    found = await _with_server(tmp_path, use)
    assert found["threshold_tokens"] == 5000


@anyio_test
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_can_ask_for_the_usage(tmp_path):
    """The documented one-liner works."""
    found = await _with_server(
        tmp_path,
        lambda path: subprocess.run(
            ["curl", "-sf", "--unix-socket", str(path), "http://locum/usage"], capture_output=True, check=True
        ),
    )
    assert b'"threshold_tokens":5000' in found.stdout


@anyio_test
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_refused_by_the_kernels_word():
    """Even through a socket that is left open to all, another user id gets 403."""
    script = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); os.setuid(12345);"
        "s.close(); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'GET /status HTTP/1.0\\r\\n\\r\\n'); print(s.makefile().read())"
    )

    def use(path):
        path.parent.chmod(0o755)
        path.chmod(0o666)
        return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)

    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:  # no other user gets through pytest's own folders
        found = (await _with_server(Path(open_to_all), use)).stdout
    assert " 403 " in found
    assert "belongs to another user" in found


@anyio_test
async def test_a_reader_that_does_not_read_costs_nothing(tmp_path):
    """A stream waits for its reader instead of piling up, and meanwhile everybody else is answered."""
    told = []

    async def flood(*_, **__):
        for number in range(100_000):
            told.append(number)
            yield {"type": "output", "text": "x" * 10_000}

    def use(path):
        client = Client([path])
        task = client.post("/tasks", {"prompt": "x", "cwd": str(tmp_path)})
        stream = client.follow(task["id"])
        next(stream)
        assert client.get("/status")["chains"]
        assert len(told) < 1000
        stream.close()
        assert client.get("/status")["chains"]

    await _with_server(tmp_path, use, follow=flood)


@anyio_test
async def test_a_stopped_server_ends_what_follows_it(tmp_path):
    """A stop is not held up by a reader of a stream, whose stream just ends."""

    def use(path):
        client = Client([path])
        client.post("/chains/default/pause")
        task = client.post("/tasks", {"prompt": "x", "cwd": str(tmp_path)})
        stream = client.follow(task["id"])
        assert next(stream)["type"] == "waiting"
        return stream

    with anyio.fail_after(5):
        stream = await _with_server(tmp_path, use)
        assert await anyio.to_thread.run_sync(list, stream) == []


def test_a_socket_of_another_user_is_forbidden(tmp_path, monkeypatch):
    """A client that may not connect says so, rather than that nothing runs."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ForbiddenError, match="belongs to another user"):
        Client([tmp_path / "locum.sock"]).get("/status")
