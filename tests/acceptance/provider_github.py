"""What GitHub itself tells a Copilot CLI with a GitHub login: its user, its models, and where it asks them."""

from __future__ import annotations

from typing import Any

PREFIX = "/github"
"""Of everything below the provider's address that is GitHub's; behind it come the paths of Chat Completions."""
MODEL = "gpt-5"


def behind(path: str) -> str:
    """The path as the provider of a model would be asked."""
    return f"/v1{path.removeprefix(PREFIX)}"


def answer(path: str, url: str) -> dict[str, Any] | None:
    """What GitHub answers by itself, given the provider's address; None: a model is asked, or nobody knows it."""
    match path.removeprefix(PREFIX):
        case "/copilot_internal/user":
            plan = {"login": "dev", "copilot_plan": "individual", "access_type_sku": "monthly_subscriber"}
            return plan | {"chat_enabled": True, "endpoints": {"api": f"{url}{PREFIX}"}, "quota_snapshots": {}}
        case "/models":
            return {"object": "list", "data": [_model()]}
    return None


def _model() -> dict[str, Any]:
    limits = {"max_context_window_tokens": 128_000, "max_output_tokens": 16_000, "max_prompt_tokens": 128_000}
    supports = {"streaming": True, "tool_calls": True, "parallel_tool_calls": True}
    capabilities = {"family": MODEL, "type": "chat", "object": "model_capabilities", "tokenizer": "o200k_base"}
    return {
        "id": MODEL,
        "name": MODEL,
        "object": "model",
        "vendor": "OpenAI",
        "version": MODEL,
        "model_picker_enabled": True,
        "policy": {"state": "enabled", "terms": ""},
        "supported_endpoints": ["/chat/completions"],
        "capabilities": capabilities | {"limits": limits, "supports": supports},
    }
