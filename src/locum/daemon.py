"""The composition root: the only file that knows every part."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import structlog

from locum import __version__
from locum.agents.base import Agent
from locum.agents.own import own_rules
from locum.agents.registry import agents
from locum.clock import Clock, SystemClock
from locum.config.load import Loaded, load
from locum.config.reload import Reloader
from locum.engine.process import SystemProcesses
from locum.engine.supervisor import Supervisor
from locum.engine.tried import try_rules
from locum.errors import ConflictError, StateError
from locum.locks import try_lock
from locum.store.ledger import Ledger
from locum.systemd import notify
from locum.web.app import build
from locum.web.listener import bind, keep

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a daemon finds its configuration, keeps its state and listens."""

    config: Path
    state: Path
    socket: Path


def main(places: Places, environ: Mapping[str, str], clock: Clock | None = None) -> None:
    """Serve until told to stop (TERM or INT). HUP reads the configuration again. `clock` None: the host's.

    Raises:
        ConfigError: service.json cannot be used.
        ConflictError: another daemon runs on this state, or answers on this socket.
        StateError: the state folder, the database or the socket cannot be used.

    """
    set_up_logging(environ)
    anyio.run(_serve, places, environ, clock or SystemClock(), backend_options={"use_uvloop": True})


def set_up_logging(environ: Mapping[str, str]) -> None:
    """JSON lines under systemd, where a machine reads them; readable lines on a terminal or in a file."""
    under_systemd = "JOURNAL_STREAM" in environ or "INVOCATION_ID" in environ
    shape: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer()]
        if under_systemd
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shape,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def agents_for(loaded: Loaded) -> Mapping[str, Agent]:
    """Every agent, with the operator's own rules beside the shipped ones."""
    return agents(own_rules(loaded))


async def _serve(places: Places, environ: Mapping[str, str], clock: Clock) -> None:
    reloader = Reloader(load(places.config, environ), environ)
    lock = _take_state(places.state)
    try:
        ledger = await Ledger.open(places.state / "locum.db", reloader.loaded.plan, clock.now_ms(), mark=clock.uuid())
        try:
            supervisor = Supervisor(
                ledger=ledger,
                reloader=reloader,
                agents_for=agents_for,
                clock=clock,
                processes=SystemProcesses(),
                state=places.state,
                environ=environ,
            )
            await _run(supervisor, places, environ)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(30):
                await ledger.close()
    finally:
        os.close(lock)


async def _run(supervisor: Supervisor, places: Places, environ: Mapping[str, str]) -> None:
    listening = bind(places.socket)
    closed = anyio.Event()

    def ready() -> None:
        notify(environ, "READY=1")
        log.info(
            "ready", version=__version__, config=str(places.config), state=str(places.state), socket=str(places.socket)
        )

    async with anyio.create_task_group() as group:
        group.start_soon(_heed_signals, supervisor)
        app = build(supervisor)
        group.start_soon(app.state.feed.run)
        group.start_soon(app.state.network.run, app, closed)
        group.start_soon(keep, app, places.socket, listening, ready, closed)
        for warning in supervisor.loaded.warnings:
            log.warning("config_warning", problem=str(warning))
        async with anyio.create_task_group() as beside:
            beside.start_soon(try_rules, supervisor)
            await supervisor.run()
            beside.cancel_scope.cancel()
        notify(environ, "STOPPING=1")
        closed.set()
        group.cancel_scope.deadline = anyio.current_time() + 10
        log.info("stopped")


async def _heed_signals(supervisor: Supervisor) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async for number in received:
            if number == signal.SIGHUP:
                await supervisor.refresh()
                continue
            log.info("stopping", signal=signal.Signals(number).name)
            supervisor.stop()
            return


def _take_state(state: Path) -> int:
    """The state folder's lock, held as long as the process lives: two daemons never share a state."""
    try:
        state.mkdir(parents=True, mode=0o700, exist_ok=True)
        (state / "runs").mkdir(mode=0o700, exist_ok=True)
        lock = try_lock(state / "daemon.lock")
    except FileExistsError as error:
        remedy = "Move it away, or name another folder with --state or LOCUM_STATE."
        raise StateError(f"{error.filename}: this is not a folder", remedy=remedy) from error
    except OSError as error:
        remedy = "Name a folder you may write to with --state or LOCUM_STATE."
        raise StateError(f"{error.filename or state}: {error.strerror}", remedy=remedy) from error
    if lock is None:
        raise ConflictError(
            f"another locum daemon runs on {state}", remedy="Stop it first, or give this one its own --state."
        )
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock
