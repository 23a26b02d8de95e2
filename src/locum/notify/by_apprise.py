"""A message by way of apprise, in a process of its own: `python -m locum.notify.by_apprise`, the message on stdin."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys

URL_VARIABLE = "LOCUM_APPRISE_URL"
MISSING = "apprise is not installed: install the extra, as with pip install 'locum[apprise]'"
_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}


def is_there() -> bool:
    """Whether apprise is installed."""
    return importlib.util.find_spec("apprise") is not None


def main() -> int:
    """Send it; the exit code."""
    if not is_there():
        sys.stderr.write(f"{MISSING}\n")
        return 1
    url = os.environ.pop(URL_VARIABLE, "")
    message = json.load(sys.stdin)
    apprise = importlib.import_module("apprise")
    sender = apprise.Apprise()
    if not sender.add(url):
        sys.stderr.write("apprise does not know what this URL means\n")
        return 1
    kind = _TYPES[message["severity"]]
    if not sender.notify(body=message["message"], title=message["title"], notify_type=kind):
        sys.stderr.write("apprise could not send it\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
