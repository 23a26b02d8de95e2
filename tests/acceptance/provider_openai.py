"""OpenAI Responses as the mock provider speaks it: bodies, headers and the SSE shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from locum.policy.usage import Tokens
from tests.acceptance.provider_steps import Asked, Event, Refusal, Reply, Step

PATH = "/v1/responses"
PREFIX = "resp_"
NAMED_EVENTS = True
CLOSING_EVENTS = 1  # the end, which holds the counts

# behaviour -> (status, error type, code, message)
ERRORS = {
    "auth": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "forbidden": (
        403,
        "request_forbidden",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    "credit": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "throttle": (
        429,
        "tokens",
        "rate_limit_exceeded",
        (
            "Rate limit reached for {model} on tokens per min (TPM): Limit 30000, Used 29500, Requested 2100. "
            "Please try again in {seconds}s."
        ),
    ),
    "usage_limit": (429, "usage_limit_reached", None, "The usage limit has been reached"),
    "overloaded": (
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        "Our servers are currently overloaded. Please try again later.",
    ),
    "e500": (500, "server_error", "server_error", "The server had an error while processing your request."),
    "e503": (503, "server_error", None, "Service Unavailable"),
    "too_long": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
    ),
    "not_found": (
        404,
        "invalid_request_error",
        "model_not_found",
        "The model `{model}` does not exist or you do not have access to it.",
    ),
}
WINDOW_MINUTES = {"five_hour": 300, "seven_day": 10080}


def asked(path: str, body: Mapping[str, Any]) -> Asked | None:
    """What a request asks for; None: it is none of this protocol's."""
    return Asked(str(body.get("model", "")), bool(body.get("stream"))) if path == PATH else None


def told(tokens: Tokens) -> Tokens:
    """These counts as this protocol can tell them: all of them."""
    return tokens


def refusal(step: Step, behaviour: str, model: str, request_id: str, now_s: int) -> Refusal:
    """The error answer of `behaviour`, one of ERRORS."""
    status, kind, code, message = ERRORS[behaviour]
    text = message.format(model=model, seconds=int(step.seconds))
    error: dict[str, Any] = {"message": text, "type": kind, "param": None, "code": code}
    headers = {"x-request-id": request_id}
    if behaviour == "throttle":
        headers["retry-after"] = str(int(step.seconds))
    if behaviour == "usage_limit":
        error = {
            "type": kind,
            "message": text,
            "plan_type": "plus",
            "resets_at": now_s + step.reset_in_s,
            "resets_in_seconds": step.reset_in_s,
        }
        headers |= _windows(step, 100.0, now_s)
    return Refusal(status, {"error": error}, headers)


def quota_headers(step: Step, now_s: int) -> dict[str, str]:
    """The headers of an answer that tells how much of a subscription's windows is used."""
    return {} if step.used_percent is None else _windows(step, step.used_percent, now_s)


def _windows(step: Step, used_percent: float, now_s: int) -> dict[str, str]:
    # The five-hour window is always told first; the one that is not the step's own is far from spent.
    headers = {}
    for place, window in (("primary", "five_hour"), ("secondary", "seven_day")):
        own = window == step.window
        minutes = WINDOW_MINUTES[window]
        headers[f"x-codex-{place}-used-percent"] = str(used_percent if own else 40.0)
        headers[f"x-codex-{place}-window-minutes"] = str(minutes)
        headers[f"x-codex-{place}-reset-at"] = str(now_s + (step.reset_in_s if own else minutes * 30))
    return headers


def error_event(request_id: str) -> Event:
    """The event by which a stream that began well ends badly."""
    error = {"code": "server_is_overloaded", "message": "Our servers are currently overloaded. Please try again later."}
    response = {"id": f"resp_{request_id}", "object": "response", "status": "failed", "error": error, "output": []}
    return "response.failed", {"type": "response.failed", "response": response}


def has_tool_result(body: Mapping[str, Any]) -> bool:
    """Whether a tool's output came after the last thing a person or the model said."""
    for item in reversed(body.get("input") or []):
        kind = item.get("type", "message")
        if kind.endswith("_call_output"):
            return True
        if kind == "message" and item.get("role") in {"user", "assistant"}:
            return False
    return False


def shell_call(body: Mapping[str, Any], command: str) -> tuple[str, str]:
    """Tool name and JSON arguments that make the agent run `command`, by the tools the request offers."""
    offered = {tool.get("name") for tool in body.get("tools") or []}
    if "exec_command" in offered:
        return "exec_command", json.dumps({"cmd": command})
    if "shell_command" in offered:
        return "shell_command", json.dumps({"command": command})
    return "shell", json.dumps({"command": ["bash", "-lc", command]})


def agent_call(body: Mapping[str, Any]) -> tuple[str, str]:
    """Codex is not made to call subagents here: a shell call stands in."""
    return shell_call(body, "true")


def message(reply: Reply) -> dict[str, Any]:
    """The whole answer as one JSON body."""
    return _envelope(reply, "completed") | {"output": [_item(reply, "completed")], "usage": _usage(reply)}


def events(reply: Reply) -> list[Event]:
    """The answer as stream events; the counts stand only in the last."""
    item = {"output_index": 0, "item": _item(reply, "in_progress")}
    out: list[dict[str, Any]] = [
        {"type": "response.created", "response": _envelope(reply, "in_progress")},
        {"type": "response.output_item.added"} | item,
    ]
    where = {"item_id": _item_id(reply), "output_index": 0}
    if reply.tool:
        kind = "response.function_call_arguments"
        out.append({"type": f"{kind}.delta", "delta": reply.arguments} | where)
        out.append({"type": f"{kind}.done", "arguments": reply.arguments} | where)
    else:
        where["content_index"] = 0
        out += [{"type": "response.output_text.delta", "delta": piece} | where for piece in reply.pieces]
        out.append({"type": "response.output_text.done", "text": "".join(reply.pieces)} | where)
    out.append({"type": "response.output_item.done", "output_index": 0, "item": _item(reply, "completed")})
    out.append({"type": "response.completed", "response": message(reply)})
    return [(event["type"], event | {"sequence_number": number}) for number, event in enumerate(out)]


def _item_id(reply: Reply) -> str:
    return f"{'fc' if reply.tool else 'msg'}_{reply.id.removeprefix('resp_')}"


def _item(reply: Reply, status: str) -> dict[str, Any]:
    item: dict[str, Any] = {"id": _item_id(reply), "status": status}
    if reply.tool:
        call_id = f"call_{reply.id.removeprefix('resp_')}"
        return item | {"type": "function_call", "call_id": call_id, "name": reply.tool, "arguments": reply.arguments}
    done = status == "completed"
    content = [{"type": "output_text", "text": "".join(reply.pieces), "annotations": []}] if done else []
    return item | {"type": "message", "role": "assistant", "content": content}


def _usage(reply: Reply) -> dict[str, Any]:
    # What was cached is part of the input here, and reasoning part of the output.
    tokens = reply.tokens
    cached = {"cached_tokens": tokens.cache_read, "cache_write_tokens": tokens.cache_write}
    return {
        "input_tokens": tokens.input + tokens.cache_read + tokens.cache_write,
        "input_tokens_details": cached,
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.output // 3},
        "total_tokens": tokens.total,
    }


def _envelope(reply: Reply, status: str) -> dict[str, Any]:
    return {
        "id": reply.id,
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": reply.model,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }
