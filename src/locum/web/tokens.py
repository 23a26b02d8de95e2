"""Who may ask over the network: tokens, of which only digests are kept, in a file of their own."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import anyio
import structlog

from locum.clock import Clock
from locum.errors import ConflictError, NotFoundError, StateError
from locum.files import open_regular
from locum.policy.failure import DAY, MINUTE
from locum.store.worker import Worker
from locum.web.endpoint import Scope

log = structlog.get_logger(__name__)

PREFIX = "locum_"
"""What every token begins with, so that people and scanners know one when they see it."""
MOST = 100
"""How many there may be at a time, logins of browsers apart."""
LOGIN_MS = 14 * DAY
"""How long a browser stays logged in."""
CODE_MS = 5 * MINUTE
"""How long a login link is good."""
SAVED_EVERY_MS = MINUTE
"""How often the moment of the last use is written down at most."""
_MOST_LOGINS = 50
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of one. `digest` is the SHA-256 of the secret: 256 random bits need no slower one.

    Times are epoch milliseconds; `expires_ms` None: it is good until it is revoked. `browser`: it was made by a login
    link, and is a browser's cookie.
    """

    id: str
    name: str
    scope: Scope
    digest: str
    created_ms: int
    used_ms: int | None = None
    expires_ms: int | None = None
    browser: bool = False

    def good(self, now_ms: int) -> bool:
        """Whether it has not expired."""
        return self.expires_ms is None or now_ms < self.expires_ms


class Tokens:
    """All tokens of a daemon, in the file `path` (mode 0600), and the codes of login links, which are not kept.

    They are not in the ledger: an older copy of it that is put back must not bring back what was revoked, and who is
    given a copy to look into must find nothing to get in with.
    """

    def __init__(self, path: Path, clock: Clock, worker: Worker) -> None:
        self.path = path
        self.clock = clock
        self.worker = worker
        self._tokens: dict[str, Token] | None = None
        self._codes: dict[str, int] = {}  # by digest: until when
        self._revoked: set[str] = set()  # whether the disk took it or not
        self._lives: dict[str, set[anyio.CancelScope]] = {}
        self._saved_ms = 0
        self._lock = anyio.Lock()

    def listed(self) -> list[Token]:
        """Those that are good, oldest first. Raises StateError when the file cannot be read."""
        now_ms = self.clock.now_ms()
        return [each for each in self._loaded().values() if each.good(now_ms) and each.id not in self._revoked]

    async def create(
        self, name: str, scope: Scope, lasts_ms: int | None = None, *, browser: bool = False
    ) -> tuple[Token, str]:
        """A new token and its secret, which is told now and never again. Good once it is on disk.

        Raises ConflictError when there are too many or one of that name, StateError when it cannot be written.
        """
        assert scope in (Scope.READ, Scope.OPERATE), "nothing else can be given"
        now_ms, secret = self.clock.now_ms(), PREFIX + self.clock.key()
        token = Token(
            id=self.clock.uuid()[:8],
            name=name,
            scope=scope,
            digest=_digest(secret),
            created_ms=now_ms,
            expires_ms=None if lasts_ms is None else now_ms + lasts_ms,
            browser=browser,
        )

        def add(tokens: dict[str, Token]) -> None:
            if browser:
                logins = [each.id for each in tokens.values() if each.browser]
                for old in logins[: len(logins) - _MOST_LOGINS + 1]:
                    del tokens[old]
            elif sum(not each.browser for each in tokens.values()) >= MOST:
                raise ConflictError(f"there are {MOST} tokens already", remedy="Revoke those that nobody uses.")
            elif any(each.name == name for each in tokens.values()):
                raise ConflictError(f"there is a token {name} already", remedy="Revoke it, or choose another name.")
            tokens[token.id] = token

        await self._change(add)
        return token, secret

    async def revoke(self, which: str, spared: anyio.CancelScope | None = None) -> Token:
        """Make a token worthless, at once; `which` is its id or its name. What goes on with it ends, but for `spared`.

        Raises NotFoundError and StateError.
        """
        found = next((each for each in self.listed() if which in (each.id, each.name)), None)
        if found is None:
            raise NotFoundError(f"no token {which}", remedy="See `locum token list`.")
        self._revoked.add(found.id)
        for life in self._lives.get(found.id, set()) - {spared}:
            life.cancel()
        await self._change(lambda _: None)
        return found

    def find(self, secret: str) -> Token | None:
        """The token of that secret, as long as it is good."""
        try:
            tokens = self._loaded()
        except StateError as error:
            log.error("tokens_unreadable", error=str(error))  # noqa: TRY400 - it is a sentence, not a bug
            return None
        digest, found = _digest(secret), None
        for each in tokens.values():  # all of them, so that the time tells nothing
            if hmac.compare_digest(each.digest, digest):
                found = each
        now_ms = self.clock.now_ms()
        if found is None or found.id in self._revoked or not found.good(now_ms):
            return None
        tokens[found.id] = found = replace(found, used_ms=now_ms)
        return found

    @contextmanager
    def life(self, token: Token) -> Generator[anyio.CancelScope, None, None]:
        """What is done within is cancelled when the token is revoked, and when its time is over."""
        left_s = inf if token.expires_ms is None else (token.expires_ms - self.clock.now_ms()) / 1000
        with anyio.CancelScope(deadline=anyio.current_time() + left_s) as scope:
            lives = self._lives.setdefault(token.id, set())
            lives.add(scope)
            try:
                yield scope
            finally:
                lives.discard(scope)
                if not lives:
                    self._lives.pop(token.id, None)

    async def save_uses(self) -> None:
        """Write down when tokens were last used, if that was not done a moment ago; trouble with the disk is told."""
        now_ms = self.clock.now_ms()
        if abs(now_ms - self._saved_ms) < SAVED_EVERY_MS:
            return
        self._saved_ms = now_ms
        try:
            await self._change(lambda _: None)
        except StateError as error:
            log.error("state_error", error=str(error))  # noqa: TRY400 - it is a sentence, not a bug

    def code(self) -> str:
        """A code for one login, good for `CODE_MS`."""
        now_ms, code = self.clock.now_ms(), self.clock.key()
        self._codes = {digest: until for digest, until in self._codes.items() if now_ms < until}
        while len(self._codes) >= _MOST_LOGINS:
            del self._codes[next(iter(self._codes))]
        self._codes[_digest(code)] = now_ms + CODE_MS
        return code

    def redeem(self, code: str) -> bool:
        """Whether that code is good for a login; it is not from now on."""
        until_ms = self._codes.pop(_digest(code), 0)
        return self.clock.now_ms() < until_ms

    def _loaded(self) -> dict[str, Token]:
        if self._tokens is None:
            self._tokens = _read(self.path)
        return self._tokens

    async def _change(self, change: Callable[[dict[str, Token]], Any]) -> None:
        """Have a change written to the disk, and then take it over."""
        async with self._lock:
            tokens = {each.id: each for each in self.listed()}
            change(tokens)
            text = json.dumps({"version": 1, "tokens": [asdict(each) for each in tokens.values()]}, indent=1)
            await self.worker.aside(lambda: _write(self.path, text.encode()))
            used = {each.id: each.used_ms for each in self._loaded().values()}  # meanwhile
            self._tokens = {each.id: replace(each, used_ms=used.get(each.id, each.used_ms)) for each in tokens.values()}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> dict[str, Token]:
    """The tokens in a file, none when it is not there. Raises StateError."""
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - by descriptor
            found = json.loads(file.read(_LARGEST))
        tokens = [Token(**each | {"scope": Scope(each["scope"])}) for each in found["tokens"]]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        remedy = "Move it away: all tokens are then gone, and new ones can be made."
        raise StateError(f"the tokens in {path} cannot be read ({error})", remedy=remedy) from error
    return {each.id: each for each in tokens}


def _write(path: Path, data: bytes) -> None:
    """Replace a file, whole and durably. Raises StateError."""
    new = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(path)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}", remedy="Make room, and try again.") from error
