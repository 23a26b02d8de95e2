"""The command that an agent's hook runs: one line of sh around curl, made and recognised here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

_URL = "http://locum/hooks/"
_SOCKET = "--unix-socket"


@dataclass(frozen=True, slots=True)
class HookLine:
    """Whom a hook tells, and of which agent; `chain` and `tier` are None where the daemon finds them itself."""

    socket: Path
    agent: str
    chain: str | None = None
    tier: str | None = None

    def command(self, seconds: int) -> str:
        """The line, for an agent that waits `seconds` for it.

        It ends a second before the agent's patience does. Every failure ends with 1, at which agents go on: with 2,
        one of curl's own exit codes, they would stop. /bin/sh says so, for an agent may use a shell of another kind.
        """
        url = f"{_URL}{quote(self.agent, safe='')}" + (f"?{self.query}" if self.query else "")
        told = (
            "locum: this hook got no answer, so the session goes on without being counted"
            f" (why: locum hooks test {self.agent})"
        )
        assert not set(told) & set('\\"$`'), "nothing in it means anything to a shell"
        curl = ["curl", "-q", "-sS", "-f", "--noproxy", "*", "--max-time", str(max(1, seconds - 1))]
        curl += [_SOCKET, str(self.socket), "-H", "content-type: application/json", "--data-binary", "@-", url]
        fallback = ["/bin/sh", "-c", f'echo "{told}" >&2; exit 1']
        return f"{shlex.join(curl)} || {shlex.join(fallback)}"

    @property
    def query(self) -> str:
        """The names as a query; empty when it names neither."""
        return urlencode({name: value for name, value in self._names() if value}, quote_via=quote, safe="")

    def names(self) -> str:
        """The chain and the tier it names, for people; empty when it names neither."""
        return " of ".join(f"{name} {value}" for name, value in reversed(self._names()) if value)

    def _names(self) -> tuple[tuple[str, str | None], ...]:
        return (("chain", self.chain), ("tier", self.tier))


def is_ours(command: Any) -> bool:
    """Whether a command in an agent's settings is one of these lines, whoever changed what in it since."""
    return isinstance(command, str) and _URL in command and _SOCKET in command


def read_back(command: str) -> HookLine | None:
    """Whom the line tells; None when it has been changed beyond recognition."""
    try:
        words = shlex.split(command)
        socket = words[words.index(_SOCKET) + 1]
        url = urlsplit(next(word for word in words if word.startswith(_URL)))
        query = parse_qs(url.query)
    except (ValueError, IndexError, StopIteration):
        return None
    chain, tier = (query.get(name, [None])[-1] for name in ("chain", "tier"))
    return HookLine(Path(socket), unquote(url.path.rpartition("/")[2]), chain, tier)
