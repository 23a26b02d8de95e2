"""What a window has used: asked of a ledger with very many entries, beside a small one."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import anyio

from bench import old_ledger
from bench.old_ledger import CHAINS, DAY, HOUR, Past, audited, build, plan
from bench.rounds import TIMES, median, short, told
from bench.subject import Found, Limit, Subject
from locum.policy.usage import Tokens
from locum.store.ledger import Ledger
from locum.store.queries import migrations
from locum.store.worker import InlineWorker

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "bench"
END = 20_774 * DAY + 13 * HOUR + 37 * 60_000
"""A Wednesday, 13:37: well inside a week, and inside an hour."""
ROOM = 1 << 30
"""Bytes of disk that are left alone."""
BYTES_AN_ENTRY = 700
"""What building a ledger takes at its highest, more or less."""
WARM_UP = 10

Times = dict[str, dict[str, list[float]]]
"""By scope, then by ledger: milliseconds, round by round."""


def measure(
    folder: Path,
    many: int = 10_000_000,
    few: int = 10_000,
    recent: int = 8_000,
    rounds: int = 200,
    shelf: Path | None = CACHE,
) -> Found:
    """Ask both the same, in turn. The large ledger is kept on the `shelf` for the next time."""
    shelf = shelf or folder
    many = max(2 * few, min(many, (shutil.disk_usage(folder).free - ROOM) // BYTES_AN_ENTRY))
    large, small = _kept(shelf, Past(many, recent, 365 * DAY, END)), folder / "small.db"
    build(small, Past(few, recent, 14 * DAY, END))
    assert audited(small, END) == (few, ())
    times, sums = anyio.run(_ask, {"many": large, "few": small}, rounds, backend_options={"use_uvloop": True})
    for scope, (of_many, of_few) in sums.items():
        assert of_many, f"{scope}: it has used something"
        assert of_few, f"{scope}: it has used something"
        assert of_many == of_few or "week" in scope, f"{scope}: the last hours are the same in both"
    ratios = {scope: median(each["many"]) / median(each["few"]) for scope, each in times.items()}
    details = [
        (
            f"{scope}: {many:,} beside {few:,} entries",
            f"{short(ratios[scope])} {TIMES} ({_us(each['many'])} beside {_us(each['few'])})",
        )
        for scope, each in times.items()
    ]
    size = f"{large.stat().st_size / 1e9:.1f} GB beside {small.stat().st_size / 1e6:.1f} MB"
    return Found((max(ratios.values()),), (*details, ("the two files", size)))


def _us(milliseconds: list[float]) -> str:
    return told([each * 1000 for each in milliseconds], "µs")


async def _ask(files: dict[str, Path], rounds: int) -> tuple[Times, dict[str, tuple[Tokens, Tokens]]]:
    """The time of every question, and what was answered."""
    ledgers = {name: await Ledger.open(path, plan(), END, InlineWorker()) for name, path in files.items()}
    scopes = [scope for chain in CHAINS.values() for scope in (f"chain:{chain.name}", f"tier:{chain.tiers[0].name}")]
    times: Times = {scope: {name: [] for name in ledgers} for scope in scopes}
    try:
        for number in range(WARM_UP + rounds):
            for scope in scopes:
                for name in sorted(ledgers, reverse=bool(number % 2)):
                    began = time.perf_counter_ns()
                    await ledgers[name].usage(scope, END)
                    taken = (time.perf_counter_ns() - began) / 1e6
                    if number >= WARM_UP:
                        times[scope][name].append(taken)
        answers = {
            scope: ((await ledgers["many"].usage(scope, END)).totals, (await ledgers["few"].usage(scope, END)).totals)
            for scope in scopes
        }
    finally:
        for ledger in ledgers.values():
            await ledger.close()
    return times, answers


def _kept(shelf: Path, past: Past) -> Path:
    """The large ledger, built once and kept for as long as what it is built from stays the same."""
    made_by = "".join(
        [*migrations(), *(Path(old_ledger.__file__).with_suffix(end).read_text() for end in (".py", ".sql"))]
    )
    mark = hashlib.sha256(f"{past}{made_by}".encode()).hexdigest()[:12]
    shelf.mkdir(parents=True, exist_ok=True)
    path = shelf / f"ledger-{past.entries}-{mark}.db"
    if not path.exists():
        for old in shelf.glob(f"ledger-{past.entries}-*"):
            old.unlink()
        build(path, past)
    return path


SUBJECT = Subject(
    name="window",
    limits=(Limit("window query with 10 M entries beside 10 k entries, the slowest of six", 1.5, TIMES),),
    how=(
        "`Ledger.usage` of a chain and of a tier over a calendar week, the last 5 h and a 5 h block, asked of two "
        "ledgers in turn, in this process and without a thread between. Their last 8,000 entries (9½ h, after 6 h of "
        "silence) are the same row by row, so that both add up the same raw entries at the ragged ends of the last "
        "5 h and of the block; the rest is spread evenly over the year before (10 M), or over the two weeks before "
        "(10 k), so that both have a total for every hour of this week. The files are warm: the figures are of "
        "B-trees, not of the disk."
    ),
    measure=measure,
    tiny={"many": 3_000, "few": 1_000, "recent": 800, "rounds": 3, "shelf": None},
)
