"""Time zones: the host's own, and whether a name is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LOCALTIME = Path("/etc/localtime")


def is_zone(name: str) -> bool:
    """Whether `name` is an IANA time zone that this host or the tzdata package knows."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def host_timezone(environ: Mapping[str, str], localtime: Path = LOCALTIME) -> str:
    """The host's time zone as an IANA name: `TZ`, else where `localtime` links to, else UTC."""
    told = environ.get("TZ", "").removeprefix(":")
    if told and not told.startswith("/") and is_zone(told):
        return told
    file = Path(told) if told.startswith("/") else localtime
    try:
        _, found, name = str(file.resolve()).partition("/zoneinfo/")
    except (OSError, RuntimeError):
        return "UTC"
    return name if found and is_zone(name) else "UTC"
