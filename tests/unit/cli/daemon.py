"""A stand-in for the daemon: answers on a Unix socket from a table, in a thread, and remembers what it was asked."""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path, answers):
        self.answers = answers
        self.asked = []
        self.release = threading.Event()
        super().__init__(str(path), _Handler)

    def handle_error(self, *_):
        """A client that hangs up early is its own business, and none of another test's standard error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _answer(self, body):
        path = urlsplit(self.path)
        self.server.asked.append((self.command, self.path, body))
        found = self.server.answers.get((self.command, path.path), (404, problem("not_found", "no such path")))
        status, answer = found if isinstance(found, tuple) else (200, found)
        if isinstance(answer, list):
            self._stream(answer)
            return
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, objects):
        """Send one chunk an object; `None` keeps the reader waiting, `...` breaks off."""
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for each in objects:
            if each is None:
                self.wfile.flush()
                self.server.release.wait(20)
                continue
            if each is ...:
                self.close_connection = True
                return
            data = json.dumps(each).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")


def problem(code, detail, remedy=""):
    """A problem as the daemon tells it."""
    return {"type": "about:blank", "title": "", "status": 400, "code": code, "detail": detail, "remedy": remedy}


@contextmanager
def answering(path, answers):
    """A daemon at `path`: `answers` by (method, path without query) are JSON, (status, JSON), or a list to stream."""
    server = _Server(path, answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
