"""What the installed agent CLIs write today beside what is recorded of them: the same, or what is new and what is gone."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from locum.agents import lines
from locum.agents.known import MEASURED
from locum.agents.registry import AGENTS
from locum.agents.replay import CORPUS, Case, cases
from tests.acceptance import logins
from tests.acceptance.install_agents import AGENTS as INSTALLED
from tests.acceptance.install_agents import cache_folder, reported_version
from tests.acceptance.provider import Provider
from tests.corpus.record import CASES, record, recordable
from tests.corpus.shapes import shape_of

TOGETHER = 4
"""How many agents run at once: some of them only wait."""
MOST_SHOWN = 40
RESTS_ON = ("kind", "usage", "session")


@dataclass(frozen=True)
class Change:
    """What differs between a recording and a fresh run. `verdicts`: what a verdict rests on, and so breaks something.

    `new` and `gone` are shapes: events, keys, words and sentences, without the values of one run.
    """

    verdicts: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.verdicts or self.new or self.gone)


def change(before: Case, after: Case) -> Change:
    """What differs between two runs of one case: in what they mean, and in how they are written."""
    old, new = shapes(before), shapes(after)
    return Change(tuple(_verdicts(before, after)), tuple(sorted(new - old)), tuple(sorted(old - new)))


def shapes(case: Case) -> frozenset[str]:
    """What the run wrote, in shapes. Of a transcript only those rows count that its adapter looks at."""
    agent = AGENTS[case.agent]
    rows = case.text("transcript.jsonl").splitlines(keepends=True)
    told = b"".join(row for row in rows if not agent.tells or lines.holds(row, agent.tells))
    return shape_of("out", case.text("stdout")) | shape_of("err", case.text("stderr")) | shape_of("transcript", told)


def _verdicts(before: Case, after: Case) -> Iterator[str]:
    old, new = dict(before.expected), dict(after.expected)
    for each in (old, new):
        each["session"] = "told" if each["session"] else "not told"
        each["kind"] = each["kind"] or "success"
    yield from (f"{key}: {old[key]} → {new[key]}" for key in RESTS_ON if old[key] != new[key])
    if before.meta["exit"] != after.meta["exit"] and not (before.expected["stopped"] and after.expected["stopped"]):
        yield f"exit code: {before.meta['exit']} → {after.meta['exit']}"


def breaks(change: Change) -> bool:
    """Whether something changed that a verdict rests on. An exit code alone is only told: verdicts see past it."""
    return any(not verdict.startswith("exit code") for verdict in change.verdicts)


def told(name: str, found: Change | None) -> Iterator[str]:
    """One case for people."""
    if found is None:
        yield f"  {name:<10}  not recorded yet"
        return
    yield f"  {name:<10}  {'same' if not found else 'DIFFERS' if breaks(found) else 'looks different, means the same'}"
    yield from (f"      {verdict}" for verdict in found.verdicts)
    for word, each in (("new ", found.new), ("gone", found.gone)):
        yield from (f"      {word} {shape}" for shape in each[:MOST_SHOWN])
        if len(each) > MOST_SHOWN:
            yield f"      {word} … and {len(each) - MOST_SHOWN} more"


def refresh(agents: Sequence[str], names: Sequence[str], into: Path, corpus: Path = CORPUS) -> bool:
    """Record every agent in every case into `into`, and tell what changed; whether a verdict is still right of all."""
    recorded = {case.name: case for case in cases(corpus)}
    whole = True
    with Provider() as provider, ThreadPoolExecutor(TOGETHER) as pool:
        asked = [(agent, name) for agent in agents for name in names]
        jobs = {each: pool.submit(_recorded, *each, recorded, provider, into) for each in asked}
        for agent in agents:
            version = reported_version(Path(logins.program(agent)))
            as_measured = MEASURED[agent] in version
            print(f"{agent} {MEASURED[agent]}" if as_measured else f"{agent} {version!r}, not {MEASURED[agent]}")
            for name in names:
                found, hung = jobs[agent, name].result()
                whole = whole and not (found and breaks(found))
                print("\n".join(told(name, found)), flush=True)
                if hung:
                    print("      it hung when it was run first")
    return whole


def _recorded(
    agent: str, name: str, recorded: Mapping[str, Case], provider: Provider, into: Path
) -> tuple[Change | None, bool]:
    """What changed in one case (None: it is not recorded yet), and whether it hung at first.

    An agent that hangs where it did not is run once more: what it waits for may have nothing to do with what it writes.
    """
    fresh = record(agent, name, provider, into)
    before = recorded.get(fresh.name)
    hung = bool(before and fresh.expected["stopped"] and not before.expected["stopped"])
    if hung:
        fresh = record(agent, name, provider, into)
    return (change(before, fresh) if before else None), hung


def main(argv: Sequence[str] | None = None) -> int:
    """0: every verdict would be the same; 1: one would not; 2: it was asked for what is not there."""
    parser = argparse.ArgumentParser(prog="corpus-refresh", description=__doc__)
    parser.add_argument("agents", nargs="*", help="left out: all that are installed")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this case; repeatable")
    parser.add_argument("--into", type=Path, help="where the fresh recordings go, to be looked at and taken over")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="what to compare with; left out: what is shipped")
    asked = parser.parse_args(argv)
    known = list(recordable())
    if unknown := sorted(set(asked.agents) - set(known)):
        print(f"corpus-refresh: there is no {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    present = [name for name in known if INSTALLED[name].path(cache_folder()).exists()]
    agents = asked.agents or present
    if missing := sorted(set(agents or known) - set(present)):
        print(
            f"corpus-refresh: not installed: {', '.join(missing)}; run tests/acceptance/install_agents.py",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        whole = refresh(agents, asked.case or list(CASES), asked.into or Path(scratch), asked.corpus)
    if asked.into:
        print(f"recorded into {asked.into}: what is right there belongs into {CORPUS}")
    return 0 if whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
