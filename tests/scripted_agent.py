"""An agent that plays a script: usage, failures, silence, noise. It keeps its own account of what it spent."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


def tell(event: dict[str, object]) -> None:
    """One line of the protocol."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def next_step(script: Path) -> dict[str, object]:
    """The step of this run: each is played once, the last one for ever; safe when runs start together."""
    steps = json.loads(script.read_text())
    with script.with_suffix(".played").open("a+") as played:
        fcntl.flock(played, fcntl.LOCK_EX)
        played.seek(0)
        number = len(played.read())
        played.write(".")
    return dict(steps[min(number, len(steps) - 1)])


def spend(step: dict[str, object], account: Path) -> None:
    """Report usage: `entries` lines at `rate` a second. What was issued is written down before it is told."""
    chance = random.Random(os.environ["LOCUM_RUN"])
    for number in range(int(step.get("entries", 1))):  # type: ignore[call-overload]
        given = step.get("usage") or {
            "input": chance.randrange(1, 900),
            "output": chance.randrange(1, 90),
            "cache_read": chance.randrange(0, 999),
            "cache_write": chance.randrange(0, 99),
        }
        assert isinstance(given, dict)
        name = f"m{number}{os.environ[str(step['sign'])] if 'sign' in step else ''}"
        event = {"type": "usage", "id": name, "model": "scripted", **given}
        # A TERM waits until what was written down is also told: issued and told are then the same to the token.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        with account.open("a") as file:
            file.write(json.dumps({"run": os.environ["LOCUM_RUN"], "task": os.environ["LOCUM_TASK"], **event}) + "\n")
        tell(event)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if chance.random() < 0.05:
            tell(event)  # told twice, spent once
        time.sleep(1 / float(step.get("rate", 1000)))  # type: ignore[arg-type]


def main(script: Path) -> int:
    """Play one step. Its keys: usage, entries, rate, say, noise, gate, bound, sleep, failure, message, reset, exit, silent.

    `session`: the session it tells of. `deaf`: it does not heed TERM. `leak`, `sign`: the name of an environment variable
    whose value it says, or puts into every id.
    """
    step = next_step(script)
    if step.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    prompt = sys.stdin.read()
    with script.with_suffix(".prompts").open("a") as file:
        file.write(
            json.dumps({"run": os.environ["LOCUM_RUN"], "task": os.environ["LOCUM_TASK"], "prompt": prompt}) + "\n"
        )
    if "usage" in step or "entries" in step:
        spend(step, script.with_suffix(".account"))
    if noise := step.get("noise"):
        sys.stdout.buffer.write(bytes.fromhex(str(noise)))
        sys.stdout.flush()
    if leaked := step.get("leak"):
        print(f"my key is {os.environ[str(leaked)]}", flush=True)
    if said := step.get("say"):
        print(said, flush=True)
    # No test that fails leaves an agent behind for ever.
    bound = time.monotonic() + float(step.get("bound", 120))  # type: ignore[arg-type]
    while (gate := step.get("gate")) and not Path(str(gate)).exists() and time.monotonic() < bound:
        time.sleep(0.01)
    time.sleep(float(step.get("sleep", 0)))  # type: ignore[arg-type]
    if kind := step.get("failure"):
        event = {"type": "failure", "kind": kind, "message": step.get("message", f"scripted {kind}")}
        if "reset" in step:
            event["reset_at"] = (datetime.now(UTC) + timedelta(seconds=float(str(step["reset"])))).isoformat()
        tell(event)
        return int(step.get("exit", 1))  # type: ignore[call-overload]
    if not step.get("silent"):
        session = {"session": step["session"]} if "session" in step else {}
        tell({"type": "result", "status": "ok", **session})
    return int(step.get("exit", 0))  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
