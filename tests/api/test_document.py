"""The OpenAPI page against the real daemon: thousands of requests made from it, good and bad."""

from __future__ import annotations

import os
import re
import select
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import Daemon, running, scripted

CASES = int(os.environ.get("LOCUM_API_CASES", "5000"))
"""How many requests are made in all, at least."""
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method"
)
SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
OPERATIONS = 36
"""How many the page has, about: what each gets is a share of all."""


class Pipe(socketserver.BaseRequestHandler):
    """Passes bytes between a TCP connection and the daemon's socket."""

    def handle(self):
        """Until one side closes."""
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self.server.path)
            ways = {self.request: daemon, daemon: self.request}
            while True:
                for side in select.select(list(ways), [], [], 30)[0] or [None]:
                    data = side.recv(1 << 16) if side else b""
                    if not data:
                        return
                    ways[side].sendall(data)


class Bridge(socketserver.ThreadingTCPServer):
    """A loopback port that leads to a Unix socket: the tool speaks TCP only."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path):
        super().__init__(("127.0.0.1", 0), Pipe)
        self.path = str(path)


@contextmanager
def bridged(path):
    """The URL under which a socket is reached."""
    with Bridge(path) as bridge:
        threading.Thread(target=bridge.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{bridge.server_address[1]}"
        bridge.shutdown()


def asked(url, cases, folder, *more):
    """Have it asked; how many requests that were."""
    done = subprocess.run(
        [
            SCHEMATHESIS,
            "run",
            f"{url}/openapi.json",
            "--checks",
            CHECKS,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            str(max(1, 2 * cases // OPERATIONS)),
            "--seed",
            "1",
            "--workers",
            "2",
            "--no-color",
            "--request-timeout",
            "20",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
            "--mode",
            "all",
            "--exclude-path-regex",
            r"^/tasks/\{id\}/follow$",
            *more,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]
    return int(re.search(r"([\d,]+) generated", done.stdout)[1].replace(",", ""))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_document_says_all_that_is_answered(tmp_path):
    """No request that can be made from it, right or wrong, meets a 5xx or an answer that the page does not describe;
    over the socket and over TCP, and the daemon and its ledger are whole afterwards.
    """
    config = {
        "failover": {"tiers": [scripted({}, name="one", stage=tmp_path), scripted({}, name="two", stage=tmp_path)]},
        "usage_threshold_tokens": 1000,
        "http": {"listen": "127.0.0.1:0"},
    }
    home = tmp_path / "home"
    home.mkdir()
    with running(Daemon(tmp_path, config, {"HOME": str(home)})) as daemon:
        daemon.ended(daemon.submit("one"))
        with bridged(daemon.state / "locum.sock") as url:
            made = asked(url, CASES * 4 // 5, tmp_path)
        url = daemon.client.get("/status")["http"]["url"]
        token = daemon.client.post("/tokens", {"name": "api", "scope": "operate"})["token"]
        made += asked(url, CASES // 5, tmp_path, "--header", f"authorization:Bearer {token}")
        assert daemon.alive()
        assert daemon.client.get("/audit", timeout=60)["clean"]
        log = daemon.log.read_text()
        assert "Traceback" not in log, log[-3000:]
        assert made >= CASES
        print(f"{made:,} requests")
