"""The daemon's socket, as the verbs use it."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from locum import errors
from locum.cli.wire import Answer, WireError, ask

ANSWER_S = 30.0
"""How long an answer may take, except where the work itself is long."""

_ERRORS: dict[str, type[errors.LocumError]] = {
    **{each.code: each for each in errors.LocumError.__subclasses__() if each.__module__ == errors.__name__},
    "too_large": errors.UsageError,
}

Json = dict[str, Any]


def segment(name: str) -> str:
    """A name as one step of a path."""
    return quote(name, safe="")


class Client:
    """Asks the first of `paths` where a daemon answers.

    Every method raises UnreachableError when none does, and what the daemon refuses as the LocumError it is.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def get(self, path: str, timeout: float | None = ANSWER_S, **query: str | int | list[str] | None) -> Json:
        """The answer to a question; parameters that are None are left out."""
        return self._ask("GET", path + _query(query), None, timeout)

    def text(self, path: str, **query: str | int | list[str] | None) -> str:
        """The answer to a question whose answer is no JSON."""
        with self._connected(ANSWER_S) as connection:
            answer = _checked(ask(connection, "GET", path + _query(query), None))
            return answer.body().decode("utf-8", "replace")

    def post(self, path: str, body: Json | None = None, timeout: float | None = ANSWER_S) -> Json:
        """The answer to an order."""
        return self._ask("POST", path, body or {}, timeout)

    def follow(self, task: str, quiet_s: float | None = None) -> Iterator[Json]:
        """All that has happened and happens to a task, until it has ended, the daemon stops, or all is quiet."""
        with self._connected(quiet_s) as connection:
            answer = _checked(ask(connection, "GET", f"/tasks/{segment(task)}/follow", None))
            # Cut off in the middle: whoever reads sees that the end is missing.
            with contextlib.suppress(WireError, OSError):
                for line in answer.lines():
                    yield json.loads(line)

    def lines(self, path: str, body: Json) -> Iterator[Json]:
        """What is told after an order, line by line, for as long as it takes; the daemon hears when nobody listens."""
        with self._connected(None) as connection:
            answer = _checked(ask(connection, "POST", path, json.dumps(body).encode()))
            with contextlib.suppress(WireError, OSError):  # as in `follow`
                for line in answer.lines():
                    yield json.loads(line)

    def _ask(self, method: str, path: str, body: Json | None, timeout: float | None) -> Json:
        data = None if body is None else json.dumps(body).encode()
        with self._connected(timeout) as connection:
            answer: Json = json.loads(_checked(ask(connection, method, path, data)).body())
        return answer

    @contextlib.contextmanager
    def _connected(self, timeout: float | None) -> Iterator[socket.socket]:
        """A connection for one question, whose breaking is told as an UnreachableError."""
        try:
            with self._connect(timeout) as connection:
                yield connection
        except TimeoutError as error:
            raise errors.UnreachableError(f"the daemon has not answered within {timeout:g} s") from error
        except (WireError, OSError, ValueError) as error:
            remedy = "Ask again; if it goes on, see the daemon's log."
            raise errors.UnreachableError(
                f"the daemon broke off in the middle of its answer ({error})", remedy=remedy
            ) from error

    def _connect(self, timeout: float | None) -> socket.socket:
        for path in self.paths:
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                found.settimeout(timeout)
                found.connect(str(path))
            except PermissionError as error:
                found.close()
                remedy = "Ask as the user the daemon runs as, or as root."
                raise errors.ForbiddenError(f"the socket {path} belongs to another user", remedy=remedy) from error
            except OSError:
                found.close()
                continue
            return found
        places = ", ".join(map(str, self.paths))
        remedy = "Start one with `locum serve`; if it runs, name its socket with --socket or $LOCUM_SOCKET."
        raise errors.UnreachableError(f"no daemon answers at {places}", remedy=remedy)


def _checked(answer: Answer) -> Answer:
    """The answer, if it is no refusal. Raises the refusal as a LocumError."""
    if answer.status >= 400:
        problem = json.loads(answer.body())
        kind = _ERRORS.get(problem["code"], errors.LocumError)
        raise kind(problem["detail"], remedy=problem["remedy"])
    return answer


def _query(parameters: Mapping[str, str | int | list[str] | None]) -> str:
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(given, doseq=True)}" if given else ""
