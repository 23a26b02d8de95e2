"""Runs the operator's own command after each task: at least once, bounded, and never in the way of a task."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import structlog

from locum.clock import Clock
from locum.config.load import Loaded
from locum.config.model import PostTaskEntry
from locum.engine import views
from locum.engine.bell import Bell
from locum.engine.command import argv_of, environment, followed, last_line
from locum.engine.process import Command, Processes
from locum.engine.redact import Redactor
from locum.errors import LocumError, StateError
from locum.policy.plan import Target
from locum.policy.task import PostTaskState, Task
from locum.store.ledger import Ledger
from locum.store.worker import Worker
from locum.words import span

log = structlog.get_logger(__name__)

MOST_AT_A_TIME = 4
PAUSE = 2.0
"""Seconds before something that the disk or the host refused is tried again."""
LONGEST_SLEEP = 30.0
OUTPUT_KEPT = 64 << 10
"""Bytes of the command's output that are kept: its end."""
TOLD = 2_000
PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})
"""What keeps a program from being started now, and may not in a moment: no processes left, or it is being saved."""


class Service(Protocol):
    """What is needed of the supervisor."""

    ledger: Ledger
    clock: Clock
    processes: Processes
    worker: Worker
    state: Path
    environ: Mapping[str, str]
    bell: Bell
    stopping: anyio.Event

    @property
    def loaded(self) -> Loaded:
        """The last good configuration."""
        ...

    def busy(self) -> Collection[Target]:
        """The targets of every tier that has a run in progress."""
        ...

    def redactor(self) -> Redactor:
        """Takes secrets out of what is kept and shown."""
        ...


async def result(service: Service, task: Task) -> dict[str, Any]:
    """What the command is told of a task that has ended; usage and chain are as they stand now, null when gone."""
    ledger, now_ms = service.ledger, service.clock.now_ms()
    plan, runs = ledger.plan, await ledger.runs(task.id)
    told = {
        "schema": views.SCHEMA,
        "task": views.task(task),
        "runs": [views.run(each) for each in runs],
        **views.spent(runs),
        "usage": None,
        "chain": None,
    }
    chain = plan.chains.get(task.chain)
    if chain is not None:
        usage, counts = await ledger.usage(f"chain:{chain.name}", now_ms), await ledger.open_counts()
        told["usage"] = views.of_chain(ledger.board, plan, chain.name, usage, now_ms)
        told["chain"] = views.standing(ledger.board, chain, now_ms, service.busy(), counts)
    return told


@dataclass
class PostTasks:
    """The commands in progress after the tasks of one supervisor, and those that are due."""

    service: Service
    _running: set[str] = field(default_factory=set)  # by task: from the decision to the row of its end
    _recovered: bool = False

    def folder(self, task_id: str) -> Path:
        """Where the command after a task finds its input, and leaves its output."""
        return self.service.state / "post" / task_id

    async def run(self) -> None:
        """Begin what is due, oldest first and a few at a time, until the service stops; then end what runs."""
        service = self.service
        async with anyio.create_task_group() as group:
            while not service.stopping.is_set():
                heard = service.bell.heard()
                try:
                    due, loaded = await self._due(), service.loaded
                    entry = loaded.service.post_task
                    if entry is not None:
                        for task in due:
                            self._running.add(task)
                            group.start_soon(self._serve, task, loaded, entry)
                except StateError as error:
                    log.error("post_task_state_error", error=str(error))  # noqa: TRY400 - a sentence, not a bug
                    await self._pause()
                    continue
                await service.bell.wait(heard, LONGEST_SLEEP)

    async def retire(self, before_ms: int) -> None:
        """Remove the folders of commands that ended before that moment."""
        folders = self.service.state / "post"
        for folder in folders.iterdir() if folders.is_dir() else ():
            if folder.name not in self._running and folder.lstat().st_mtime_ns < before_ms * 1_000_000:
                await self.service.worker.aside(partial(shutil.rmtree, folder, ignore_errors=True))

    async def _due(self) -> list[str]:
        """The tasks whose turn it is. What a daemon that is gone had begun is ended at first, and due again."""
        rows = self.service.ledger.post_tasks
        if not self._recovered:
            for task in await rows.running():
                log.warning("post_task_lost", task=task, killed=await self.service.processes.clear(task))
                await rows.put_back(task)
            self._recovered = True
        due = [each for each in await rows.due(2 * MOST_AT_A_TIME) if each not in self._running]
        if due and self.service.loaded.service.post_task is None:
            log.info("post_tasks_dropped", tasks=await rows.drop(self.service.clock.now_ms()))
            return []
        return due[: MOST_AT_A_TIME - len(self._running)]

    async def _serve(self, task_id: str, loaded: Loaded, entry: PostTaskEntry) -> None:
        """Run the command after one task, as the configuration had it when it was begun."""
        try:
            task = await self.service.ledger.task(task_id)
            await self._run(task, loaded, entry)
        except (LocumError, OSError) as error:
            log.error("post_task_put_off", task=task_id, error=str(error))  # noqa: TRY400 - a sentence, not a bug
            await self._pause()
        except Exception:
            log.exception("post_task_not_understood", task=task_id)  # a bug of ours costs this command, not the daemon
            why = "locum itself failed to run it: its log says how; please report that"
            with suppress(StateError, OSError):
                await self.service.processes.clear(task_id)
                await self._end(task_id, PostTaskState.FAILED, None, why)
        finally:
            self._running.discard(task_id)
            self.service.bell.ring()

    async def _run(self, task: Task, loaded: Loaded, entry: PostTaskEntry) -> None:
        """Begin, follow and write down the end.

        Raises:
            StateError: nothing can be written now.
            OSError: the folder cannot be written, or the host can start nothing now.

        """
        service, hide = self.service, self.service.redactor()
        folder, text = self.folder(task.id), json.dumps(await result(service, task)) + "\n"
        try:
            _lay_out(folder, text)
        except FileExistsError:  # the others shall not wait for somebody to clear that away
            return await self._end(task.id, PostTaskState.FAILED, None, f"{folder} cannot be made anew")
        command = self._command(task, loaded, entry, folder, hide)
        state = await service.ledger.post_tasks.start(task.id, service.clock.now_ms())
        if state is not PostTaskState.RUNNING:
            log.warning("post_task_not_started", task=task.id, state=state)
            return None
        try:
            child = service.processes.begin(command)
        except OSError as error:
            if error.errno not in PASSING:
                return await self._end(task.id, PostTaskState.FAILED, None, _not_started(error, command))
            await self._write(lambda: service.ledger.post_tasks.put_back(task.id))
            raise
        code = await followed(child, entry.time_limit_ms / 1000, service.stopping)
        if code is None:
            await child.stop(loaded.service.limits.stop_grace_ms / 1000)
        output = hide(hide.end(child.output, OUTPUT_KEPT))  # the second finds what a colour divides
        _keep(folder, output, task.id)
        if code == 0:
            return await self._end(task.id, PostTaskState.DONE, 0, "")
        if code is not None:
            return await self._end(task.id, PostTaskState.FAILED, code, f"exit code {code}{last_line(output)}", output)
        if service.stopping.is_set():
            log.info("post_task_stopped", task=task.id)
            return await self._write(lambda: service.ledger.post_tasks.put_back(task.id))
        why = f"it took longer than its time_limit ({span(entry.time_limit_ms)}) and was stopped"
        return await self._end(task.id, PostTaskState.FAILED, None, why, output)

    def _command(self, task: Task, loaded: Loaded, entry: PostTaskEntry, folder: Path, hide: Redactor) -> Command:
        service, argv = self.service, argv_of(entry.command, loaded)
        env = environment(service.environ, service.state, loaded) | {"LOCUM_TASK": task.id, "LOCUM_CHAIN": task.chain}
        return Command(task.id, argv, env, loaded.place.folder, folder / "result.json", OUTPUT_KEPT + hide.longest)

    async def _end(self, task_id: str, state: PostTaskState, code: int | None, reason: str, output: str = "") -> None:
        rows, clock = self.service.ledger.post_tasks, self.service.clock
        await self._write(lambda: rows.end(task_id, state, code, reason, clock.now_ms()))
        if state is PostTaskState.FAILED:
            log.warning("post_task_failed", task=task_id, reason=reason, output=output[-TOLD:])
        else:
            log.info("post_task_done", task=task_id)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write down what became of a command, as often as the disk needs; when stopping, the next daemon runs it."""
        while True:
            try:
                return await write()
            except StateError as error:
                if self.service.stopping.is_set():
                    raise
                log.error("post_task_not_recorded", error=str(error))  # noqa: TRY400 - a sentence, not a bug
                await self._pause()

    async def _pause(self) -> None:
        with anyio.move_on_after(PAUSE):
            await self.service.stopping.wait()


def _lay_out(folder: Path, text: str) -> None:
    """Make the folder anew, whatever lies there, with what the command is to read. Raises OSError."""
    with suppress(OSError):
        folder.unlink()  # a link or a file in its place is nothing of ours
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    with (folder / "result.json").open("x") as file:
        file.write(text)


def _keep(folder: Path, output: str, task_id: str) -> None:
    """Keep the end of the output; on a full disk it is only in the log."""
    try:
        with (folder / "output").open("x", encoding="utf-8") as file:
            file.write(output)
    except OSError as error:
        log.warning("post_task_output_not_kept", task=task_id, error=str(error))


def _not_started(error: OSError, command: Command) -> str:
    where = command.cwd if str(error.filename) == str(command.cwd) else command.argv[0]
    return f"{where}: it cannot be started ({error.strerror})"
