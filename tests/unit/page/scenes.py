"""What a page may show, and the page read back as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from locum.page.scene import Scene
from locum.page.work import Where, Working

NOW_MS = 1_767_225_600_000
INLINE = {"a", "b", "bdi", "code", "q", "span", "text", "time", "tspan"}
VOID = {"meta", "link", "input", "br", "hr"}
WINDOW = {
    "kind": "week",
    "start": "2025-12-29T00:00:00Z",
    "end": "2026-01-05T00:00:00Z",
    "timezone": "UTC",
}


def hold(kind: str = "usage_limit", until: str | None = "2026-01-01T02:10:00Z", **more: Any) -> dict[str, Any]:
    """A hold."""
    told = {"kind": kind, "until": until, "reason": "it is used up", "since": "2026-01-01T00:00:00Z"}
    return {**told, "target": "tier:one", "budget": None, **more}


def tier(name: str, state: str = "ready", *holds: dict[str, Any], **more: Any) -> dict[str, Any]:
    """How a tier stands."""
    told = {"name": name, "state": state, "hold": holds[-1] if holds else None, "holds": list(holds)}
    return {**told, "agent": "codex", "model": None, "account": f"codex:{name}", **more}


def chain(*tiers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """How a chain stands."""
    active = next((each["name"] for each in tiers if each["state"] == "active"), None)
    told = {"name": "default", "active_tier": active, "paused": False, "exhausted": active is None, "tiers": [*tiers]}
    failure = {f"last_failure_{key}": None for key in ("kind", "at", "reason", "tier")}
    return {**told, **failure, "running": 0, "queued": 0, **more}


def measure(used: int = 0, limit: int | None = None, **more: Any) -> dict[str, Any]:
    """What was used of a limit."""
    totals = {"input": used, "output": 0, "cache_read": 0, "cache_write": 0, "total": used}
    told = {"threshold_tokens": limit, "threshold_effect": "ahead" if limit else None, "used_tokens": used}
    none = {"halt_tokens": None, "halt_effect": None, "unknown_usage_runs": 0}
    return {**told, **none, "totals": totals, "window": WINDOW, "percent": None, **more}


def task(name: str = "t-1", state: str = "done", **more: Any) -> dict[str, Any]:
    """A task."""
    told = {"id": name, "chain": "default", "state": state, "title": "Mend it", "cwd": "/work"}
    when = {
        "created": "2025-12-31T23:50:00Z",
        "ended": None if state in ("queued", "running") else "2026-01-01T00:00:00Z",
    }
    return {**told, **when, "reason": None, "reason_code": None, "said": "Done.", **more}


def run(**more: Any) -> dict[str, Any]:
    """An attempt that is at work."""
    tokens = measure(1200)["totals"]
    return {"number": 1, "tier": "one", "started": "2025-12-31T23:55:00Z", "tokens": tokens, **more}


def scene(**more: Any) -> Scene:
    """A scene of two tiers at rest, with something else in it."""
    stands = more.pop("chain", chain(tier("one", "active"), tier("two")))
    told: dict[str, Any] = {
        "now_ms": NOW_MS,
        "where": Where("default"),
        "chain": stands,
        "chains": [stands],
        "measure": measure(),
        "usage": {each["name"]: measure() for each in stands["tiers"]},
        "days": {},
        "running": {},
        "match": '"tag"',
        "working": [],
        "opened": None,
        "tasks": [],
        "older": None,
        "counts": {},
        "events": [],
        "notices": [],
        "accounts": {},
        "problems": [],
        "warnings": [],
        "low_disk": False,
        "config": "/etc/locum/service.json",
        "started_ms": NOW_MS - 60_000,
    }
    return Scene(**{**told, **more})


def working(tail: str = "", **more: Any) -> Working:
    """A task at work."""
    return Working(task("t-2", "running", **more), [run()], tail, len(tail))


class Read(HTMLParser):
    """A page as it is parsed: every element with its attributes, and all the text. Raises when one is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, self._open

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join("".join(self.texts).split())

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self._apart(name)
        assert len({key for key, _ in attributes}) == len(attributes), "no attribute stands twice"
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self._open.append(name)

    def handle_endtag(self, name: str) -> None:
        """It closes what was opened last."""
        self._apart(name)
        assert self._open.pop() == name, name

    def _apart(self, name: str) -> None:
        """Words on both sides of what is no part of a line stand apart."""
        if name not in INLINE:
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        """Text."""
        self.texts.append(data)
