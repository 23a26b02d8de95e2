"""OpenAI Chat Completions as the mock provider speaks it: what most agents fall back on; bodies, headers, SSE shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from locum.policy.usage import Tokens
from tests.acceptance import provider_openai
from tests.acceptance.provider_steps import Asked, Event, Refusal, Reply, Step

PATH = "/v1/chat/completions"
PREFIX = "chatcmpl-"
NAMED_EVENTS = False
CLOSING_EVENTS = 2  # the counts, or the reason of the end where none were asked for, and the word that ends all
ERRORS = provider_openai.ERRORS  # one vendor, one set of refusals
TITLES = ("You are a title generator",)
"""How a request begins that an agent makes beside its conversation."""
SHELLS = ("bash", "run_shell_command", "shell", "execute_command")


def asked(path: str, body: Mapping[str, Any]) -> Asked | None:
    """What a request asks for; None: it is none of this protocol's. The counts of a stream come only when asked for."""
    if path != PATH:
        return None
    stream = bool(body.get("stream"))
    counts = not stream or bool((body.get("stream_options") or {}).get("include_usage"))
    return Asked(str(body.get("model", "")), stream, counts, _is_aside(body))


def told(tokens: Tokens) -> Tokens:
    """These counts as this protocol can tell them: writing to a cache is not counted."""
    return Tokens(tokens.input, tokens.output, tokens.cache_read, 0)


def refusal(step: Step, behaviour: str, model: str, request_id: str, now_s: int) -> Refusal:
    """The error answer of `behaviour`, one of ERRORS."""
    return provider_openai.refusal(step, behaviour, model, request_id, now_s)


def quota_headers(step: Step, now_s: int) -> dict[str, str]:
    """An answer to a key, which has no subscription's window, never tells how much of one is used."""
    return {}


def error_event(request_id: str) -> Event:
    """The chunk by which a stream that began well ends badly."""
    _, kind, code, message = ERRORS["overloaded"]
    return "error", {"error": {"message": message, "type": kind, "param": None, "code": code}}


def has_tool_result(body: Mapping[str, Any]) -> bool:
    """Whether the last message is a tool's output, or there will never be one: an agent that offers no tools."""
    messages = body.get("messages") or [{}]
    return not body.get("tools") or messages[-1].get("role") == "tool"


def shell_call(body: Mapping[str, Any], command: str) -> tuple[str, str]:
    """Tool name and JSON arguments that make the agent run `command`, by the tools the request offers."""
    offered = [(tool.get("function") or {}).get("name") for tool in body.get("tools") or []]
    name = next((each for each in SHELLS if each in offered), SHELLS[0])
    arguments: dict[str, Any] = {"command": command, "description": "Run one command"}
    if name == "run_shell_command":
        arguments["is_background"] = False
    return name, json.dumps(arguments)


def agent_call(body: Mapping[str, Any]) -> tuple[str, str]:
    """Opencode's task; who offers none runs a shell instead."""
    offered = [(tool.get("function") or {}).get("name") for tool in body.get("tools") or []]
    if "task" not in offered:
        return shell_call(body, "true")
    return "task", json.dumps({"description": "look", "prompt": "look around", "subagent_type": "general"})


def message(reply: Reply) -> dict[str, Any]:
    """The whole answer as one JSON body."""
    said = {"role": "assistant", "content": "".join(reply.pieces), "refusal": None}
    if reply.tool:
        said |= {"content": None, "tool_calls": [_call(reply, reply.arguments)]}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": _reason(reply)}
    return _envelope(reply, "chat.completion") | {"choices": [choice], "usage": _usage(reply.tokens)}


def events(reply: Reply) -> list[Event]:
    """The answer as chunks without names; the counts stand alone behind the end, if they were asked for."""
    out = [("role", _chunk(reply, {"role": "assistant", "content": None if reply.tool else ""}))]
    if reply.tool:
        out.append(("call", _chunk(reply, {"tool_calls": [{"index": 0} | _call(reply, "")]})))
        arguments = {"index": 0, "function": {"arguments": reply.arguments}}
        out.append(("delta", _chunk(reply, {"tool_calls": [arguments]})))
    else:
        out += [("delta", _chunk(reply, {"content": piece})) for piece in reply.pieces]
    out.append(("end", _chunk(reply, {}, _reason(reply))))
    if reply.counts:
        usage = {"choices": [], "usage": _usage(reply.tokens)}
        out.append(("usage", _envelope(reply, "chat.completion.chunk") | usage))
    return [*out, ("done", "[DONE]")]


def _is_aside(body: Mapping[str, Any]) -> bool:
    messages = body.get("messages") or [{}]
    content = messages[0].get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content)
    return str(content).lstrip().startswith(TITLES)


def _call(reply: Reply, arguments: str) -> dict[str, Any]:
    call_id = f"call_{reply.id.removeprefix(PREFIX)}"
    return {"id": call_id, "type": "function", "function": {"name": reply.tool, "arguments": arguments}}


def _reason(reply: Reply) -> str:
    return "tool_calls" if reply.tool else "stop"


def _chunk(reply: Reply, delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    # While the counts are still to come, every chunk says so.
    counts = {"usage": None} if reply.counts else {}
    return _envelope(reply, "chat.completion.chunk") | {"choices": [choice]} | counts


def _usage(tokens: Tokens) -> dict[str, Any]:
    # What was cached is part of the prompt here, and reasoning part of the completion.
    prompt = tokens.input + tokens.cache_read
    return {
        "prompt_tokens": prompt,
        "completion_tokens": tokens.output,
        "total_tokens": prompt + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.output // 3, "audio_tokens": 0},
    }


def _envelope(reply: Reply, kind: str) -> dict[str, Any]:
    return {"id": reply.id, "object": kind, "created": 0, "model": reply.model, "system_fingerprint": "fp_mock"}
