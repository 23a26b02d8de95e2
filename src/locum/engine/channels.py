"""One message through one channel of service.json, whatever its type; what came of it, without secrets."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio

from locum.clock import Clock
from locum.config.load import Loaded
from locum.config.notify import AppriseChannel, CommandChannel, NotifyChannel, WebhookChannel
from locum.config.secrets import SecretError, resolve
from locum.engine.command import argv_of, environment, followed, last_line
from locum.engine.process import Command, Processes
from locum.engine.redact import Redactor
from locum.notify.body import Json, standard
from locum.notify.by_apprise import MISSING, URL_VARIABLE, is_there
from locum.policy.address import Allowed
from locum.policy.delivery import Outcome
from locum.words import span

APPRISE_LIMIT_MS = 30_000
"""How long apprise may take: it connects by itself, several times where its URL says so."""
GRACE = 2.0
OUTPUT_KEPT = 4 << 10
APPRISE = (sys.executable, "-m", "locum.notify.by_apprise")


class Service(Protocol):
    """What is needed of the supervisor."""

    clock: Clock
    processes: Processes
    state: Path
    environ: Mapping[str, str]
    stopping: anyio.Event

    @property
    def loaded(self) -> Loaded:
        """The last good configuration."""
        ...

    def redactor(self) -> Redactor:
        """Takes secrets out of what is kept and shown."""
        ...


@dataclass
class Sender:
    """Sends for one service."""

    service: Service

    async def send(self, channel: NotifyChannel, message: Json, *, mark: str = "") -> Outcome | None:
        """Tell a channel one message, once; None when the service stops before that is known. Raises nothing.

        `mark` tells a trial's files and process from those of the line.
        """
        outcome: Outcome | None
        try:
            match channel:
                case WebhookChannel():
                    outcome = await self._post(channel, message)
                case AppriseChannel():
                    outcome = await self._by_apprise(channel, message, mark)
                case CommandChannel():
                    outcome = await self._by_command(channel, message, mark)
        except SecretError as error:
            outcome = Outcome(told=False, why=str(error), refused=True)
        except OSError as error:
            outcome = Outcome(told=False, why=f"this host cannot do it now ({error.strerror})")
        return None if outcome is None else self._hidden(outcome)

    async def clear(self, channel: str) -> None:
        """End what a daemon that is gone had begun for a channel."""
        found = {each.name: each for each in self.service.loaded.service.notify}.get(channel)
        if found is not None and not isinstance(found, WebhookChannel):
            await self.service.processes.clear(_task(channel))

    def _hidden(self, outcome: Outcome) -> Outcome:
        if not outcome.why:
            return outcome
        said = " ".join(self.service.redactor()(outcome.why).split())
        return Outcome(outcome.told, said, outcome.status, outcome.gone, outcome.after_ms, outcome.refused)

    async def _post(self, channel: WebhookChannel, message: Json) -> Outcome:
        from locum.notify.http import SystemNet  # noqa: PLC0415 - only a daemon that has a webhook needs the network
        from locum.notify.webhook import Webhook, send  # noqa: PLC0415

        environ, base = self.service.environ, self.service.loaded.place.folder
        webhook = Webhook(
            url=resolve(channel.url, environ, base),
            secrets=[resolve(each, environ, base) for each in (channel.secret, channel.old_secret) if each is not None],
            format=channel.format,
            headers={name: resolve(value, environ, base) for name, value in channel.headers.items()},
            allowed=Allowed.of(channel.allow_private),
        )
        return await send(SystemNet(), webhook, message, self.service.clock.now_ms())

    async def _by_apprise(self, channel: AppriseChannel, message: Json, mark: str) -> Outcome | None:
        if not is_there():
            return Outcome(told=False, why=MISSING, refused=True)
        url = resolve(channel.url, self.service.environ, self.service.loaded.place.folder)
        return await self._run(channel.name + mark, APPRISE, message, {URL_VARIABLE: url}, APPRISE_LIMIT_MS)

    async def _by_command(self, channel: CommandChannel, message: Json, mark: str) -> Outcome | None:
        argv = argv_of(channel.command, self.service.loaded)
        try:
            return await self._run(channel.name + mark, argv, message, {}, channel.time_limit_ms)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR):
                raise
            return Outcome(told=False, why=f"{argv[0]}: it cannot be started ({error.strerror})", refused=True)

    async def _run(
        self, name: str, argv: tuple[str, ...], message: Json, more: dict[str, str], limit_ms: int
    ) -> Outcome | None:
        """Run a program that reads the message. Raises OSError when it cannot be started."""
        service, loaded = self.service, self.service.loaded
        folder = service.state / "notify"
        folder.mkdir(mode=0o700, exist_ok=True)
        text = folder / f"{name}.json"
        with suppress(FileNotFoundError):
            text.unlink()
        with text.open("xb") as file:
            file.write(standard(message) + b"\n")
        env = environment(service.environ, service.state, loaded) | {"LOCUM_NOTICE": json.dumps(message["id"])[1:-1]}
        child = service.processes.begin(Command(_task(name), argv, env | more, loaded.place.folder, text, OUTPUT_KEPT))
        code: int | None = None
        try:
            code = await followed(child, limit_ms / 1000, service.stopping)
        finally:
            if code is None:
                with anyio.CancelScope(shield=True):
                    await child.stop(GRACE)
        if code is None and service.stopping.is_set():
            return None
        said = last_line(child.output.decode("utf-8", "replace")).removeprefix(": ")
        if code is None:
            return Outcome(told=False, why=f"it took longer than {span(limit_ms)} and was stopped")
        return Outcome(told=code == 0, why=said, status=code)


def _task(channel: str) -> str:
    """What processes for a channel are marked with: no task is called so."""
    return f"notify:{channel}"
