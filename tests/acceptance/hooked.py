"""Sessions that people start themselves, with locum's hooks in their agent's settings, before a real daemon."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locum.policy.usage import TOKEN_TYPES, Tokens
from tests.acceptance.outside import Answer, Outside
from tests.acceptance.provider_steps import Request, Step
from tests.acceptance.real import Stage
from tests.harness import LOCUM

OWN = "/heard/"
"""What a hook of the person's own is known by. It stands before locum's, and keeps each call in a file."""


@dataclass
class Person:
    """Somebody whose sessions are to count for the first tier of the chain `name`, and whose login and home it has.

    `refused`: nobody answers their requests.
    """

    made: Stage
    agent: str
    name: str
    steps: Sequence[Step] = (Step(),)
    oauth: bool = False
    refused: bool = False

    def __post_init__(self) -> None:
        """Give them a home, with a place in it for what a hook of their own hears."""
        homes = self.made.world.folder / "homes"
        env = {"ANTHROPIC_BASE_URL": self.made.refusing} if self.refused else {}
        self.outside = Outside(self.agent, self.tier, homes, self.made.provider, self.steps, self.oauth, env)
        self.heard_in.mkdir()

    @property
    def heard_in(self) -> Path:
        """Where their own hook keeps what it is told."""
        return self.outside.home / OWN.strip("/")

    @property
    def tier(self) -> str:
        """The tier they use."""
        return f"{self.name}-first"

    def chain(self, **more: Any) -> None:
        """Configure their chain: the tier they use, and another."""
        world, second = self.made.world, f"{self.name}-second"
        if self.agent == "gemini":  # which the daemon does not run itself
            world.chain(self.name, {"first": [{}], "second": [{}]}, **more)
            return
        first = self.made.tier(self.tier, self.agent, *self.steps, oauth=self.oauth) | self.home
        world.chain_of(self.name, [first, self.made.tier(second, self.agent)], **more)

    @property
    def home(self) -> dict[str, str]:
        """What makes a tier share their agent's folder."""
        return {"home": str(self.outside.settings.parent)}

    def install(self, *names: str) -> str:
        """Have the hooks installed as a person would; what is said of it. `names`: what they name, left out: all."""
        named = names or ("--chain", self.name, "--tier", self.tier)
        told = self._locum("hooks", "install", self.agent, *named)
        self._keep()
        return told

    def test(self) -> str:
        """What `locum hooks test` says."""
        return self._locum("hooks", "test", self.agent)

    def _locum(self, *argv: str) -> str:
        env = {**self.made.world.env, "HOME": str(self.outside.home)}
        done = subprocess.run([LOCUM, *argv], env=env, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _keep(self) -> None:
        settings = json.loads(self.outside.settings.read_text())
        keep = f"cat > $(mktemp {self.heard_in}/XXXXXXXX)"
        for groups in settings["hooks"].values():
            groups.insert(0, {"hooks": [{"type": "command", "command": keep}]})
        self.outside.configure(settings)

    def ask(self, prompt: str = "say done", *more: str, **how: Any) -> Answer:
        """Run their agent to its end."""
        return self.outside.ask(prompt, *more, **how)

    @property
    def requests(self) -> list[Request]:
        """What the provider was asked for them."""
        return self.outside.requests

    @property
    def heard(self) -> list[dict[str, Any]]:
        """What their agent has told its hooks so far, oldest first."""
        files = sorted(self.heard_in.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(text) for path in files if (text := path.read_text())]

    @property
    def events(self) -> list[str]:
        """The events of these calls."""
        return [call["hook_event_name"] for call in self.heard]

    def call_again(self, event: str = "") -> list[str]:
        """Have every call (of one event) made once more, by the installed commands; what was answered."""
        settings = json.loads(self.outside.settings.read_text())["hooks"]
        return [
            self._call(hook["command"], call)
            for call in self.heard
            if event in ("", call["hook_event_name"])
            for group in settings[call["hook_event_name"]]
            for hook in group["hooks"]
            if OWN not in hook["command"]
        ]

    def _call(self, command: str, call: dict[str, Any]) -> str:
        env = self.outside.environment()
        told = json.dumps(call)
        done = subprocess.run(
            ["/bin/sh", "-c", command], input=told, env=env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def is_counted(self) -> None:
        """Wait until all that was issued to them is counted, and no more; their agent may still be writing."""
        wanted = self.made.issued(self.tier, oauth=self.oauth)
        self.made.world.until(lambda: self.made.counted(self.tier) == wanted, f"{self.tier} is counted: {wanted}", 15)

    @property
    def last_failure_kind(self) -> str | None:
        """Why their chain last failed or was switched."""
        kind: str | None = self.made.world.status(self.name)["last_failure_kind"]
        return kind

    @property
    def transcripts(self) -> list[Path]:
        """The transcripts that their sessions have left."""
        return sorted(self.outside.home.rglob("*.jsonl"))


def unattributed(made: Stage) -> Tokens:
    """What was used by sessions of which it is not known whose tier they use."""
    totals = made.world.client.get("/usage")["unattributed"]["totals"]
    return Tokens(*(totals[name] for name in TOKEN_TYPES))


def reports(made: Stage, tier: str) -> list[dict[str, Any]]:
    """What sessions have told that count for a tier, oldest first."""
    found = made.world.client.get("/reports", limit=1000)["reports"]
    return [each for each in found if each["tier"] == tier]


def report(made: Stage, ann: Person, tokens: int) -> None:
    """Somebody else reports that they used so much of a person's tier."""
    body = {"id": f"other-{tokens}", "chain": ann.name, "tier": ann.tier, "tokens": {"input": tokens}}
    answer = made.world.client.post("/hooks/post-task", body)
    assert answer["counted"]["total"] == tokens, answer
