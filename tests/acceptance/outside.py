"""Agents that nobody supervises: run as a person would, each in a home of its own, before the mock provider."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.install_agents import node_path
from tests.acceptance.logins import GEMINI
from tests.acceptance.provider import Provider
from tests.acceptance.provider_steps import Request, Step
from tests.acceptance.real import MODELS, login, program
from tests.acceptance.terminal import Terminal

QUIET = {
    "claude-code": {
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "IS_SANDBOX": "1",  # as root it asks for this before it runs tools unasked
    },
    "codex": {},
    "gemini": {"NO_COLOR": "1"},
}
SETTINGS = {"claude-code": ".claude/settings.json", "codex": ".codex/hooks.json", "gemini": ".gemini/settings.json"}


@dataclass(frozen=True)
class Answer:
    """How one headless run went."""

    exit: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON lines of its output."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def session(self) -> str:
        """The session it told first."""
        return next(str(found) for row in self.rows for name in ("session_id", "thread_id") if (found := row.get(name)))


@dataclass
class Outside:
    """One person's agent: `name` names its login at the provider, and its home below `folder`."""

    agent: str
    name: str
    folder: Path
    provider: Provider
    steps: Sequence[Step] = (Step(),)
    oauth: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make its home and script its answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.provider.script(self.key, self.steps)
        if self.agent == "gemini":
            self.configure(GEMINI)

    @property
    def home(self) -> Path:
        """Its home."""
        return self.folder / self.name

    @property
    def work(self) -> Path:
        """Where it works."""
        return self.folder / f"{self.name}.work"

    @property
    def key(self) -> str:
        """Its login."""
        return f"sk-ant-oat01-{self.name}" if self.oauth else f"key-{self.name}"

    @property
    def settings(self) -> Path:
        """The file its hooks stand in."""
        return self.home / SETTINGS[self.agent]

    @property
    def requests(self) -> list[Request]:
        """What it asked the provider, in order."""
        return [each for each in self.provider.requests if each.key == self.key]

    def configure(self, more: Mapping[str, Any]) -> None:
        """Add to its settings."""
        self.settings.parent.mkdir(parents=True, exist_ok=True)
        now = json.loads(self.settings.read_text()) if self.settings.exists() else {}
        self.settings.write_text(json.dumps({**now, **more}, indent=1))

    def environment(self) -> dict[str, str]:
        """All that it is started with."""
        spoken = login(self.agent, self.provider.url, self.key, oauth=self.oauth)["env"]
        plain = {
            "PATH": node_path(),
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "TZ": "UTC",
            "NO_PROXY": "127.0.0.1",
        }
        return plain | QUIET[self.agent] | spoken | dict(self.env)

    def command(self, prompt: str, *more: str, resume: str = "", fork: bool = False) -> list[str]:
        """What a person types: a new session, or `resume` of one, or a `fork` of it."""
        model, start = MODELS[self.agent], program(self.agent)
        if self.agent == "claude-code":
            again = ["--resume", resume] if resume else []
            shape = ["--output-format", "stream-json", "--verbose", "--model", model, "--dangerously-skip-permissions"]
            return [start, "-p", prompt, *shape, *again, *(["--fork-session"] if fork else []), *more]
        if self.agent == "codex":
            free = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
            trust = "--dangerously-bypass-hook-trust"
            spoken = login(self.agent, self.provider.url, self.key)["args"]
            again = ["fork" if fork else "resume", resume] if resume else []
            return [start, "exec", *again, "--json", *free, trust, "-m", model, *spoken, *more, prompt]
        again = ["--resume", resume] if resume else ["--session-id", str(uuid.uuid4())]
        free = ["--approval-mode", "yolo", "--skip-trust", "--output-format", "stream-json"]
        return [start, "-p", prompt, "-m", model, *free, *again, *more]

    def at_a_terminal(self) -> Terminal:
        """Start Claude Code in a terminal, past all that it asks a new user."""
        assert self.agent == "claude-code", "the others are not typed to here"
        known = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        answered = {
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "customApiKeyResponses": {"approved": [self.key[-20:]], "rejected": []},
            "projects": {str(self.work): known},
        }
        (self.home / ".claude.json").write_text(json.dumps(answered))
        self.configure({"skipDangerousModePermissionPrompt": True})
        argv = [program(self.agent), "--model", MODELS[self.agent], "--dangerously-skip-permissions"]
        return Terminal(argv, self.environment(), self.work)

    def begin(self, prompt: str = "say done", *more: str, **how: Any) -> subprocess.Popen[str]:
        """Start it; the caller waits for its end."""
        return subprocess.Popen(
            self.command(prompt, *more, **how),
            env=self.environment(),
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, prompt: str = "say done", *more: str, **how: Any) -> Answer:
        """Run it to its end."""
        return ended(self.begin(prompt, *more, **how))


def ended(process: subprocess.Popen[str], timeout: float = 60) -> Answer:
    """Wait for the end of a run, bounded."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the agent did not end in {timeout} s\n{out[-3000:]}\n{err[-3000:]}") from None
    return Answer(process.returncode, out, err)
