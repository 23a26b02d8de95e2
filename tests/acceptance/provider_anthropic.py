"""Anthropic Messages as the mock provider speaks it: bodies, headers and the SSE shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from locum.policy.usage import Tokens
from tests.acceptance.provider_steps import Asked, Event, Refusal, Reply, Step

PATH = "/v1/messages"
PREFIX = "msg_"
NAMED_EVENTS = True
CLOSING_EVENTS = 2  # the counts and the end

# behaviour -> (status, error type, message)
ERRORS = {
    "auth": (401, "authentication_error", "invalid x-api-key"),
    "forbidden": (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    "credit": (
        400,
        "invalid_request_error",
        (
            "Your credit balance is too low to access the Anthropic API. "
            "Please go to Plans & Billing to upgrade or purchase credits."
        ),
    ),
    "throttle": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50,000 input tokens per minute.",
    ),
    "usage_limit": (
        429,
        "rate_limit_error",
        "This request would exceed your account's rate limit. Please try again later.",
    ),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "e500": (500, "api_error", "Internal server error"),
    "e503": (503, "api_error", "Service unavailable"),
    "too_long": (400, "invalid_request_error", "prompt is too long: 214000 tokens > 200000 maximum"),
    "not_found": (404, "not_found_error", "model: {model}"),
}
WINDOW_CODES = {"five_hour": "5h", "seven_day": "7d"}


def asked(path: str, body: Mapping[str, Any]) -> Asked | None:
    """What a request asks for; None: it is none of this protocol's."""
    return Asked(str(body.get("model", "")), bool(body.get("stream"))) if path == PATH else None


def told(tokens: Tokens) -> Tokens:
    """These counts as this protocol can tell them: all of them."""
    return tokens


def refusal(step: Step, behaviour: str, model: str, request_id: str, now_s: int) -> Refusal:
    """The error answer of `behaviour`, one of ERRORS."""
    status, kind, message = ERRORS[behaviour]
    error = {"type": kind, "message": message.format(model=model)}
    headers = {"request-id": request_id}
    if behaviour == "throttle":
        headers["retry-after"] = str(int(step.seconds))
    if behaviour == "usage_limit":
        headers |= _unified(step, "rejected", now_s) | {
            "retry-after": str(step.reset_in_s),
            "x-should-retry": "false",
            "anthropic-ratelimit-unified-overage-status": "rejected",
            "anthropic-ratelimit-unified-overage-disabled-reason": "org_level_disabled",
        }
    return Refusal(status, {"type": "error", "error": error, "request_id": request_id}, headers)


def quota_headers(step: Step, now_s: int) -> dict[str, str]:
    """The headers of an answer that tells how much of a subscription's window is used."""
    if step.used_percent is None:
        return {}
    code = WINDOW_CODES[step.window]
    warning = step.used_percent >= 90
    headers = _unified(step, "allowed_warning" if warning else "allowed", now_s)
    headers[f"anthropic-ratelimit-unified-{code}-utilization"] = str(step.used_percent / 100)
    headers[f"anthropic-ratelimit-unified-{code}-reset"] = str(now_s + step.reset_in_s)
    if warning:
        headers[f"anthropic-ratelimit-unified-{code}-surpassed-threshold"] = "0.9"
    return headers


def _unified(step: Step, status: str, now_s: int) -> dict[str, str]:
    return {
        "anthropic-ratelimit-unified-status": status,
        "anthropic-ratelimit-unified-reset": str(now_s + step.reset_in_s),
        "anthropic-ratelimit-unified-representative-claim": step.window,
    }


def error_event(request_id: str) -> Event:
    """The event by which a stream that began well ends badly."""
    error = {"type": "overloaded_error", "message": "Overloaded"}
    return "error", {"type": "error", "error": error, "request_id": request_id}


def has_tool_result(body: Mapping[str, Any]) -> bool:
    """Whether the last message brings the result of a tool call."""
    messages = body.get("messages") or [{}]
    content = messages[-1].get("content")
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)


def shell_call(body: Mapping[str, Any], command: str) -> tuple[str, str]:
    """Tool name and JSON arguments that make the agent run `command`."""
    return "Bash", json.dumps({"command": command, "description": "Run one command"})


def agent_call(body: Mapping[str, Any]) -> tuple[str, str]:
    """Tool name and JSON arguments that make the agent call a subagent."""
    offered = {tool.get("name") for tool in body.get("tools") or []}
    call = {"description": "look", "prompt": "look around", "subagent_type": "general-purpose"}
    return "Agent" if "Agent" in offered else "Task", json.dumps(call | {"run_in_background": False})


def message(reply: Reply) -> dict[str, Any]:
    """The whole answer as one JSON body."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": "".join(reply.pieces)}]
    if reply.tool:
        arguments = json.loads(reply.arguments)
        blocks.append({"type": "tool_use", "id": _call_id(reply), "name": reply.tool, "input": arguments})
    return _envelope(reply, reply.tokens.output) | {
        "content": blocks,
        "stop_reason": "tool_use" if reply.tool else "end_turn",
    }


def events(reply: Reply) -> list[Event]:
    """The answer as stream events; the output count is 1 in the first and final only in the last but one."""
    out: list[dict[str, Any]] = [{"type": "message_start", "message": _envelope(reply, 1)}, {"type": "ping"}]
    out += _block(0, {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in reply.pieces])
    if reply.tool:
        call = {"type": "tool_use", "id": _call_id(reply), "name": reply.tool, "input": {}}
        out += _block(1, call, [{"type": "input_json_delta", "partial_json": reply.arguments}])
    stop = {"stop_reason": "tool_use" if reply.tool else "end_turn", "stop_sequence": None}
    out.append({"type": "message_delta", "delta": stop, "usage": _usage(reply, reply.tokens.output)})
    out.append({"type": "message_stop"})
    return [(event["type"], event) for event in out]


def _block(index: int, start: dict[str, Any], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _call_id(reply: Reply) -> str:
    return f"toolu_{reply.id.removeprefix('msg_')}"


def _usage(reply: Reply, output: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.tokens.input,
        "cache_creation_input_tokens": reply.tokens.cache_write,
        "cache_read_input_tokens": reply.tokens.cache_read,
        "output_tokens": output,
        "cache_creation": {"ephemeral_5m_input_tokens": reply.tokens.cache_write, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }


def _envelope(reply: Reply, output: int) -> dict[str, Any]:
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(reply, output),
    }
