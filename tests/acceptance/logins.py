"""How each real agent CLI is made to speak to the mock provider: its program, its model, its login."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.acceptance import provider_github
from tests.acceptance.install_agents import AGENTS, cache_folder

MODELS = {
    "claude-code": "claude-sonnet-4-5",
    "codex": "gpt-5",
    "gemini": "gemini-2.5-flash",
    "opencode": "mock/mock-model",
    "qwen": "mock-model",
    "copilot": "gpt-5",
    "pi": "mock/mock-model",
    "aider": "openai/mock-model",
}
# Without these, Gemini asks how to log in, and tries again ten times.
GEMINI = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "general": {"enableAutoUpdate": False, "maxAttempts": 1},
    "privacy": {"usageStatisticsEnabled": False},
}


def program(agent: str) -> str:
    """The installed CLI. Fails, saying what to run, when it is not there: these tests are never skipped."""
    path = AGENTS[agent].path(cache_folder())
    assert path.exists(), f"{path} is missing: run `python tests/acceptance/install_agents.py`, or `make test-agents`"
    return str(path)


def login(agent: str, url: str, key: str, *, oauth: bool = False) -> dict[str, Any]:
    """What makes `agent` speak to the provider at `url` as `key`: the env and args of a tier. See also `settle`."""
    chat = f"{url}/v1"
    match agent:
        case "claude-code":
            name = "CLAUDE_CODE_OAUTH_TOKEN" if oauth else "ANTHROPIC_API_KEY"
            return {"env": {"ANTHROPIC_BASE_URL": url, name: key}}
        case "codex":
            knobs = "request_max_retries=0,stream_max_retries=0,stream_idle_timeout_ms=600000"
            mock = f'{{name="mock",base_url="{chat}",env_key="MOCK_KEY",wire_api="responses",{knobs}}}'
            args = ["-c", 'model_provider="mock"', "-c", f"model_providers.mock={mock}"]
            return {"args": args, "env": {"MOCK_KEY": key}}
        case "gemini":
            return {"env": {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": key}}
        case "opencode":
            quiet = {f"OPENCODE_DISABLE_{what}": "1" for what in ("MODELS_FETCH", "LSP_DOWNLOAD")}
            return {"env": {"OPENCODE_CONFIG_CONTENT": json.dumps(_opencode(chat, key))} | quiet}
        case "qwen":
            return {"env": {"OPENAI_BASE_URL": chat, "OPENAI_API_KEY": key}}
        case "copilot":
            own = {"BASE_URL": chat, "API_KEY": key, "TYPE": "openai", "WIRE_API": "completions"}
            env = {f"COPILOT_PROVIDER_{name}": value for name, value in own.items()}
            return {"env": env | {"COPILOT_OFFLINE": "true", "COPILOT_PKG_CACHE_HOME": _unpacked(agent)}}
        case "pi":
            return {"env": {"MOCK_KEY": key, "PI_OFFLINE": "1"}}
        case "aider":
            return {"env": {"OPENAI_API_BASE": chat, "OPENAI_API_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}}
    raise AssertionError(f"nobody has said how {agent} logs in")


def github(url: str, key: str) -> dict[str, Any]:
    """A GitHub login of Copilot's: the words for its limits are Copilot's own, and come with no provider's key."""
    own = dict.fromkeys(("COPILOT_API_URL", "COPILOT_DEBUG_GITHUB_API_URL"), f"{url}{provider_github.PREFIX}")
    return {"env": own | {"COPILOT_GITHUB_TOKEN": key, "COPILOT_PKG_CACHE_HOME": _unpacked("copilot")}}


def _unpacked(agent: str) -> str:
    """Copilot unpacks itself once for each user, which takes longer than a run: here once for all of them."""
    return str(AGENTS[agent].folder(cache_folder()) / "unpacked")


def settle(agent: str, home: Path, url: str) -> None:
    """Write into a home what an agent takes from a file only: pi a provider, Gemini the kind of its login."""
    home.mkdir(parents=True, exist_ok=True)
    if agent == "pi":
        model = {"id": "mock-model", "contextWindow": 200_000, "maxTokens": 8_000}
        mock = {"baseUrl": f"{url}/v1", "api": "openai-completions", "apiKey": "MOCK_KEY", "models": [model]}
        (home / "models.json").write_text(json.dumps({"providers": {"mock": mock}}))
    elif agent == "gemini":
        (home / ".gemini").mkdir(exist_ok=True)
        (home / ".gemini" / "settings.json").write_text(json.dumps(GEMINI))


def used_before(home: Path) -> None:
    """Make a user's home one in which opencode has run before: at its first start it waits for npm's registry."""
    settings, needs = home / ".config" / "opencode", {"dependencies": {"@opencode-ai/plugin": "*"}}
    (settings / "node_modules").mkdir(parents=True)
    (settings / "package.json").write_text(json.dumps(needs))
    (settings / "package-lock.json").write_text(json.dumps({"packages": {"": needs}}))


def _opencode(chat: str, key: str) -> dict[str, Any]:
    """A provider of opencode's own kind at `chat`; the AI SDK's client for any other vendor lies in its program."""
    limit, cost = {"context": 200_000, "output": 8_000}, {"input": 3, "output": 15, "cache_read": 0.3}
    options, models = {"baseURL": chat, "apiKey": key}, {"mock-model": {"name": "mock", "limit": limit, "cost": cost}}
    mock = {"npm": "@ai-sdk/openai-compatible", "name": "mock", "options": options, "models": models}
    return {"provider": {"mock": mock}, "small_model": "mock/mock-model", "autoupdate": False, "share": "disabled"}
