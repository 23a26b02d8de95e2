"""Gemini generateContent as the mock provider speaks it: paths, bodies and the SSE shape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from locum.policy.usage import Tokens
from tests.acceptance.provider_steps import Asked, Event, Refusal, Reply, Step

PATH = "/v1beta/models/{model}:{method}"
PREFIX = "gem_"
NAMED_EVENTS = False
CLOSING_EVENTS = 1  # the end, which holds the final counts
_ASKED = re.compile(r"/v1(?:beta)?/models/(?P<model>[^/:]+):(?P<method>generateContent|streamGenerateContent)")
_RPC = "type.googleapis.com/google.rpc."
_QUOTA = "You exceeded your current quota, please check your plan and billing details."

# behaviour -> (status, error status, message)
ERRORS = {
    "auth": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "forbidden": (403, "PERMISSION_DENIED", "Your project has been denied access. Please contact support."),
    "credit": (
        403,
        "PERMISSION_DENIED",
        "This API method requires billing to be enabled. Please enable billing on project #mock.",
    ),
    "throttle": (429, "RESOURCE_EXHAUSTED", f"{_QUOTA} Please retry in {{seconds}}s."),
    "usage_limit": (429, "RESOURCE_EXHAUSTED", _QUOTA),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "e500": (500, "INTERNAL", "An internal error has occurred. Please retry."),
    "e503": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "too_long": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1214000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "not_found": (404, "NOT_FOUND", "models/{model} is not found for API version v1beta."),
}


def asked(path: str, body: Mapping[str, Any]) -> Asked | None:
    """The model stands in the path here, and so does whether the answer shall be a stream."""
    found = _ASKED.fullmatch(path)
    return Asked(found["model"], found["method"] == "streamGenerateContent") if found else None


def told(tokens: Tokens) -> Tokens:
    """These counts as this protocol can tell them: writing to a cache is not counted."""
    return Tokens(tokens.input, tokens.output, tokens.cache_read, 0)


def refusal(step: Step, behaviour: str, model: str, request_id: str, now_s: int) -> Refusal:
    """The error answer of `behaviour`, one of ERRORS."""
    code, status, message = ERRORS[behaviour]
    text = message.format(model=model, seconds=int(step.seconds))
    error: dict[str, Any] = {"code": code, "message": text, "status": status}
    if details := _details(step, behaviour, model):
        error["details"] = details
    return Refusal(code, {"error": error}, {"x-request-id": request_id})


def _details(step: Step, behaviour: str, model: str) -> list[dict[str, Any]]:
    if behaviour == "auth":
        service = {"service": "generativelanguage.googleapis.com"}
        reason = {"reason": "API_KEY_INVALID", "domain": "googleapis.com", "metadata": service}
        return [{"@type": f"{_RPC}ErrorInfo"} | reason]
    if behaviour == "throttle":
        delay = {"@type": f"{_RPC}RetryInfo", "retryDelay": f"{int(step.seconds)}s"}
        return [_violation("GenerateContentInputTokensPerModelPerMinute-FreeTier", model), delay]
    if behaviour == "usage_limit":
        return [_violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier", model)]
    return []


def _violation(quota: str, model: str) -> dict[str, Any]:
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    violation = {"quotaMetric": metric, "quotaId": quota, "quotaDimensions": {"model": model}, "quotaValue": "100"}
    return {"@type": f"{_RPC}QuotaFailure", "violations": [violation]}


def quota_headers(step: Step, now_s: int) -> dict[str, str]:
    """An answer never tells how much of a quota is used."""
    return {}


def error_event(request_id: str) -> Event:
    """The chunk by which a stream that began well ends badly."""
    code, status, message = ERRORS["overloaded"]
    return "error", {"error": {"code": code, "message": message, "status": status}}


def has_tool_result(body: Mapping[str, Any]) -> bool:
    """Whether the last content brings the result of a function call."""
    contents = body.get("contents") or [{}]
    return any("functionResponse" in part for part in contents[-1].get("parts") or [])


def shell_call(body: Mapping[str, Any], command: str) -> tuple[str, str]:
    """Tool name and JSON arguments that make the agent run `command`."""
    return "run_shell_command", json.dumps({"command": command, "description": "Run one command"})


def agent_call(body: Mapping[str, Any]) -> tuple[str, str]:
    """Gemini is not made to call subagents here: a shell call stands in."""
    return shell_call(body, "true")


def message(reply: Reply) -> dict[str, Any]:
    """The whole answer as one JSON body."""
    return _chunk(reply, [_call(reply) if reply.tool else {"text": "".join(reply.pieces)}], done=True)


def events(reply: Reply) -> list[Event]:
    """The answer as chunks; each tells the prompt's count, and only the last the whole answer's."""
    begun: list[Event] = [("delta", _chunk(reply, [{"text": piece}])) for piece in reply.pieces]
    return [*begun, ("end", _chunk(reply, [_call(reply) if reply.tool else {"text": ""}], done=True))]


def _call(reply: Reply) -> dict[str, Any]:
    return {"functionCall": {"name": reply.tool, "args": json.loads(reply.arguments)}}


def _chunk(reply: Reply, parts: list[dict[str, Any]], *, done: bool = False) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if done:
        candidate["finishReason"] = "STOP"
    usage = _usage(reply.tokens, reply.tokens.output if done else 1)
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": reply.model, "responseId": reply.id}


def _usage(tokens: Tokens, output: int) -> dict[str, Any]:
    # What was cached is part of the prompt here; thoughts stand beside the answer, and only the total holds all.
    thoughts, prompt = output // 3, tokens.input + tokens.cache_read
    return {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": tokens.cache_read,
        "candidatesTokenCount": output - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + output,
    }
