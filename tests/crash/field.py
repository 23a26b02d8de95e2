"""A daemon with every kind of work, and what people do to it while it is killed."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from locum.config.notify import KINDS
from locum.errors import ConflictError, NotFoundError
from tests.crash.books import Account, Ledger
from tests.crash.people import TIER, People
from tests.harness import Daemon, scripted, seconds_until
from tests.sink import Sink

DOOMED = 20
"""Entries of a task that is to be cancelled: it is, once they are all told."""
SECRET = "crash-secret-7Jd0wq2x"
RATE = 200
"""Usage events a second, of every agent."""
BUDGET = 150_000
"""Tokens by which the budget is raised each time it has been used up: more than two tasks spend, so that it has room
again whatever they spend in that moment."""

UNSENT = (
    "SELECT seq, notice.kind, state FROM notice LEFT JOIN delivery ON notice = seq WHERE state IS NULL"
    " OR state NOT IN ('sent', 'folded') AND NOT (state = 'waiting' AND until_ms IS NOT NULL AND attempts = 0)"
)
"""Every notice that is neither sent nor told in another's message, nor gathers others."""

Step = dict[str, Any]
# The script of each tier: what its agent does in every run.
TIERS: dict[str, dict[str, Step]] = {
    "default": {
        "steady": {"entries": 400, "leak": "CRASH_TOKEN", "sign": "CRASH_TOKEN", "session": "s-1"},
        "spare": {"entries": 100},
    },
    "falls": {"falls-first": {"entries": 20, "failure": "model_unavailable"}, "falls-second": {"entries": 40}},
    "shaky": {"shaky-first": {"entries": 20, "silent": True, "exit": 3}, "shaky-second": {"entries": 40}},
    "patient": {
        "patient-first": {"entries": 10, "failure": "rate_limit", "reset": 0.3},
        "patient-second": {"entries": 40},
    },
    "budget": {"budget-a": {"entries": 60}, "budget-b": {"entries": 60}},
    "rolling": {"rolling-a": {"entries": 60}, "rolling-b": {"entries": 60}},
    "steered": {"steered-a": {"entries": 40}, "steered-b": {"entries": 40}},
    "doomed": {"doomed-a": {"entries": DOOMED, "deaf": True, "gate": "/nowhere/gate", "bound": 900}, "doomed-b": {}},
    "gone": {"gone-a": {}, "gone-b": {}},
}
# How the tasks of each chain end, and the attempts they may make on the way: runs as `tier:failure`, `-` for none.
ENDS: dict[str, tuple[str, str]] = {
    "default": ("done", r"steady:- "),
    "falls": ("done", r"(falls-first:model_unavailable )?falls-second:- "),
    "shaky": ("done", r"(shaky-first:crash )?shaky-second:- "),
    "patient": ("done", r"(patient-first:rate_limit )*patient-second:- "),
    "budget": ("done", r"budget-[ab]:- "),
    "rolling": ("done", r"rolling-[ab]:- "),
    "steered": ("done", r"steered-[ab]:- "),
    "doomed": ("cancelled", r""),
    "gone": ("failed", r""),
}
STIRS = (
    *("work", "fall", "patient", "budget", "rolling", "cancel", "steer", "settle", "give_up", "reload", "reject"),
    *("session", "import", "tell"),
)


class Field(Daemon):
    """The daemon, what was asked of it, and what it has acknowledged. Every stir is one round of asking."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.stage = folder / "stage"
        self.stage.mkdir(parents=True)
        self.account = Account(self.stage)
        self.people = People(self.stage, chance)
        self.watches = False
        """Whether the daemon was ever seen to watch people's home: what is written from then on counts."""
        self.sent: list[str] = []
        """The title of every task that was submitted, acknowledged or not."""
        self.tasks: dict[str, str] = {}
        """The id of every task that was acknowledged, by title."""
        self.limits = [BUDGET]
        """Every limit that the budget has had."""
        self.hands: dict[str, bool] = {}
        """The reason of every bump by hand, and whether it was acknowledged."""
        self.rejections: dict[str, bool] = {}
        """What was wrong in every bad edit, and whether its rejection was acknowledged."""
        self.missed: list[str] = []
        """What was acknowledged and is not known any more."""
        self.edits = 0
        self.sink = Sink()
        """Where every notice is sent to."""
        self.service = self._service()
        super().__init__(folder, self.service, {"CRASH_TOKEN": SECRET})

    def _service(self) -> dict[str, Any]:
        def tiers(chain: str, **more: Any) -> list[dict[str, Any]]:
            return [
                scripted({"rate": RATE, **step}, name=name, stage=self.stage, **more.get(name.replace("-", "_"), {}))
                for name, step in TIERS[chain].items()
            ]

        plain = ("falls", "shaky", "patient", "steered", "doomed", "gone")
        rolling = {"usage_threshold_tokens": 50_000, "usage_reset": {"rolling": "2s"}}
        return {
            "usage_reset": "all",
            "failover": {"tiers": tiers("default", steady={"env": {"CRASH_TOKEN": {"env": "CRASH_TOKEN"}}})},
            "chains": {
                **{chain: {"tiers": tiers(chain), "usage_reset": "all"} for chain in plain},
                "budget": {
                    "tiers": tiers("budget"),
                    "usage_threshold_tokens": self.limits[-1],
                    "usage_reset": {"block": "5h"},
                },
                "rolling": {"tiers": tiers("rolling", rolling_a=rolling)},
                "people": {
                    "tiers": [{"name": TIER, "agent": "claude-code", "home": str(self.people.home)}],
                    "usage_reset": "all",
                },
            },
            "notify": [self.sink.channel(kinds=list(KINDS))],
            "limits": {"stop_grace": "1s", "min_free": "1M", "retention": "10s"},
        }

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────

    def open_tasks(self) -> list[dict[str, Any]]:
        """The tasks that have not ended."""
        found: list[dict[str, Any]] = self.client.get("/tasks", state=["queued", "running"], limit=1000)["tasks"]
        return found

    def open(self) -> Counter[str]:
        """How many tasks of each chain have not ended."""
        return Counter(task["chain"] for task in self.open_tasks())

    def give(self, chain: str, cwd: Path | None = None) -> None:
        """Submit one task; its title names it whether or not it is acknowledged."""
        title = f"{chain} {len(self.sent)}"
        self.sent.append(title)
        if cwd is None:
            cwd = self.work / title.replace(" ", "-")
            cwd.mkdir()
        self.tasks[title] = self.submit(f"do {title}.", cwd, title=title, chain=chain)

    def only_gathers(self) -> bool:
        """Whether all that is not sent yet gathers what else may come in its minute."""
        with Ledger(self.state) as ledger:
            return not ledger.all(UNSENT)

    def top(self, chain: str, most: int) -> None:
        """Submit tasks until `most` of the chain are open."""
        for _ in range(most - self.open()[chain]):
            self.give(chain)

    def status(self, chain: str) -> dict[str, Any]:
        """How a chain stands."""
        found: dict[str, Any] = self.client.get("/status")["chains"][chain]
        return found

    def counted_of_people(self) -> int:
        """How many tokens of people's sessions are counted."""
        return int(self.client.get("/usage")["tiers"][TIER]["totals"]["total"])

    # ── stirs: each is one round, cut short wherever the daemon dies ─────────────────────────────────────

    def stir(self, name: str) -> None:
        """One round of `name`, beside the work that is always there."""
        getattr(self, f"stir_{name}")()

    def stir_idle(self) -> None:
        """Nothing but looking."""
        self.open()

    def stir_work(self) -> None:
        """Three tasks at a time."""
        self.top("default", 3)

    def stir_fall(self) -> None:
        """Tasks whose first tier fails; when they have ended it is released, to fail again."""
        opened = self.open()
        if not opened["falls"]:
            self.client.post("/chains/falls/release")
            self.top("falls", 2)
        self.top("shaky", 1)

    def stir_patient(self) -> None:
        """Tasks whose first tier asks for a moment's wait, again and again."""
        self.top("patient", 2)

    def stir_budget(self) -> None:
        """Tasks that cross the budget of their chain in mid-run; used up, it is raised."""
        self.top("budget", 2)
        holds = [hold for tier in self.status("budget")["tiers"] for hold in tier["holds"]]
        if any(f"of {self.limits[-1]:,} tokens" in hold["reason"] for hold in holds):
            used = self.client.get("/usage")["chains"]["budget"]["used_tokens"]
            self.limits.append(used + BUDGET)
            self.service["chains"]["budget"]["usage_threshold_tokens"] = self.limits[-1]
            self.configure(self.service)
            self.client.post("/reload")

    def stir_rolling(self) -> None:
        """Tasks that use up a rolling budget, which has room again two seconds later."""
        self.top("rolling", 2)

    def stir_cancel(self) -> None:
        """Tasks that heed no TERM and never end, cancelled once they have spent."""
        self.top("doomed", 2)
        spent = self.account.read().entries
        for task in self.open_tasks():
            if task["chain"] == "doomed" and spent[task["id"]] and spent[task["id"]] % DOOMED == 0:
                self.cancel(task["id"])

    def stir_steer(self) -> None:
        """Everything an operator can do to a chain."""
        self.top("steered", 1)
        self.bump("1m")
        for verb in ("pause", "resume", "release"):
            self.client.post(f"/chains/steered/{verb}")

    def stir_settle(self) -> None:
        """A hold by hand that soon ends by itself."""
        self.top("steered", 1)
        [hold] = [tier["hold"] for tier in self.status("steered")["tiers"] if tier["name"] == "steered-a"]
        if hold is None or seconds_until(hold["until"]) > 1:
            self.bump("1s")

    def stir_give_up(self) -> None:
        """A task whose directory goes away while it waits: it can only fail."""
        self.client.post("/chains/gone/pause")
        folder = self.work / f"gone-{len(self.sent)}"
        folder.mkdir()
        try:
            self.give("gone", folder)
        finally:
            shutil.rmtree(folder)
        self.client.post("/chains/gone/resume")
        time.sleep(0.1)  # to be given up: people do not pause a chain again at once

    def stir_reload(self) -> None:
        """An edit that the ledger has to take over too."""
        self.edits += 1
        self.service["limits"]["attempts"] = 6 + self.edits % 900
        self.configure(self.service)
        self.client.post("/reload")

    def stir_reject(self) -> None:
        """An edit that cannot be used, and its repair."""
        wrong = f"wrong{len(self.rejections)}x"
        self.rejections[wrong] = False
        try:
            self.configure({**self.service, wrong: {}})
            self.rejections[wrong] = self.client.post("/reload")["result"] == "rejected"
        finally:
            self.configure(self.service)
        self.client.post("/reload")

    def stir_session(self) -> None:
        """People work beside it, in a home that it watches."""
        self.watches = self.watches or bool(self.client.get("/status")["usage_sources"]["homes"])
        if self.watches:
            self.people.work()

    def stir_import(self) -> None:
        """There is more history, and it is imported."""
        self.people.remember()
        self.imports()

    def imports(self) -> str:
        """Import all history; how that ended, "" when nobody said so, or the daemon is not ready."""
        order = {"agent": "claude-code", "home": str(self.people.attic)}
        try:
            told = {each["type"]: each for each in self.client.lines("/import", order)}
        except ConflictError:
            return ""
        return str(told.get("ended", {}).get("state", ""))

    def stir_tell(self) -> None:
        """A notice, and one that was sent before, sent again: what is new may be folded, what is replayed is not."""
        self.stir_reject()
        sent = [each for each in self.client.get("/alerts")["alerts"] if _is_sent(each)]
        if sent:
            self.client.post("/alerts/replay", {"id": self.chance.choice(sent)["id"]})
            time.sleep(0.3)

    def bump(self, length: str) -> None:
        """Take `steered` off its first tier by hand."""
        reason = f"hand {len(self.hands)}."
        self.hands[reason] = False
        self.client.post("/chains/steered/bump", {"tier": "steered-a", "for": length, "reason": reason})
        self.hands[reason] = True

    def cancel(self, task: str) -> None:
        """Cancel a task."""
        try:
            self.client.post(f"/tasks/{task}/cancel")
        except ConflictError:
            pass  # it has ended in this very moment
        except NotFoundError:
            self.missed.append(f"task {task} was open and is not known any more")


def _is_sent(alert: dict[str, Any]) -> bool:
    """Whether a notice has got through."""
    return any(each["state"] == "sent" for each in alert["deliveries"])
