"""Kills a field's daemon again and again, at the moments that a plan names."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from locum.engine.process import marked
from locum.errors import UnreachableError
from tests.crash.books import Ledger
from tests.crash.field import STIRS, Field
from tests.crash.points import FIRST_STARTS, KILLS, POINTS, SHARES, TIMES, UNSTARTED, Lead, Point
from tests.harness import LOCUM, PYTHON, until

DYING = str(Path(__file__).with_name("serve_and_die.py"))
BOUND = 60.0
"""Seconds in which a point must be reached."""
DRAIN = 60.0
"""Seconds in which all that is left must have ended once nobody kills any more."""
PAUSE = 0.04
"""Seconds between two rounds of asking."""
AT_WORK = (1, 150)
"""Entries of its 400 that an agent has issued while it is at work for sure, and will be a while."""
_TOLD = re.compile(r" run_(adopted|never_started) +(?:alive=(\w+) )?run=(r-\w+)")


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: at a pass through a point or, without one, at a random moment.

    That is `delay` seconds after the daemon answers (`early`: after it is started; for `stop`: after it is told to).
    `before` is what the daemon that is killed has to leave behind for the next one.
    """

    point: Point | None
    count: int = 1
    delay: float = 0.0
    stir: str = "work"
    before: Lead = Lead.NOTHING
    early: bool = False

    def __str__(self) -> str:
        """What a failure is told with."""
        return f"{self.point.name} at pass {self.count}" if self.point else f"{self.delay:.3f} s into `{self.stir}`"


@dataclass
class Life:
    """One daemon from its start to its end: what ended it, and which runs it found open, told of, and left open.

    `told` says of each run how it was found: `alive`, `ended` or `never started`.
    """

    kill: Kill | None
    found: set[str]
    log_at: int
    told: list[tuple[str, str]] = field(default_factory=list)
    left: set[str] = field(default_factory=set)


def plan(share: int, seed: int) -> list[Kill]:
    """The kills of one share: its part of the points, and for the rest of its number random moments."""
    chance = random.Random(f"{seed}:{share}")
    dealt = [point for index, point in enumerate(POINTS) for turn in range(TIMES) if (index + turn) % SHARES == share]
    groups = [_with_lead(point, chance) for point in dealt]
    left = kills_of(share) - sum(map(len, groups))
    assert left > 0, "there are more points than kills"
    groups += [[_at_random(chance)] for _ in range(left)]
    chance.shuffle(groups)
    return [kill for group in groups for kill in group]


def first_starts(seed: int, turn: int) -> list[Kill]:
    """The kills of a first start, one after the other in a folder where nothing is yet."""
    chance = random.Random(f"{seed}:first:{turn}")
    return [at_point(point, chance) for point in FIRST_STARTS]


def kills_of(share: int) -> int:
    """How many kills a share makes; the first starts are a share of their own."""
    kills = KILLS - len(FIRST_STARTS) * TIMES
    return kills // SHARES + (share < kills % SHARES)


def at_point(point: Point, chance: random.Random) -> Kill:
    """A kill at one of the passes through a point."""
    return Kill(point, count=chance.randint(point.first, point.most), stir=point.stir)


def _at_random(chance: random.Random, before: Lead = Lead.NOTHING) -> Kill:
    if before is not Lead.NOTHING:
        return Kill(None, delay=chance.uniform(0, 0.2), before=before)
    stir = chance.choice((*STIRS, "stop"))
    if stir == "stop":
        return Kill(None, delay=chance.uniform(0, 0.15), stir=stir)
    early = chance.random() < 0.15
    return Kill(None, delay=chance.uniform(0, 0.6 if early else 0.9), stir=stir, early=early)


def _with_lead(point: Point, chance: random.Random) -> list[Kill]:
    """The kill at a point, behind the one that it needs."""
    kill = at_point(point, chance)
    if point.lead is Lead.NOTHING:
        return [kill]
    lead = at_point(UNSTARTED, chance) if point.lead is Lead.UNSTARTED else _at_random(chance, point.lead)
    return [lead, kill]


class Driver:
    """Lives and kills of one field."""

    def __init__(self, earth: Field, broken: str = "") -> None:
        """With `broken` the daemon is not the real one, but one of `tests/crash/broken.py` that must be caught."""
        self.earth = earth
        self.program = (PYTHON, DYING) if broken else (LOCUM, "serve")
        earth.env["CRASH_BROKEN"] = broken
        self.lives: list[Life] = []

    @property
    def kills(self) -> int:
        """How many daemons were killed."""
        return sum(life.kill is not None for life in self.lives)

    def live(self, kill: Kill) -> None:
        """Start a daemon and keep it busy until it is killed. One that stops may be quicker, or have too little to stop:
        then once more.
        """
        for delay in (kill.delay, kill.delay / 3, 0.0):
            self._begin(kill)
            try:
                self._until_dead(kill, delay)
            finally:
                self._kill()
            if self._died(kill):
                return
            self.lives[-1].kill = None
        raise AssertionError(f"it always stops before it is killed: {kill}")

    def finish(self) -> list[str]:
        """Let everything end under a daemon that nobody kills, and stop that; what is wrong with its end."""
        earth = self.earth
        self._begin(None)
        until(earth.answers, "the last daemon answers", log=earth.log, alive=earth.alive)
        for chain in ("steered", "gone"):
            earth.client.post(f"/chains/{chain}/resume")
        end = time.monotonic() + DRAIN
        while (left := earth.open_tasks()) and time.monotonic() < end:
            for task in left:
                if task["chain"] == "doomed":
                    earth.cancel(task["id"])
            time.sleep(0.1)
        while earth.client.get("/status")["channels"][0]["waiting"] and not earth.only_gathers():
            assert time.monotonic() < end + DRAIN, "not every notice is sent"
            time.sleep(0.1)
        problems = [f"task {task['title']!r} does not end: it is {task['state']}" for task in left]
        while not (ended := earth.imports()) and time.monotonic() < end:
            time.sleep(0.1)
        if ended != "done":
            problems.append(f"the last import has ended as {ended!r}")
        while earth.counted_of_people() < sum(earth.people.spent.values()) and time.monotonic() < end:
            time.sleep(0.1)
        problems += [f"audit: {problem}" for problem in earth.client.get("/audit")["problems"]]
        if (code := earth.stop()) != 0:
            problems.append(f"the last daemon ended with code {code}")
        self._take_stock()
        return problems

    def clear(self) -> None:
        """Leave no process behind, whatever has happened."""
        self._kill()
        self.earth.sink.close()
        assert self.earth.process is not None
        self.earth.process.wait(30)
        with Ledger(self.earth.state) as ledger:
            runs = {*ledger.column("SELECT id FROM run"), *self.earth.account.tiers}
        for pid in {pid for run in runs for pid in marked(run)}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _begin(self, kill: Kill | None) -> None:
        earth = self.earth
        found = self.lives[-1].left if self.lives else set()
        self.lives.append(Life(kill, found, earth.log.stat().st_size if earth.log.exists() else 0))
        at_point = kill.point if kill else None
        earth.program = (PYTHON, DYING, at_point.name, str(kill.count)) if kill and at_point else self.program
        earth.start(wait=False)

    def _until_dead(self, kill: Kill, delay: float) -> None:
        earth, end = self.earth, time.monotonic() + BOUND
        if kill.before is not Lead.NOTHING or kill.stir == "stop":
            self._until_working(2)
            if kill.stir == "stop":
                self._signal(signal.SIGTERM)
            if kill.point is None:
                time.sleep(delay)
                self._kill()
        elif kill.point is None:
            if not kill.early:
                until(earth.answers, "it answers", BOUND, earth.log, earth.alive)
            threading.Timer(delay, self._kill).start()
        while earth.alive():
            assert time.monotonic() < end, f"it was never reached: {kill}\n{self._log()[-3000:]}"
            try:
                if kill.stir not in ("idle", "stop"):
                    earth.stir("work")
                    earth.stir(kill.stir)
            except UnreachableError:
                pass  # it is not there yet, or not any more
            time.sleep(PAUSE)

    def _until_working(self, least: int) -> None:
        """Wait until so many agents are at work for sure."""
        earth, end = self.earth, time.monotonic() + BOUND
        while earth.alive():
            assert time.monotonic() < end, f"{least} agents never worked at a time\n{self._log()[-3000:]}"
            try:
                earth.stir("work")
                spent = earth.account.read().entries
                running = [each for each in earth.open_tasks() if each["state"] == "running"]
                steady = [spent[each["id"]] for each in running if each["chain"] == "default"]
                if sum(AT_WORK[0] <= entries <= AT_WORK[1] for entries in steady) >= least:
                    return
            except UnreachableError:
                pass
            time.sleep(PAUSE)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        assert self.earth.process is not None
        self.earth.process.send_signal(number)

    def _died(self, kill: Kill) -> bool:
        """Take stock; whether it was killed, and did not stop before."""
        earth = self.earth
        assert earth.process is not None
        code = earth.process.wait(30)
        stopped = code == 0 and kill.stir == "stop"
        assert stopped or code == -signal.SIGKILL, f"{kill}: it ended with code {code}\n{self._log()[-3000:]}"
        self._take_stock()
        if kill.before is Lead.ENDED:
            folders = [earth.state / "runs" / run for run in self.lives[-1].left]
            until(lambda: any((folder / "exit").exists() for folder in folders), "an agent ends unseen")
            time.sleep(0.1)  # its wrapper ends an instant later
        return not stopped

    def _take_stock(self) -> None:
        life = self.lives[-1]
        kinds = {"True": "alive", "False": "ended", "": "never started"}
        life.told = [(run, kinds[alive]) for _, alive, run in _TOLD.findall(self._log())]
        with Ledger(self.earth.state) as ledger:
            life.left = set(ledger.column("SELECT id FROM run WHERE state = 'running'"))

    def _log(self) -> str:
        """What the daemon of this life has logged."""
        with self.earth.log.open("rb") as log:
            log.seek(self.lives[-1].log_at)
            return log.read().decode("utf-8", "replace")
