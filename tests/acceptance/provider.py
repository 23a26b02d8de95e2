"""A mock LLM provider in a thread: the protocols of Anthropic, OpenAI (both) and Gemini, scripted per API key, counted."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from locum.policy.usage import Tokens
from tests.acceptance import provider_anthropic, provider_chat, provider_gemini, provider_github, provider_openai
from tests.acceptance.provider_server import Exchange, Server
from tests.acceptance.provider_steps import (
    CALLING,
    HANGING,
    STREAM_ONLY,
    Asked,
    Dialect,
    Event,
    Issued,
    Reply,
    Request,
    Step,
)

DEFAULT = "*"
MODELS = ("claude-sonnet-4-5", "claude-haiku-4-5", "gpt-5", "gemini-2.5-flash", "mock-model")
SLOW_PIECES = 10
CUT_AFTER_S = 0.1  # a client reads what was said before it sees the cut: what is under way would be lost with it
HANG_UP_POLL_S = 0.05  # a client that hangs up wakes nobody by itself
REFUSING = frozenset({*provider_chat.ERRORS, "refuse"})
DIALECTS: tuple[Dialect, ...] = (provider_anthropic, provider_openai, provider_chat, provider_gemini)


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer under way."""

    exchange: Exchange
    dialect: Dialect
    step: Step
    behaviour: str
    reply: Reply
    aside: bool

    @property
    def entry(self) -> Issued:
        """What the ledger says of it."""
        return Issued(self.exchange.key, self.reply.id, self.reply.model, self.reply.tokens, self.aside)

    def say(self, events: Sequence[Event]) -> None:
        """Some events of the stream, the way this protocol writes them."""
        self.exchange.send_events(events, named=self.dialect.NAMED_EVENTS)


class Provider:
    """A provider on loopback; use it as a context manager, or call `close()`.

    Each answer has an identity of its own and counts drawn from `seed`, so that counting one twice, or counting it
    for another key, cannot go unseen.
    """

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._state = threading.Condition()
        self._scripts: dict[str, list[Step]] = {}
        self._taken: Counter[str] = Counter()
        self._issued: list[Issued] = []
        self._partial: list[Issued] = []
        self._requests: list[Request] = []
        self._busy = 0
        self._hanging = 0
        self._releases = 0
        self._closed = False
        self._server = Server(self._respond)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="provider")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The base address, without `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def issued(self) -> list[Issued]:
        """Every answer that went out whole, in order."""
        with self._state:
            return list(self._issued)

    @property
    def partial(self) -> list[Issued]:
        """Every answer that began and did not end, with the counts it would have had."""
        with self._state:
            return list(self._partial)

    @property
    def requests(self) -> list[Request]:
        """Every request that asked for an answer, in order (probes and lists are not in it)."""
        with self._state:
            return list(self._requests)

    @property
    def busy(self) -> int:
        """How many requests are being answered right now, hung ones too."""
        with self._state:
            return self._busy

    @property
    def hanging(self) -> int:
        """How many requests are held by `hang` or `hang_stream` right now."""
        with self._state:
            return self._hanging

    def total(self, key: str | None = None) -> Tokens:
        """The sum of what went out whole, for one key or for all."""
        return sum((entry.tokens for entry in self.issued if key in (None, entry.key)), Tokens())

    def script(self, key: str, steps: Sequence[Step]) -> None:
        """Answer the requests of `key` (DEFAULT: of any key without a script) by `steps`; the last one repeats."""
        assert steps, "a script has at least one step"
        with self._state:
            self._scripts[key] = list(steps)
            self._taken[key] = 0

    def wait_for(self, condition: Callable[[Provider], bool], timeout_s: float = 10) -> bool:
        """Wait until `condition` holds; it is looked at whenever something happens here. False: time ran out."""
        with self._state:
            return self._state.wait_for(lambda: condition(self), timeout_s)

    def release(self) -> None:
        """Let everything that hangs now go on to its answer."""
        with self._state:
            self._releases += 1
            self._state.notify_all()

    def close(self) -> None:
        """Drop every connection and end every thread; calling it again does nothing."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            self._state.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.disconnect_all()
        self._server.server_close()

    def _respond(self, exchange: Exchange) -> None:
        path = exchange.path.partition("?")[0].rstrip("/")
        if path.startswith(provider_github.PREFIX):
            told = provider_github.answer(path, self.url)
            path = provider_github.behind(path)
            if told is not None:
                exchange.send_json(200, told)
                return
        if exchange.command == "HEAD" or path == "":
            exchange.send_json(200, {})
        elif path == "/v1/models":
            exchange.send_json(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
        elif path == f"{provider_anthropic.PATH}/count_tokens":
            exchange.send_json(200, {"input_tokens": 1000})
        elif asking := [(each, asked) for each in DIALECTS if (asked := each.asked(path, exchange.body))]:
            with self._working():
                self._answer(exchange, *asking[0])
        else:
            exchange.send_json(404, {"error": {"type": "not_found_error", "message": f"no such path: {path}"}})

    def _answer(self, exchange: Exchange, dialect: Dialect, asked: Asked) -> None:
        step, behaviour, request_id = self._take(exchange, asked)
        now_s = int(time.time())
        if behaviour == "refuse":
            assert step.refusal is not None, "who refuses says how"
            headers = {name: _dated(value, now_s) for name, value in step.refusal.headers.items()}
            exchange.send_json(step.refusal.status, step.refusal.body, headers)
        elif behaviour in dialect.ERRORS:
            refusal = dialect.refusal(step, behaviour, asked.model, request_id, now_s)
            exchange.send_json(refusal.status, refusal.body, refusal.headers)
        elif behaviour == "bad_json":
            exchange.send_bytes(200, b"<html>it works</html>", "text/html")
        else:
            if behaviour in HANGING:
                self._hang(exchange)
            reply = self._reply(exchange, dialect, asked, step, behaviour)
            turn = Turn(exchange, dialect, step, behaviour, reply, asked.aside)
            headers = {"request-id": request_id, **dialect.quota_headers(step, now_s)}
            with self._state:
                self._partial.append(turn.entry)
            if asked.stream:
                self._stream(turn, headers)
            else:
                self._send(turn, headers)

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._state:
            self._busy += 1
        try:
            yield
        finally:
            with self._state:
                self._busy -= 1
                self._state.notify_all()

    def _take(self, exchange: Exchange, asked: Asked) -> tuple[Step, str, str]:
        """The step for this request, what it means now, and the request's id; the request is logged from here on."""
        with self._state:
            script = exchange.key if exchange.key in self._scripts else DEFAULT
            steps = self._scripts.get(script, [Step()])
            if asked.aside:  # refused as the conversation is, where that is refused from its first to its last word
                steps = steps if len(steps) == 1 and steps[0].behaviour in REFUSING else [Step()]
            taken = self._taken[script]
            self._taken[script] += not asked.aside
            step = steps[min(taken, len(steps) - 1)]
            behaviour: str = step.behaviour if exchange.key else "auth"
            if behaviour == "flaky":
                behaviour = "ok" if taken % 2 else "e500"
            if behaviour in STREAM_ONLY and not asked.stream:
                behaviour = "ok"
            at_ms = time.time_ns() // 1_000_000
            self._requests.append(Request(exchange.path, exchange.key, exchange.body, at_ms, behaviour, asked.aside))
            self._state.notify_all()
            return step, behaviour, f"req_{len(self._requests):08d}"

    def _reply(self, exchange: Exchange, dialect: Dialect, asked: Asked, step: Step, behaviour: str) -> Reply:
        with self._state:
            identity = f"{dialect.PREFIX}{self._random.getrandbits(96):024x}"
            # Every draw is made whether it is used or not, so that fixing one count does not move the others.
            drawn = Tokens(*(self._random.randint(1, most) for most in (4000, 900, 9000, 2500)))
        model, tokens, counts = asked.model, dialect.told(step.tokens or drawn), asked.counts
        calls = behaviour in CALLING or (behaviour == "tool" and not dialect.has_tool_result(exchange.body))
        if calls:
            call = dialect.shell_call(exchange.body, step.command)
            return Reply(identity, model, tokens, ("running a tool",), *call, counts=counts)
        if behaviour == "subagent":
            call = dialect.agent_call(exchange.body)
            return Reply(identity, model, tokens, ("calling a subagent",), *call, counts=counts)
        pieces = tuple(f"{step.text} " for _ in range(SLOW_PIECES)) if behaviour == "slow" else (step.text,)
        return Reply(identity, model, tokens, pieces, counts=counts)

    def _send(self, turn: Turn, headers: dict[str, str]) -> None:
        """The answer as one JSON body."""
        if turn.behaviour == "slow":
            self._pause(turn.step.seconds)
        with self._completing(turn):
            turn.exchange.send_json(200, turn.dialect.message(turn.reply), headers)

    def _stream(self, turn: Turn, headers: dict[str, str]) -> None:
        """The answer as events; troubles come after the first piece of content and before the counts."""
        exchange, dialect = turn.exchange, turn.dialect
        events = dialect.events(turn.reply)
        begun = next(n for n, (name, _) in enumerate(events, 1) if name.endswith("delta"))
        exchange.start_events(headers)
        turn.say(events[:begun])
        if turn.behaviour == "cut_stream":
            self._pause(CUT_AFTER_S)
            exchange.abort()
            return
        if turn.behaviour == "error_stream":
            given = turn.step.refusal
            turn.say([("error", given.body) if given else dialect.error_event(turn.reply.id)])
            exchange.end_events()
            return
        if turn.behaviour == "hang_stream":
            self._hang(exchange)
        for event in events[begun : -dialect.CLOSING_EVENTS]:
            if turn.behaviour == "slow" and event[0].endswith("delta"):
                self._pause(turn.step.seconds / (SLOW_PIECES - 1))
            turn.say([event])
        with self._completing(turn):
            turn.say(events[-dialect.CLOSING_EVENTS :])
            exchange.end_events()

    @contextmanager
    def _completing(self, turn: Turn) -> Iterator[None]:
        """Enter the counts before they are on the wire: who has read them finds them in the ledger."""
        entry = turn.entry
        self._move(entry, self._partial, self._issued)
        try:
            yield
        except OSError:
            self._move(entry, self._issued, self._partial)
            raise

    def _move(self, entry: Issued, here: list[Issued], there: list[Issued]) -> None:
        with self._state:
            here.remove(entry)
            there.append(entry)
            self._state.notify_all()

    def _hang(self, exchange: Exchange) -> None:
        """Wait for a release; the close, or a client that hangs up, ends the exchange instead."""
        with self._state:
            seen = self._releases
            self._hanging += 1
            self._state.notify_all()
            try:
                while self._releases == seen:
                    if self._closed or exchange.is_abandoned():
                        raise ConnectionAbortedError
                    self._state.wait(HANG_UP_POLL_S)
            finally:
                self._hanging -= 1
                self._state.notify_all()

    def _pause(self, seconds: float) -> None:
        with self._state:
            if self._state.wait_for(lambda: self._closed, seconds):
                raise ConnectionAbortedError


def _dated(value: str, now_s: int) -> str:
    """A header as it is sent: "+N" is N seconds from now, as an epoch."""
    return str(now_s + int(value)) if value.startswith("+") else value


@contextmanager
def refusing_url() -> Iterator[str]:
    """An address that refuses every connection for as long as the context lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, so nobody else gets the port; never listening, so it refuses
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
