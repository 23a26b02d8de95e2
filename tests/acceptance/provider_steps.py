"""What the mock provider can be told to do, and what it remembers having done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from locum.policy.usage import Tokens

Behaviour = Literal[
    "ok",  # the answer
    "tool",  # a shell call first, and the answer once its result is in the request
    "tools",  # a shell call, whether or not the request holds the result of another
    "subagent",  # a subagent is called first (Claude Code and opencode), and the answer once it has ended
    "auth",  # 401, or Gemini's 400
    "forbidden",  # 403
    "credit",  # no money left
    "throttle",  # 429 with retry-after
    "usage_limit",  # 429: the subscription's window is spent, with its reset
    "overloaded",  # 529 or 503
    "e500",
    "e503",
    "too_long",  # the context window is exceeded
    "not_found",  # no such model
    "flaky",  # 500 and the answer in turns
    "bad_json",  # 200 with a body that is neither JSON nor SSE
    "error_stream",  # 200, first events, then the provider's own error event, or the step's `refusal` as one
    "refuse",  # the step's own `refusal`, word for word
    "cut_stream",  # 200, first events, then the connection is gone
    "hang",  # nothing, not even headers, until released
    "hang_tool",  # nothing until released, and a shell call then
    "hang_stream",  # headers and first events, then nothing until released
    "slow",  # the answer, spread over `seconds`
]
BEHAVIOURS: tuple[str, ...] = get_args(Behaviour)
HANGING = frozenset({"hang", "hang_tool"})
CALLING = frozenset({"tools", "hang_tool"})
STREAM_ONLY = frozenset({"error_stream", "cut_stream", "hang_stream"})


@dataclass(frozen=True, slots=True)
class Step:
    """How one request is answered.

    A stream's troubles need a stream: where the request asks for one JSON body instead, it gets the answer.
    `seconds` is the retry-after of `throttle` (whole seconds) and the length of `slow`; `reset_in_s` says when the
    spent window of `usage_limit` resets, `window` which one it is; `tokens` fixes the counts that are otherwise drawn
    from the seed; `used_percent` adds the vendor's quota headers to an answer (0..100). `refusal` is what `refuse`
    answers with, and how `error_stream` ends when it is given.
    """

    behaviour: Behaviour = "ok"
    seconds: float = 1
    reset_in_s: int = 3600
    window: Literal["five_hour", "seven_day"] = "five_hour"
    text: str = "done"
    command: str = "echo hi-from-tool"
    tokens: Tokens | None = None
    used_percent: float | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """Tokens of one answer: who asked, which message carried them, for which model; `aside` as in Asked."""

    key: str
    id: str
    model: str
    tokens: Tokens
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in; `at_ms` is epoch milliseconds, `answered` the behaviour it met, `aside` as in Asked."""

    path: str
    key: str
    body: Mapping[str, Any]
    at_ms: int
    answered: str
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer without tokens: an HTTP status, headers and a JSON body."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer is made of: its identity, the counts, and either text pieces or a shell call before them.

    `counts`: whether a stream of it tells them.
    """

    id: str
    model: str
    tokens: Tokens
    pieces: tuple[str, ...]
    tool: str | None = None
    arguments: str = ""
    counts: bool = True


Event = tuple[str, Mapping[str, Any] | str]
"""A name, and the data: what is JSON, or a bare word that ends a stream."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request for an answer asks for.

    `counts`: whether the answer shall tell what it cost. `aside`: it is none of the conversation (a title for it),
    which an agent asks for when it likes; so it takes no step of a script.
    """

    model: str
    stream: bool
    counts: bool = True
    aside: bool = False


class Dialect(Protocol):
    """One wire protocol. Everything behaves alike in all of them; they differ in names, bodies and order."""

    PREFIX: str  # of a message's identity
    NAMED_EVENTS: bool  # whether an event's name is on the wire
    ERRORS: Mapping[str, tuple[Any, ...]]
    CLOSING_EVENTS: int  # how many events at the end make a stream whole

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """What a request asks for; None: it is none of this protocol's."""

    def told(self, tokens: Tokens) -> Tokens:
        """These counts as this protocol can tell them."""

    def refusal(self, step: Step, behaviour: str, model: str, request_id: str, now_s: int) -> Refusal:
        """The error answer of `behaviour`, one of ERRORS."""

    def quota_headers(self, step: Step, now_s: int) -> dict[str, str]:
        """The headers of an answer that tells how much of a subscription's window is used."""

    def error_event(self, request_id: str) -> Event:
        """The event by which a stream that began well ends badly."""

    def has_tool_result(self, body: Mapping[str, Any]) -> bool:
        """Whether the request brings the result of a tool call."""

    def shell_call(self, body: Mapping[str, Any], command: str) -> tuple[str, str]:
        """Tool name and JSON arguments that make the agent run `command`."""

    def agent_call(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """Tool name and JSON arguments that make the agent call a subagent."""

    def message(self, reply: Reply) -> dict[str, Any]:
        """The whole answer as one JSON body."""

    def events(self, reply: Reply) -> Sequence[Event]:
        """The answer as stream events."""
