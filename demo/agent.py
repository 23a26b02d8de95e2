"""A scripted stand-in for a coding agent: each tier reads its next line of the script and acts it out."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

SCRIPT: dict[str, list[dict[str, object]]] = {
    "claude-max": [{"input": 6_000, "output": 900}, {"input": 4_000, "output": 700}, {}, {}],
    "claude-api": [{"failure": "auth_error", "message": "Invalid API key · Please run /login"}],
    "codex": [
        {"failure": "rate_limit", "message": "429 Too Many Requests", "reset": 1.2},
        {},
        {"failure": "usage_limit", "message": "You have hit your usage limit", "reset": 30},
    ],
    "house": [{}, {"failure": "usage_limit", "message": "daily quota of the local model reached", "reset": 20}],
}
USUAL: dict[str, object] = {"input": 1_200, "output": 300, "cache_read": 400}


def tell(**event: object) -> None:
    """Speak one line of the JSONL protocol."""
    print(json.dumps(event), flush=True)


def main(tier: str, stage: Path) -> int:
    """Play this tier's next step."""
    played = stage / f"{tier}.played"
    number = int(played.read_text()) if played.exists() else 0
    played.write_text(str(number + 1))
    step = SCRIPT[tier][min(number, len(SCRIPT[tier]) - 1)]
    task = sys.stdin.read().strip().splitlines()[-1]
    time.sleep(0.2)
    if kind := step.get("failure"):
        reset = timedelta(seconds=float(str(step.get("reset", 0))))
        tell(
            type="failure",
            kind=kind,
            message=step["message"],
            **({"reset_at": (datetime.now(UTC) + reset).isoformat()} if reset else {}),
        )
        return 1
    tell(type="usage", id="m1", model=tier, **(step or USUAL))
    print(f"{task}: done")
    tell(type="result", status="ok")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
