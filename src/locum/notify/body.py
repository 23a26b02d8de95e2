"""A notice as other programs read it: flat JSON, or the message of a chat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from locum.policy.notice import Notice
from locum.words import iso

LARGEST = 19_999
"""Bytes of a body."""
LONGEST_CHAT = 2_000
"""Characters of a chat's message: as many as Discord takes."""
_ALWAYS = ("tier", "threshold", "total_tokens", "percent", "window")
"""Keys that are there whatever is told, null where they mean nothing."""
_KEPT = frozenset({"id", "event", "chain", "timestamp", "severity"})
"""What is never cut."""
_CUT = " […]"

Json = dict[str, Any]


def told(notice: Notice, count: int = 1, titles: Sequence[str] = (), place: str = "") -> Json:
    """What a notice says, flat; with `count` others of its kind in one message, of which `titles` are some.

    `place` is where the dashboard is ("": nowhere); its links lead there.
    """
    title, message = notice.title, notice.message
    if count > 1:
        about = f" about {notice.chain}" if notice.chain else ""
        title = f"{count} notices {notice.kind}{about} within a minute"
        listed = [notice.title, *titles]
        more = count - len(listed)
        message = "\n".join([*listed, *([f"and {more} more"] if more > 0 else [])])
    own = {
        "id": notice.id,
        "event": str(notice.kind),
        "timestamp": iso(notice.at_ms),
        "severity": str(notice.severity),
        "chain": notice.chain,
        "title": title,
        "message": message,
        "link": place + notice.link,
        "count": count,
    }
    return {**dict.fromkeys(_ALWAYS), **notice.data, **own}


def standard(message: Json) -> bytes:
    """The message as it is, of `LARGEST` bytes at most: what is too long in it is cut, never its id."""
    data = _dump(message)
    while len(data) > LARGEST:
        texts = {key: value for key, value in message.items() if isinstance(value, str) and key not in _KEPT}
        key = max(texts, key=lambda key: len(texts[key]))
        over = len(data) - LARGEST
        text = texts[key].removesuffix(_CUT)
        message = {**message, key: text[: max(0, min(len(text) - over // 4 - len(_CUT), len(text) * 3 // 4))] + _CUT}
        data = _dump(message)
    return data


def slack(message: Json) -> bytes:
    """The message for a channel of Slack, or of what speaks like it."""
    text = _chat(message)
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)
    return _dump({"text": text})


def discord(message: Json) -> bytes:
    """The message for a channel of Discord; it wakes nobody by name."""
    return _dump({"content": _chat(message), "allowed_mentions": {"parse": []}})


FORMATS = {"standard": standard, "slack": slack, "discord": discord}


def _chat(message: Json) -> str:
    mark = {"info": "", "warning": "⚠️ ", "critical": "🚨 "}[message["severity"]]
    text, link = f"{mark}{message['title']}\n{message['message']}", message["link"]
    below = "" if link.startswith("/") else f"\n{link}"
    room = LONGEST_CHAT - len(below)
    return (text if len(text) <= room else text[: room - len(_CUT)] + _CUT) + below


def _dump(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
