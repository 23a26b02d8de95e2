"""Six tasks, four scripted tiers, one real daemon: what locum does when things go wrong, in 20 seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCUM = Path(sys.executable).with_name("locum")
TIERS = ("claude-max", "claude-api", "codex", "house")
BLOCK = "8s"  # a vendor's five hours, for people in a hurry

TASKS = (
    ("write the parser", "nothing special: the preferred tier does it"),
    ("write the tests", "this one spends the budget of the window (10,000 tokens)"),
    ("fix the build", "claude-max is held; claude-api has a dead key; codex is throttled for a second"),
    ("update the docs", "codex runs into its vendor's limit"),
    ("rename a module", "the last tier runs dry as well: nothing is left, so locum waits"),
    ("tag the release", "and comes back to the tier you prefer"),
)


def main() -> int:
    """Run the demo in a folder of its own and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="locum-demo-") as name:
        stage = Path(name)
        env = {**os.environ, "LOCUM_STATE": str(stage / "state"), "LOCUM_CONFIG": str(stage / "service.json")}
        env.pop("LOCUM_SOCKET", None)
        (stage / "service.json").write_text(json.dumps(config(stage), indent=2))
        (stage / "work").mkdir()
        with (stage / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen([LOCUM, "serve"], env=env, stdout=log, stderr=log)
            try:
                return show(stage, env)
            finally:
                daemon.terminate()
                daemon.wait(timeout=20)


def config(stage: Path) -> dict[str, object]:
    """A service.json like yours, with scripted programs in the place of agents and seconds in the place of hours."""
    command = [sys.executable, str(HERE / "agent.py")]
    return {
        "usage_threshold_tokens": 10_000,
        "usage_reset": {"block": BLOCK},
        "failover": {
            "tiers": [{"name": tier, "agent": "command", "command": [*command, tier, str(stage)]} for tier in TIERS]
        },
    }


def show(stage: Path, env: dict[str, str]) -> int:
    """Run the tasks and say what is seen."""
    await_daemon(env)
    print(f"A daemon, a ledger, and four tiers: {' → '.join(TIERS)}.\n")
    for number, (task, what) in enumerate(TASKS, 1):
        print(f"── task {number} of {len(TASKS)}: {task}\n   ({what})", flush=True)
        done = subprocess.run([LOCUM, "run", task, "--cwd", stage / "work"], env=env, check=False)
        if done.returncode:
            print((stage / "daemon.log").read_text(), file=sys.stderr)
            return done.returncode
        print(flush=True)
    for verb in ("status", "explain", "usage"):
        print(f"── $ locum {verb}", flush=True)
        subprocess.run([LOCUM, verb], env=env, check=True)
        print(flush=True)
    print("Now with your own agents:\n")
    print(f"  {LOCUM} init    # finds the agents you have and writes a service.json")
    print(f"  {LOCUM} serve   # in a terminal of its own, or under systemd")
    print(f'  {LOCUM} run "fix the failing test"    # in the directory the agent shall work in')
    return 0


def await_daemon(env: dict[str, str]) -> None:
    """Wait until the daemon answers, at most ten seconds."""
    for _ in range(100):
        if subprocess.run([LOCUM, "status", "--json"], env=env, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    sys.exit("the daemon did not start")


if __name__ == "__main__":
    sys.exit(main())
