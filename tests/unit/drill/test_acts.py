"""What scenarios are made of, with a daemon that answers late."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest

from locum.drill.acts import finish
from locum.drill.scenarios import at_a_time

DUE_MS = 4_000


class Busy:
    """A stage whose daemon needs some looks before it notices that time has passed."""

    def __init__(self) -> None:
        self.now_ms, self.looks = 0, 0
        self.director = SimpleNamespace(on_stage=[])
        self.chains = {"default": SimpleNamespace(tiers=("one",))}

    async def task(self, task: str):
        """A task that waits for its second try until the daemon has noticed."""
        self.looks += self.now_ms >= DUE_MS
        run = {"id": "r", "next": "retry"}
        return {"id": task, "state": "done" if self.looks > 5 else "queued", "runs": [run]}

    def due_ms(self, run: str) -> int:
        """When the second try is due."""
        assert run == "r"
        return DUE_MS

    def leap_to(self, at_ms: int) -> None:
        """Let it be then."""
        self.now_ms = max(self.now_ms, at_ms)

    def leap(self, length_ms: int) -> None:
        """Let so much time pass."""
        self.now_ms += length_ms


def test_a_busy_host_makes_no_time_pass():
    """To a second try it is leapt once, however late the daemon notices: short holds beside it would be over."""
    stage = Busy()
    assert anyio.run(finish, stage, "default", "t")["state"] == "done"
    assert stage.now_ms == DUE_MS


@pytest.mark.parametrize(("fault", "most"), [("throttle", 1), ("cut", 1), ("hang", 5), ("lie", 5), ("quota", 9)])
def test_a_task_gets_past_what_fails(fault, most):
    """With six attempts and nine tiers: a hold that ends while the task is under way would bring it back."""
    assert at_a_time(fault, 9, 6) == most
