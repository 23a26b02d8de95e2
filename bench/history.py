"""The first import of a home's history, beside another program that adds up the same transcripts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import msgspec

from bench import transcripts
from bench.rounds import TIMES, interleaved, median, short, told
from bench.subject import Found, Limit, Subject
from bench.transcripts import Tree, build
from locum.policy.usage import Tokens
from tests.harness import LOCUM, Daemon

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "bench"
PEER = "ccusage@20.0.24"
SAMPLE = 0.02
"""Seconds between two looks at what is in memory."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The program beside which it is measured: what it is called, and how it is started for a home."""

    name: str
    argv: tuple[str, ...]

    def totals(self, home: Path) -> Tokens:
        """What it says of a home."""
        environ = {**os.environ, "CLAUDE_CONFIG_DIR": str(home), "HOME": str(home / "nobody")}
        done = subprocess.run(self.argv, env=environ, stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout)["totals"]
        names = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheCreationTokens")
        return Tokens(*(found[name] for name in names))


def measure(
    folder: Path,
    size: int = 1_000_000_000,
    files: int = 617,
    rounds: int = 5,
    warm_up: int = 1,
    shelf: Path | None = CACHE,
) -> Found:
    """Import and add up in turn; in a round of its own, which is not timed, look at what each takes in memory."""
    shelf = shelf or folder
    home, truth = _kept(shelf, Tree(size, files))
    peer = _peer(shelf) if shelf is CACHE else _plain(home)
    imports = _Imports(folder, home, truth)

    def beside() -> float:
        began = time.perf_counter()
        assert peer.totals(home) == truth, "both read the same"
        return time.perf_counter() - began

    times = interleaved({"locum": imports.once, peer.name: beside}, rounds, warm_up)
    memory = {"locum": imports.memory(), peer.name: _memory(lambda _: beside(), os.getpid())}
    figures = {name: median(each) for name, each in times.items()}
    return Found(
        (figures["locum"] / figures[peer.name], memory["locum"][0] / memory[peer.name][0]),
        (
            *(
                (f"{name}: {size / 1e6:,.0f} MB in {files:,} transcripts", told(each, "s"))
                for name, each in times.items()
            ),
            *(
                (f"{name}: most memory at once", f"{short(pss)} MB (each process by itself, added up: {short(rss)} MB)")
                for name, (pss, rss) in memory.items()
            ),
            ("tokens counted by both", f"{sum(truth):,}"),
        ),
    )


@dataclass
class _Imports:
    """First imports, each by a daemon that has just been started on a new ledger."""

    folder: Path
    home: Path
    truth: Tokens
    made: int = 0

    def once(self) -> float:
        """Seconds from the start of `locum import` to its end."""
        with self._daemon() as daemon:
            began = time.perf_counter()
            self._import(daemon)
            return time.perf_counter() - began

    def memory(self) -> tuple[float, float]:
        """As `_memory`: of the daemon, the processes that read, and the command."""
        with self._daemon() as daemon:
            assert daemon.process is not None, "it runs"
            return _memory(lambda _: self._import(daemon), os.getpid(), daemon.process.pid)

    def _import(self, daemon: Daemon) -> None:
        argv = (LOCUM, "import", "--json")
        done = subprocess.run(argv, env=daemon.env, capture_output=True, text=True, check=True)
        ended = json.loads(done.stdout.splitlines()[-1])
        assert ended["state"] == "done", done.stderr
        counted = ended["counted"]
        assert Tokens(*(counted[name] for name in ("input", "output", "cache_read", "cache_write"))) == self.truth

    @contextmanager
    def _daemon(self) -> Iterator[Daemon]:
        self.made += 1
        tiers = [{"name": "a", "agent": "claude-code", "home": str(self.home)}]
        daemon = Daemon(self.folder / f"daemon-{self.made}", {"failover": {"tiers": tiers}})
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()
            shutil.rmtree(daemon.state)


def _memory(work: Callable[[None], object], *above: int) -> tuple[float, float]:
    """The most that the processes `above` (but this one) and all below them took at once, in MB: shared pages divided
    among those that share them, and each process by itself.
    """
    most, done = [0.0, 0.0], Event()

    def look() -> None:
        while not done.wait(SAMPLE):
            taken = [_taken(pid) for pid in _below(above) if pid != os.getpid()]
            most[:] = [
                max(before, sum(now) / 1000) for before, now in zip(most, zip(*taken, strict=True), strict=False)
            ]

    watcher = Thread(target=look)
    watcher.start()
    try:
        work(None)
    finally:
        done.set()
        watcher.join()
    return most[0], most[1]


def _below(above: tuple[int, ...]) -> set[int]:
    found, todo = set[int](), list(above)
    while todo:
        pid = todo.pop()
        found.add(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += [int(each) for each in (task / "children").read_text().split() if int(each) not in found]
        except OSError:
            continue  # it has ended
    return found


def _taken(pid: int) -> tuple[int, int]:
    """What one process takes, in thousands of bytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines[1:])}
    return found["Pss"], found["Rss"]


def _kept(shelf: Path, tree: Tree) -> tuple[Path, Tokens]:
    """The transcripts, made once and kept for as long as what they are made from stays the same; and what is true."""
    made_by = Path(transcripts.__file__).read_text()
    mark = hashlib.sha256(f"{tree}{made_by}".encode()).hexdigest()[:12]
    home = shelf / f"transcripts-{tree.size}-{mark}"
    truth = home / "truth.json"
    if not truth.exists():
        for old in shelf.glob(f"transcripts-{tree.size}-*"):
            shutil.rmtree(old)
        found = build(home, tree).total
        truth.write_text(json.dumps(msgspec.structs.asdict(found)))
    return home, Tokens(**json.loads(truth.read_text()))


def _peer(shelf: Path) -> Peer:
    """The peer's own program, without the script around it; fetched once."""
    folder = shelf / PEER
    found = next(folder.glob("node_modules/@ccusage/*/bin/ccusage"), None)
    if found is None:
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, PEER], check=True)
        found = next(folder.glob("node_modules/@ccusage/*/bin/ccusage"))
    found.chmod(0o755)
    return Peer(PEER, (str(found), "daily", "--offline", "--json"))


def _plain(home: Path) -> Peer:
    """In its place where nothing is fetched: the simplest program that adds up the same."""
    script = home / "plain.py"
    script.write_text(_PLAIN)
    return Peer("a few lines of Python", ("python3", str(script), str(home)))


_PLAIN = """
import json, pathlib, sys
types = "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"
largest = {}
for path in pathlib.Path(sys.argv[1]).rglob("*.jsonl"):
    for line in path.open(encoding="utf-8"):
        row = json.loads(line)
        if row.get("type") == "assistant":
            message = row["message"]
            before = largest.get(message["id"], (0, 0, 0, 0))
            largest[message["id"]] = tuple(max(a, message["usage"][b]) for a, b in zip(before, types))
sums = [sum(each) for each in zip(*largest.values())]
names = "inputTokens", "outputTokens", "cacheReadTokens", "cacheCreationTokens"
print(json.dumps({"totals": dict(zip(names, sums))}))
"""

SUBJECT = Subject(
    name="history",
    limits=(
        Limit(f"first import of 1 GB of Claude Code transcripts beside {PEER}, p50", 0.8, TIMES),
        Limit("its memory beside the same", 0.6, TIMES),
    ),
    how=(
        "1 GB in 617 made-up transcripts of Claude Code over 90 days: projects, subagents, forks that repeat old rows, "
        "answers of several rows whose counts grow, long rows of tools between them. `locum import` (the whole "
        "command, to a daemon that has just been started on a new ledger, everything durable when it ends) and the "
        f"native program of {PEER} (`daily --offline --json`, without the script around it) read them in turn; that "
        "both have the totals that the maker of the files knows is checked each time. The files are warm. Memory is "
        "the most that all processes took at once (daemon, readers and command), shared pages divided among those that "
        "share them, looked at every 20 ms in a round that is not timed."
    ),
    measure=measure,
    known_miss=(
        "the import keeps what it adds up: 150,000 entries with four indexes, their counts and sums, synced, about "
        "200 MB written to the disk. Together its processes took 5.5 s of processor time, about half of it for "
        "reading, where the other took 3.2 s on one core. Two free cores would share that; when this was measured "
        "others used 1.6 of the two, so what it would be on a quiet machine is not known."
    ),
    tiny={"size": 400_000, "files": 6, "rounds": 1, "warm_up": 0, "shelf": None},
)
