"""What a seed is like: which kinds of trouble there are, and how often. Seeds differ in character, not only in luck."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

PROVIDER = (
    "auth_error", "credit_exhausted", "usage_limit", "rate_limit", "overloaded", "server_error", "network",
    "model_unavailable",
)  # fmt: skip
AGENT = ("crash", "hang", "quiet", "killed", "told_twice", "out_of_order", "growing", "absurd", "garbage", "torn",
         "stubborn", "no_id")  # fmt: skip
TASK = ("poison", "overflow", "invalid", "no_wait", "shared", "same_cwd", "cancel", "lost_cwd")
HOST = ("disk_errors", "disk_outages", "disk_low", "spool_full", "no_processes", "kill", "stop", "reboot", "kill_at_commit")  # fmt: skip
CLOCK = ("small_steps", "big_steps", "suspend")
PEOPLE = ("bump", "release", "pause", "edit", "bad_edit", "half_edit")


@dataclass
class Swarm:
    """The character of one seed: for each kind of trouble that is on, how likely or how frequent (0 to 1)."""

    rates: dict[str, float] = field(default_factory=dict)
    budgets: bool = False
    claude: bool = False
    watched: bool = False  # whether people's sessions are counted from their transcripts alone
    task_every: float = 300.0  # seconds between two tasks, on average
    look_every: float = 10.0  # seconds between two looks at a run, on this slow host

    def rate(self, name: str) -> float:
        """How much of that trouble there is; 0: none."""
        return self.rates.get(name, 0.0)

    def on(self, *names: str) -> list[str]:
        """Which of these are on."""
        return [name for name in names if name in self.rates]

    def draw(self, dice: random.Random, name: str) -> bool:
        """Whether that trouble happens now."""
        return name in self.rates and dice.random() < self.rates[name]


def draw_swarm(dice: random.Random) -> Swarm:
    """The character of a seed."""
    swarm = Swarm(budgets=dice.random() < 0.6, claude=dice.random() < 0.5)
    swarm.task_every = dice.choice((150.0, 300.0, 450.0))
    swarm.look_every = dice.choice((4.0, 9.0, 17.0))
    share = dice.choice((0.1, 0.3, 0.5, 0.7))
    for name in (*PROVIDER, *AGENT, *TASK, *HOST, *CLOCK, *PEOPLE):
        if dice.random() < share:
            swarm.rates[name] = dice.choice((0.03, 0.1, 0.3))
    return swarm
