"""The promises that a rehearsal judges by."""

from __future__ import annotations

from dataclasses import dataclass

ONE_PATH = "one path"
NO_TOKEN_LOST = "no token lost, none counted twice"  # noqa: S105 - tokens of a model, not a secret
NO_CASCADE = "no cascade"
NO_SILENT_SWITCH = "no silent switch"
OUTLIVE = "agents outlive the daemon"
LAST_GOOD = "last good config"
TRUST = "nothing trusted blindly"
REFUSE = "refuse clearly"
NO_TASK_LOST = "no task lost"
COMES_BACK = "it comes back"


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that was broken, and how that showed."""

    promise: str
    what: str
