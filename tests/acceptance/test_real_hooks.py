"""The real Claude Code and Codex with their hooks installed as the adapters say: what each answer does to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from locum.agents.base import Line, Signal, Source
from locum.agents.hooks import Hooks, Moment, Stop, Told
from locum.agents.registry import AGENTS, hooks
from locum.policy.failure import FailureKind
from locum.policy.usage import Tokens, Usage
from tests.acceptance import real
from tests.acceptance.provider import Provider
from tests.acceptance.provider_steps import Step
from tests.harness import until

pytestmark = [pytest.mark.agents, pytest.mark.timeout(120)]
HOOKS = hooks(AGENTS)
KEY = "sk-hooks"
REASON = "the budget is spent until five"
NOW = Stop(REASON, now=True)
ANSWERS = """
    import json, pathlib, sys
    folder, body = pathlib.Path(sys.argv[1]), json.load(sys.stdin)
    with (folder / "told.jsonl").open("a") as told:
        told.write(json.dumps(body) + "\\n")
    answers, event = json.loads((folder / "answers.json").read_text()), body["hook_event_name"]
    print(json.dumps(answers.get(f"{event} {body.get('tool_name')}", answers.get(event, {}))))
"""
PROMPTED = {
    "claude-code": ("-p", "--model", "claude-sonnet-4-5", "--dangerously-skip-permissions", "go"),
    "codex": (
        *("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-m", "gpt-5"),
        "--dangerously-bypass-hook-trust",
    ),
}
both = pytest.mark.parametrize("agent", ["claude-code", "codex"])


@dataclass
class Person:
    """Somebody who runs an agent with hooks that answer as told."""

    home: Path
    provider: Provider

    def run(self, agent: str, steps: tuple[Step, ...], answers: dict[str, Any]) -> list[Told]:
        """Run it once, and tell what its hooks were told."""
        adapter, work = HOOKS[agent], self.home / "work"
        settings = self.home / adapter.folder / adapter.settings
        for folder in (settings.parent, work):
            folder.mkdir(parents=True, exist_ok=True)
        (self.home / "hook.py").write_text(textwrap.dedent(ANSWERS))
        (self.home / "answers.json").write_text(json.dumps(answers))
        command = f"{sys.executable} {self.home}/hook.py {self.home}"
        settings.write_text(
            json.dumps({"hooks": {hook.event: [adapter.entry(hook, command)] for hook in adapter.installed}})
        )
        self.provider.script(KEY, steps)
        login = real.login(agent, self.provider.url, KEY)
        calm = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "IS_SANDBOX": "1", "CLAUDE_CODE_MAX_RETRIES": "0"}
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.home), **calm, **login["env"]}
        prompt = ("go",) if agent == "codex" else ()
        argv = [real.program(agent), *PROMPTED[agent], *login.get("args", ()), *prompt]
        subprocess.run(argv, cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False)
        return self.told(adapter)

    def told(self, adapter: Hooks) -> list[Told]:
        """What the hooks were told so far."""
        return [adapter.told(json.loads(line)) for line in (self.home / "told.jsonl").read_text().splitlines()]

    def counted(self, adapter: Hooks, told: list[Told]) -> Tokens:
        """What the transcripts of the session say was spent."""
        own, pattern = Path(told[0].transcript), adapter.subagents(told[0])
        files = [own, *(Path("/").glob(pattern.lstrip("/")) if pattern else ())]
        rows = [
            Line(Source.TRANSCRIPT, row) for file in files if file.exists() for row in file.read_bytes().splitlines()
        ]
        by_key: dict[str, Tokens] = {}
        for item in (item for row in rows for item in adapter.read(row)):
            if isinstance(item, Usage):
                by_key[item.key] = by_key.get(item.key, Tokens()).largest(item.tokens)
        return sum(by_key.values(), Tokens())

    @property
    def tool_ran(self) -> bool:
        """Whether the model's command was run."""
        return (self.home / "work" / "ran").exists()


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """A home of its own, and a provider."""
    with Provider() as provider:
        yield Person(tmp_path, provider)


def stops(adapter: Hooks) -> dict[str, Any]:
    """A stop at every moment at which there can be one but the prompt."""
    heard = [adapter.told({"hook_event_name": hook.event, "session_id": "s"}) for hook in adapter.installed]
    return {told.event: adapter.answer(told, NOW) for told in heard if told.moment is Moment.TOOL}


@both
def test_a_session_is_heard_and_counted(person: Person, agent: str) -> None:
    """Prompt, tool and end are told in this order with one turn; the transcript holds what the provider issued."""
    told = person.run(agent, (Step("tool", command="touch ran"), Step()), {})
    moments = [each.moment for each in told if each.moment in (Moment.PROMPT, Moment.DONE, Moment.OVER)]
    assert moments == [Moment.PROMPT, Moment.DONE, Moment.OVER]
    assert Moment.TOOL in {each.moment for each in told}
    assert person.tool_ran
    assert len({(each.session, each.transcript) for each in told}) == 1
    assert len({each.turn for each in told if each.moment is not Moment.OVER}) == 1
    assert person.counted(HOOKS[agent], told) == person.provider.total(KEY) != Tokens()


@both
def test_a_stopped_prompt_asks_nobody(person: Person, agent: str) -> None:
    """No request is made, and no turn is told to have ended."""
    blocked = HOOKS[agent].told({"hook_event_name": "UserPromptSubmit", "session_id": "s"})
    told = person.run(agent, (Step(),), {blocked.event: HOOKS[agent].answer(blocked, Stop(REASON))})
    assert [each.moment for each in told] == [Moment.PROMPT, Moment.OVER]
    assert person.provider.requests == []


@both
def test_a_stop_in_mid_turn_runs_no_tool(person: Person, agent: str) -> None:
    """The tool is not run. Claude Code asks no more; Codex asks once more, as its adapter says it cannot help."""
    person.run(agent, (Step("tool", command="touch ran"), Step()), stops(HOOKS[agent]))
    assert not person.tool_ran
    assert len(person.provider.requests) == (1 if agent == "claude-code" else 2)


def test_a_stop_reaches_a_subagent_and_who_sent_it(person: Person) -> None:
    """A subagent's tool is denied, and neither it nor the turn that sent it goes on."""
    answers = {**stops(HOOKS["claude-code"]), "PreToolUse Agent": {}}
    told = person.run("claude-code", (Step("subagent"), Step("tool", command="touch ran"), Step()), answers)
    assert not person.tool_ran
    assert len(person.provider.requests) == 2
    assert person.counted(HOOKS["claude-code"], told) == person.provider.total(KEY)


@pytest.mark.parametrize(
    ("agent", "behaviour", "kind"),
    [
        ("claude-code", "auth", FailureKind.AUTH_ERROR),
        ("claude-code", "credit", FailureKind.CREDIT_EXHAUSTED),
        ("claude-code", "overloaded", FailureKind.OVERLOADED),
        ("claude-code", "too_long", FailureKind.CONTEXT_OVERFLOW),
        ("codex", "usage_limit", FailureKind.USAGE_LIMIT),
        ("codex", "credit", FailureKind.CREDIT_EXHAUSTED),
    ],
)
def test_a_failure_is_told(person: Person, agent: str, behaviour: Any, kind: FailureKind) -> None:
    """A hook tells of it, though perhaps only when the agent is gone, and what it tells is enough to name it."""
    person.run(agent, (Step(behaviour),), {})

    def failed() -> list[Told]:
        return [each for each in person.told(HOOKS[agent]) if each.moment is Moment.FAILED]

    until(lambda: bool(failed()), "the failure is told", 10)
    (signal,) = [each.signal for each in failed()]
    assert signal is not None
    failure = HOOKS[agent].verdict([signal], 0, "UTC")
    assert failure is not None
    assert failure.kind is kind


def test_the_rollout_tells_the_rest(person: Person) -> None:
    """Codex calls no hook that names a refused key: its rollout does, by the time the session is over."""
    told = person.run("codex", (Step("auth"),), {})
    assert Moment.FAILED not in {each.moment for each in told}
    rows = Path(told[0].transcript).read_bytes().splitlines()
    read = [item for row in rows for item in HOOKS["codex"].read(Line(Source.TRANSCRIPT, row))]
    failure = HOOKS["codex"].verdict([item for item in read if isinstance(item, Signal)], 0, "UTC")
    assert failure is not None
    assert failure.kind is FailureKind.AUTH_ERROR
