"""Real agent CLIs in a real daemon, before the mock provider: what the tests of all agents share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from locum.policy.failure import FailureKind
from locum.policy.usage import TOKEN_TYPES, Tokens
from tests.acceptance.install_agents import node_path
from tests.acceptance.logins import MODELS, login, program, settle, used_before
from tests.acceptance.provider import Provider, refusing_url
from tests.acceptance.provider_steps import Request, Step
from tests.harness import World, until

OTHER = {"claude-code": "codex", "codex": "claude-code", "opencode": "pi"}
OTHER |= dict.fromkeys(("pi", "copilot", "aider"), "claude-code")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
VENDORS = ("ANTHROPIC_", "CLAUDE", "CODEX_", "OPENAI_", "GEMINI_", "GOOGLE_", "AWS_")
NEWCOMERS = ("OPENCODE_", "QWEN_", "COPILOT_", "GH_", "GITHUB_", "PI_", "AIDER_")
FOREIGN = (*VENDORS, *NEWCOMERS, "XDG_", *PROXIES)
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Held:
    """A hold as the log of the chain tells it: seconds it was to last, what it lies on, who is active beside it."""

    kind: str
    seconds: float
    on: str
    until: float
    active: str | None


@dataclass(frozen=True)
class Case:
    """One way to fail: what the provider does to the first tier, and what must come of it.

    `exit` is that of every run on the first tier, `runs` how many there are, `hold` how long (seconds, at least and
    at most) that tier is then held (None: not at all) and `on` what the hold lies on; `fails`: the task ends there.
    """

    name: str
    steps: tuple[Step, ...]
    kind: FailureKind
    exit: int = 1
    runs: int = 1
    hold: tuple[float, float] | None = None
    on: str = "tier"
    fails: bool = False
    oauth: bool = False
    refused: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Stage:
    """A daemon, a provider, and the chains of the tests between them."""

    world: World
    provider: Provider
    refusing: str
    begun: dict[str, str] = field(default_factory=dict)
    patience: float = 240
    """Seconds until a task that was begun must have ended."""

    def key(self, tier: str, *, oauth: bool = False) -> str:
        """The login of a tier; every tier has its own."""
        return f"sk-ant-oat01-{tier}" if oauth else f"key-{tier}"

    def tier(
        self, name: str, agent: str, *steps: Step, oauth: bool = False, refused: bool = False, **more: Any
    ) -> dict[str, Any]:
        """A tier of the real `agent` with a login and a home of its own, whose requests are answered by `steps`."""
        home = self.world.folder / "homes" / name
        key = self.key(name, oauth=oauth)
        self.provider.script(key, steps or [Step()])
        url = self.refusing if refused else self.provider.url
        settle(agent, home, url)
        made = {"name": name, "agent": agent, "program": program(agent), "model": MODELS[agent], "home": str(home)}
        return made | login(agent, url, key, oauth=oauth) | more

    def begin(self, case: Case, agent: str, second: str = "", *, wait: bool = True) -> None:
        """Start the task of a case; `wait` until its first attempt has ended. `second`: the agent that it then goes to."""
        first = self.tier(f"{case.name}-first", agent, *case.steps, oauth=case.oauth, refused=case.refused, **case.more)
        self.world.chain_of(case.name, [first, self.tier(f"{case.name}-second", second or agent)])
        self.begun[case.name] = task = self.world.begin(case.name, f"say done ({case.name})")
        if wait:
            tried = lambda: any(run["ended"] for run in self.world.task(task)["runs"])  # noqa: E731 - what is waited for
            self.world.until(tried, f"{case.name} tries", 60)

    def ended(self, name: str) -> dict[str, Any]:
        """The task that was begun under this name, when it has ended."""
        return self.world.ended(self.begun[name], self.patience)

    def issued(self, tier: str, *, oauth: bool = False) -> Tokens:
        """What the provider gave out for a tier's login."""
        return self.provider.total(self.key(tier, oauth=oauth))

    def counted(self, tier: str) -> Tokens:
        """What the daemon says that tier used."""
        totals = self.world.client.get("/usage")["tiers"][tier]["totals"]
        return Tokens(*(totals[name] for name in TOKEN_TYPES))

    def succeeds(
        self, name: str, agent: str, steps: Sequence[Step], answers: int, *, oauth: bool = False
    ) -> dict[str, Any]:
        """A task that goes well at once: all that went out is what the ledger holds, type by type; the task."""
        chain, tier = f"ok-{name}", f"ok-{name}-first"
        tiers = [self.tier(tier, agent, *steps, oauth=oauth), self.tier(f"{chain}-second", agent)]
        self.world.chain_of(chain, tiers)
        return self.counts(self.world.do(chain), chain, answers, oauth=oauth)

    def counts(self, task: dict[str, Any], chain: str, answers: int, *, oauth: bool = False) -> dict[str, Any]:
        """Assert that a task went well on the first tier of its chain, after so many answers, and was counted."""
        tier = f"{chain}-first"
        assert path_of(task) == [(tier, None, 0)]
        assert task["said"].strip().endswith("done")
        assert known(task) == self.counted(tier) == self.issued(tier, oauth=oauth) != Tokens()
        assert len([entry for entry in self.provider.issued if entry.key == self.key(tier, oauth=oauth)]) == answers
        assert self.held(chain) == []
        self.audit()
        return task

    def warned(self, agent: str, *, oauth: bool) -> None:
        """The vendor says in passing that 95 % of five hours are used: that is shown, with our own count beside it."""
        step = Step(used_percent=95, reset_in_s=2 * HOUR)
        self.world.chain_of("vendor", [self.tier("vendor", agent, step, oauth=oauth) | {"account": "vendor-account"}])
        assert path_of(self.world.do("vendor")) == [("vendor", None, 0)]
        account = self.world.client.get("/status")["accounts"]["vendor-account"]
        (window,) = [each for each in account["windows"] if each["name"] == "five_hour"]
        assert (window["used_percent"], window["freshness"], account["tiers"]) == (95.0, "current", ["vendor"])
        asked = self.requests("vendor", oauth=oauth)[-1].at_ms / 1000
        told = [datetime.fromisoformat(window[name]).timestamp() for name in ("resets", "read")]
        assert asked + 2 * HOUR - 2 <= told[0] <= asked + 2 * HOUR + 2
        assert asked - 2 <= told[1] <= asked + 30
        assert window["counted"]["total"] == self.issued("vendor", oauth=oauth).total > 0

    def requests(self, tier: str, *, oauth: bool = False) -> list[Request]:
        """The requests of a tier's login, in order."""
        return [each for each in self.provider.requests if each.key == self.key(tier, oauth=oauth)]

    def told(self, tier: str, *, oauth: bool = False) -> list[str]:
        """Each of those requests as one text."""
        return [json.dumps(dict(each.body), ensure_ascii=False) for each in self.requests(tier, oauth=oauth)]

    def held(self, chain: str) -> list[Held]:
        """Every hold that was placed in a chain, oldest first."""
        bumped = [event for event in self.world.events(chain) if event["kind"] == "bumped"]
        return [_held(event) for event in bumped]

    def audit(self) -> None:
        """Nothing in the ledger contradicts anything else in it."""
        assert self.world.client.get("/audit")["problems"] == []

    def check(self, case: Case, partial: bool = True) -> dict[str, Any]:
        """Assert all that a case promises; its task. `partial`: what was told of cut answers is counted."""
        task = self.ended(case.name)
        first, second = f"{case.name}-first", f"{case.name}-second"
        wanted = [(first, case.kind, case.exit)] * case.runs + ([] if case.fails else [(second, None, 0)])
        assert path_of(task) == wanted, path_of(task)
        assert task["state"] == ("failed" if case.fails else "done")
        assert self.world.status(case.name)["last_failure_kind"] == case.kind
        held = self.held(case.name)
        if case.hold is None:
            assert held == []
        else:
            assert [(hold.kind, hold.on, hold.active) for hold in held] == [(case.kind, case.on, second)]
            assert case.hold[0] <= held[0].seconds <= case.hold[1]
        begun = [told(entry.tokens) for entry in self.provider.partial if partial and entry.key == self.key(first)]
        assert self.counted(first) == sum(begun, self.issued(first, oauth=case.oauth))
        assert self.counted(second) == self.issued(second)
        assert bool(self.issued(second)) is not case.fails
        assert known(task) == self.counted(first) + self.counted(second)
        self.audit()
        return task


def told(tokens: Tokens) -> Tokens:
    """What a streamed answer tells of its cost before it ends: all but the output, of which it says 1."""
    return structs.replace(tokens, output=1)


def path_of(task: Mapping[str, Any]) -> list[tuple[str, str | None, int | None]]:
    """Of each run of a task its tier, failure and exit code."""
    return [(run["tier"], run["failure"], run["exit"]) for run in task["runs"]]


def known(task: Mapping[str, Any]) -> Tokens:
    """What the runs of a task used; each of them must be known."""
    runs = [run["tokens"] for run in task["runs"]]
    assert None not in runs, "no run's usage is unknown"
    return sum((Tokens(*(run[name] for name in TOKEN_TYPES)) for run in runs), Tokens())


def epoch(moment: str) -> float:
    """Seconds since the epoch of a moment in ISO 8601."""
    return datetime.fromisoformat(moment).timestamp()


def _held(event: Mapping[str, Any]) -> Held:
    hold = event["hold"]
    end = epoch(hold["until"])
    on = hold["target"].partition(":")[0]
    return Held(hold["kind"], end - epoch(hold["since"]), on, end, event["active_tier"])


def daemon(folder: Path) -> World:
    """A daemon that knows no login and no home but its own; not started."""
    home = folder / "home"
    home.mkdir()
    used_before(home)
    made = World(folder, {"limits": {"parallel": 4, "stop_grace": "2s"}})
    kept = {name: value for name, value in made.env.items() if not name.upper().startswith(FOREIGN)}
    made.env = kept | {
        "PATH": node_path(),
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "TZ": "UTC",
    }
    return made


@contextmanager
def stage(
    folder: Path, cases: Sequence[Case] = (), agent: str = "", second: str = "", *, wait: bool = True
) -> Iterator[Stage]:
    """A running daemon before a provider, with `cases` begun: they wait, retry and finish beside each other.

    `wait` False: those of an agent that tries again by itself for long begin all at once.
    """
    made = daemon(folder)
    with Provider() as provider, refusing_url() as refusing:
        made.start()
        try:
            begun = Stage(made, provider, refusing)
            for case in cases:
                begun.begin(case, agent, second, wait=wait)
            yield begun
        finally:
            if made.alive():
                made.stop()


def killed_and_found_again(folder: Path, agent: str, *, ends_meanwhile: bool) -> None:
    """Kill -9 the daemon while `agent` works on its second answer; the next daemon adopts the run, counted exactly."""
    with stage(folder) as made:
        task = _begin(made, agent, Step("tool"), Step("hang_stream"))
        assert made.provider.wait_for(lambda each: each.hanging == 1, 90)
        made.world.kill()
        if ends_meanwhile:
            made.provider.release()
            _wait_for_an_exit(made)
        made.world.start()
        if not ends_meanwhile:
            assert made.world.task(task)["state"] == "running"
            made.provider.release()
        _is_counted_once(made, task)


def killed_before_a_word_was_read(folder: Path, agent: str) -> None:
    """Kill -9 the daemon the moment it has started `agent`: the next one finds all that was said and spent."""
    with stage(folder) as made:
        task = _begin(made, agent, Step("tool"))
        until(lambda: any((made.world.state / "runs").glob("*/pid")), "the agent starts")
        made.world.kill()
        _wait_for_an_exit(made)
        made.world.start()
        _is_counted_once(made, task)


def stopped_and_gone_on_with(folder: Path, agent: str, *codes: int) -> None:
    """Stop the daemon cleanly while `agent` works: the next one goes on with the session; nobody has failed.

    `codes`: what it may end with then; 143 when none is given.
    """
    with stage(folder) as made:
        task = _begin(made, agent, Step("tool", command="echo the-work-so-far"), Step("hang_stream"), Step())
        assert made.provider.wait_for(lambda each: each.hanging == 1, 90)
        # Some logs tell of an answer some time after it; a session of which nothing is known to be spent begins anew.
        made.world.until(lambda: bool(made.counted("kill-first")), "its first answer is counted", 30)
        assert made.world.stop() == 0
        made.world.start()
        ended = made.world.ended(task)
        stopped = ended["runs"][0]["exit"]
        assert stopped in (codes or (143,))
        assert path_of(ended) == [("kill-first", None, stopped), ("kill-first", None, 0)]
        assert ended["runs"][0]["session"] == ended["runs"][1]["session"] is not None
        assert "the-work-so-far" in made.told("kill-first")[-1]
        begun = [told(entry.tokens) for entry in made.provider.partial if agent == "claude-code"]
        assert known(ended) == made.counted("kill-first") == sum(begun, made.issued("kill-first"))
        assert made.held("kill") == []
        made.audit()


def _begin(made: Stage, agent: str, *steps: Step) -> str:
    made.world.chain_of("kill", [made.tier("kill-first", agent, *steps), made.tier("kill-second", agent)])
    return made.world.begin("kill")


def _wait_for_an_exit(made: Stage) -> None:
    until(lambda: any((made.world.state / "runs").glob("*/exit")), "the agent ends", 30)


def _is_counted_once(made: Stage, task: str) -> None:
    ended = made.world.ended(task)
    assert path_of(ended) == [("kill-first", None, 0)]
    assert "run_adopted" in made.world.log.read_text()
    assert known(ended) == made.counted("kill-first") == made.issued("kill-first")
    assert len(made.provider.issued) == 2
    made.audit()


def moves_to_the_other_agent(made: Stage, agent: str, code: int = 1) -> None:
    """A task that one agent began is finished by the other, which is told what happened."""
    other, chain = OTHER[agent], f"over-{agent}"
    first, second = f"{chain}-first", f"{chain}-second"
    said = Step("tool", text="half of it is done")
    made.world.chain_of(chain, [made.tier(first, agent, said, Step("auth")), made.tier(second, other)])
    task = made.world.do(chain, "paint the fence green")
    assert path_of(task) == [(first, "auth_error", code), (second, None, 0)]
    (asked,) = made.told(second)
    assert "paint the fence green" in asked
    assert "hand-over note from locum" in asked
    assert "auth_error" in asked
    assert made.counted(first) == made.issued(first) != Tokens()
    assert made.counted(second) == made.issued(second) != Tokens()
    made.audit()


def the_command_line_tells_it(made: Stage, agent: str) -> None:
    """`locum run` shows what the agent said, and nothing of its protocol; its exit code is that of the task."""
    world = made.world
    for name, step, code in (("cli", Step("tool"), 0), ("clibad", Step("too_long"), 1)):
        world.chain_of(name, [made.tier(f"{name}-first", agent, step), made.tier(f"{name}-second", agent)])
        shown = world.run("run", "--chain", name, "--cwd", str(world.place()), "say done")
        assert shown.returncode == code, shown.stderr
        assert ("done" in shown.stdout) is (code == 0)
        assert not [line for line in shown.stdout.splitlines() if line.startswith("{")]
        assert ("context_overflow" in shown.stdout + shown.stderr) is (code == 1)


def a_second_attempt_goes_on_with_the_first(made: Stage, agent: str, code: int = 1, tries: int = 1) -> None:
    """A retry in place resumes the session: what was done is in the conversation, and nothing is counted twice.

    `tries`: how often the agent itself asks before it gives up.
    """
    name = f"resume-{agent}"
    first, second = f"{name}-first", f"{name}-second"
    steps = Step("tool", command="echo the-work-so-far"), *([Step("overloaded")] * tries), Step()
    made.world.chain_of(name, [made.tier(first, agent, *steps), made.tier(second, agent)])
    task = made.world.do(name, "paint the fence green")
    assert path_of(task) == [(first, "overloaded", code), (first, None, 0)]
    sessions = [run["session"] for run in task["runs"]]
    assert sessions[0] == sessions[1] is not None
    asked = made.told(first)[-1]
    assert "Continue; do not redo finished work." in asked
    assert "paint the fence green" in asked
    assert "the-work-so-far" in asked
    assert [run["tokens"]["total"] for run in task["runs"]] == [
        entry.tokens.total for entry in made.provider.issued if entry.key == made.key(first)
    ]
    assert known(task) == made.counted(first) == made.issued(first)
    made.audit()


def a_budget_is_crossed_in_the_middle_of_a_chain(made: Stage, agent: str) -> None:
    """The task that crosses the budget stays done; the next one runs on the next tier, and on that it stays."""
    name = f"budget-{agent}"
    first, second = f"{name}-first", f"{name}-second"
    tiers = [made.tier(first, agent, Step("tool")), made.tier(second, agent)]
    made.world.chain_of(name, tiers, usage_threshold_tokens=1_000, usage_reset="day")
    tasks = [made.world.do(name, f"task {number}") for number in range(3)]
    assert [path_of(task) for task in tasks] == [[(first, None, 0)], [(second, None, 0)], [(second, None, 0)]]
    assert made.world.status(name)["last_failure_kind"] == "token_budget"
    (hold,) = made.held(name)
    assert (hold.kind, hold.active) == ("token_budget", second)
    window = made.world.client.get("/usage")["chains"][name]["window"]
    assert hold.until == epoch(window["end"])
    assert made.counted(first) == made.issued(first) != Tokens()
    assert made.counted(second) == made.issued(second) != Tokens()
    made.audit()
