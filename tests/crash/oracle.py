"""What must be true of a field once its daemon was killed so often: everything is compared with what was asked."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product

from locum.engine.process import marked
from tests.crash.books import TYPES, Ledger, prompts
from tests.crash.driver import Driver
from tests.crash.field import ENDS, SECRET, UNSENT, Field
from tests.crash.people import TIER

HANDOVER = "[hand-over note from locum"
Figures = dict[str, int]


def examine(driver: Driver) -> tuple[list[str], Figures]:
    """Let all end, then say what is wrong, and how much there was."""
    problems = driver.finish()
    earth = driver.earth
    with Ledger(earth.state) as ledger:
        problems += [
            *tokens(earth, ledger),
            *tasks(earth, ledger),
            *attempts(earth, ledger),
            *agents(earth, ledger),
            *accounted(driver),
            *crossings(earth, ledger),
            *told_once(earth, ledger),
            *delivered(earth, ledger),
            *secrets(earth),
            *earth.missed,
        ]
        figures = _figures(driver, ledger)
    return problems, figures


def tokens(earth: Field, ledger: Ledger) -> Iterator[str]:
    """Every run has spent exactly what its agent issued, people what their sessions say; so have tiers, and the whole."""
    sums = ", ".join(f"SUM({kind})" for kind in TYPES)
    issued = earth.account.read().spent
    counted = {
        row[0]: Counter(dict(zip(TYPES, row[1:], strict=True)))
        for row in ledger.all(f"SELECT run, {sums} FROM entry WHERE run IS NOT NULL GROUP BY run")
    }
    yield from _compare("run", issued, counted)
    rows = ledger.all(f"SELECT COALESCE(tier, 'nobody'), {sums} FROM entry WHERE run IS NULL GROUP BY tier")
    people = {TIER: earth.people.spent, "nobody": earth.people.history}
    yield from _compare("people", people, {row[0]: Counter(dict(zip(TYPES, row[1:], strict=True))) for row in rows})
    by_tier: dict[str, Counter[str]] = {TIER: earth.people.spent}
    for run, spent in issued.items():
        by_tier.setdefault(earth.account.tiers[run], Counter()).update(spent)
    rows = ledger.all(f"SELECT substr(scope, 6), {sums} FROM bucket WHERE scope LIKE 'tier:%' GROUP BY scope")
    yield from _compare("tier", by_tier, {row[0]: Counter(dict(zip(TYPES, row[1:], strict=True))) for row in rows})
    total = sum((*issued.values(), *people.values()), Counter())
    rows = ledger.all(f"SELECT 'all', {sums} FROM bucket WHERE scope = 'total' GROUP BY scope")
    yield from _compare(
        "ledger", {"all": total}, {row[0]: Counter(dict(zip(TYPES, row[1:], strict=True))) for row in rows}
    )


def _compare(what: str, issued: Mapping[str, Counter[str]], counted: Mapping[str, Counter[str]]) -> Iterator[str]:
    for name in sorted({*issued, *counted}):
        was, found = issued.get(name, Counter()), counted.get(name, Counter())
        for kind in TYPES:
            if found[kind] != was[kind]:
                word = "lost" if found[kind] < was[kind] else "counted twice"
                yield f"{what} {name}: {abs(found[kind] - was[kind]):,} {kind} tokens {word} ({was[kind]:,} issued)"


def tasks(earth: Field, ledger: Ledger) -> Iterator[str]:
    """Every task that was acknowledged is there and has ended as it must; what was not is whole, or not there."""
    found: dict[str, tuple[str, str]] = {}
    for title, task, state, chain in ledger.all("SELECT title, id, state, chain FROM task"):
        if title in found:
            yield f"task {title!r} is there twice"
        found[title] = task, state
        if title not in earth.sent:
            yield f"task {title!r} was never submitted"
        elif earth.tasks.get(title, task) != task:
            yield f"task {title!r} was acknowledged under another id"
        if state != ENDS[chain][0]:
            yield f"task {title!r} is {state}, not {ENDS[chain][0]}"
    for title in earth.tasks:
        if title not in found:
            yield f"task {title!r} was acknowledged and is lost"


def attempts(earth: Field, ledger: Ledger) -> Iterator[str]:
    """Every task has gone the way its tiers' scripts send it, each attempt once; nothing is left open."""
    ways: dict[str, str] = {}
    numbers: dict[str, list[int]] = {}
    rows = ledger.all("SELECT task, number, tier, state, failure, id, ended_ms FROM run ORDER BY task, number")
    for task, number, tier, state, failure, run, ended in rows:
        numbers.setdefault(task, []).append(number)
        if state == "running" or ended is None:
            yield f"run {run} was never accounted for: it is {state}"
        if state in ("succeeded", "failed"):
            ways[task] = f"{ways.get(task, '')}{tier}:{failure or '-'} "
    for task, title, chain in ledger.all("SELECT id, title, chain FROM task"):
        if not re.fullmatch(ENDS[chain][1], ways.get(task, "")):
            yield f"task {title!r} went the wrong way: {ways.get(task, '')}"
        if numbers.get(task, []) != list(range(1, len(numbers.get(task, [])) + 1)):
            yield f"task {title!r} has the attempts {numbers[task]}"


def agents(earth: Field, ledger: Ledger) -> Iterator[str]:
    """Every agent that ever began belongs to a run, ran once, was asked the right thing, and is gone."""
    runs = {run: (task, state, tier) for run, task, state, tier in ledger.all("SELECT id, task, state, tier FROM run")}
    titles = dict(ledger.all("SELECT id, title FROM task"))
    began: Counter[str] = Counter()
    for tier, run, task, prompt in prompts(earth.stage):
        began[run] += 1
        if runs.get(run, ("", "", ""))[::2] != (task, tier):
            yield f"an agent of {tier} ran for {task} as {run}, of which the ledger knows nothing"
        elif not prompt.endswith(f"do {titles[task]}."):
            yield f"run {run} of {titles[task]!r} was asked something else: {prompt[-200:]!r}"
    handed = {run for _, run, _, prompt in prompts(earth.stage) if prompt.startswith(HANDOVER)}
    after = ledger.column(
        "SELECT id FROM run WHERE EXISTS (SELECT 1 FROM run AS other WHERE other.task = run.task"
        " AND other.number < run.number AND other.state IN ('failed', 'stopped'))"
    )
    for run in handed ^ (set(after) & set(began)):
        yield f"run {run} was handed over {'without' if run in after else 'with'} a note"
    for run, (_, state, _) in runs.items():
        expected = {"lost": (0,), "stopped": (0, 1)}.get(state, (1,))
        if began[run] not in expected:
            yield f"run {run} is {state}, and its agent began {began[run]} times"
    for folder in (earth.state / "runs").iterdir():
        if folder.name not in runs and (folder / "pid").exists():
            yield f"a process ran as {folder.name}, of which the ledger knows nothing"
    for run in {*runs, *began}:
        for pid in marked(run):
            yield f"process {pid} of run {run} is left"
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def accounted(driver: Driver) -> Iterator[str]:
    """Every run that a killed daemon left open was taken account of by the next one that lived long enough, once."""
    for life in driver.lives:
        told = Counter(run for run, _ in life.told)
        for run in life.found:
            if told[run] != 1 and not (told[run] == 0 and run in life.left):
                yield f"run {run} was left open by a killed daemon and taken account of {told[run]} times by the next"
        for run in told.keys() - life.found:
            yield f"run {run} was taken account of and had not been left open"


def crossings(earth: Field, ledger: Ledger) -> Iterator[str]:
    """Every crossing of a budget is on record once and told once; each limit that was raised had been crossed."""
    notices = [
        json.loads(data) for data in ledger.column("SELECT data FROM notice WHERE kind = 'token_threshold_crossed'")
    ]
    told = Counter((each["budget"], each["limit"]) for each in notices if each["threshold"] == 100)
    fired = Counter(ledger.all("SELECT budget, limit_tokens FROM fired"))
    for each in told.keys() | fired.keys():
        if told[each] != fired[each]:
            yield f"{each[0]} has crossed {each[1]:,} tokens {fired[each]} times and was told {told[each]} times"
    [used] = ledger.column(
        "SELECT COALESCE(SUM(input + output + cache_read + cache_write), 0) FROM entry WHERE chain = 'budget'"
    )
    reached = Counter((each["limit"], each["threshold"]) for each in notices if each["budget"] == "chain:budget")
    for limit, at in product(earth.limits, (80, 90, 100)):
        expected = int(used * 100 >= limit * at)
        if reached[limit, at] != expected:
            yield f"{at} % of the budget of {limit:,} tokens were told {reached[limit, at]} times, not {expected}"
    once = ("budget", "limit", "threshold", "window_start_ms")
    twice = [
        key
        for key, count in Counter(tuple(each[name] for name in once) for each in notices).items()
        if count > 1 and key[0] == "chain:budget"
    ]
    yield from (f"{key} was told twice" for key in twice)


def told_once(earth: Field, ledger: Ledger) -> Iterator[str]:
    """What was acknowledged stands on record once; what was not, at most once."""
    rows = ledger.column("SELECT reason FROM event WHERE kind IN ('bumped', 'extended') AND failure = 'operator'")
    yield from _at_most_once("bump", Counter(rows), earth.hands)
    texts = ledger.column("SELECT message FROM notice WHERE kind = 'config_rejected'")
    found = Counter({wrong: sum(wrong in text for text in texts) for wrong in earth.rejections})
    yield from _at_most_once("rejection", found, earth.rejections)
    failed = Counter(
        json.loads(data)["task"] for data in ledger.column("SELECT data FROM notice WHERE kind = 'task_failed'")
    )
    if failed != Counter(ledger.column("SELECT id FROM task WHERE state = 'failed'")):
        yield "not every failed task was told of exactly once"


def delivered(earth: Field, ledger: Ledger) -> Iterator[str]:
    """Every notice is sent or told in another's message; what was sent has come in, first of all in its order."""
    yield from (f"notice {row} ({kind}) is not sent: {state}" for row, kind, state in ledger.all(UNSENT))
    rows = dict(ledger.all("SELECT id, seq FROM notice"))
    sent = {
        name: until is None
        for name, until in ledger.all(
            "SELECT id, until_ms FROM delivery JOIN notice ON notice = seq WHERE state = 'sent'"
        )
    }
    came = list(dict.fromkeys(earth.sink.ids))
    yield from (f"{name} was never delivered" for name in sent.keys() - set(came))
    yield from (f"{name} came in, and is no notice" for name in set(came) - rows.keys())
    alone = [rows[name] for name in came if sent.get(name)]
    if alone != sorted(alone):
        yield "notices came in out of their order"


def _at_most_once(what: str, found: Counter[str], asked: Mapping[str, bool]) -> Iterator[str]:
    for name, acknowledged in asked.items():
        if found[name] > 1 or (acknowledged and not found[name]):
            yield f"{what} {name!r} is {found[name]} times on record ({acknowledged=})"


def secrets(earth: Field) -> Iterator[str]:
    """The key that an agent says is nowhere: in no output of a run, in no ledger, in no log."""
    files = [
        earth.log,
        *earth.state.glob("locum.db*"),
        *earth.state.glob("runs/*/out"),
        *earth.state.glob("runs/*/err"),
    ]
    yield from (f"a secret stands in {file}" for file in files if SECRET.encode() in file.read_bytes())


def _figures(driver: Driver, ledger: Ledger) -> Figures:
    """What there was, and how much of it is lost or there twice: counted apart from the problems."""
    found = [how for life in driver.lives for _, how in life.told]
    people = driver.earth.people
    issued = sum((*driver.earth.account.spent.values(), people.spent, people.history), Counter()).total()
    [counted] = ledger.column("SELECT COALESCE(SUM(input + output + cache_read + cache_write), 0) FROM entry")
    states = Counter(dict(ledger.all("SELECT state, COUNT(*) FROM task GROUP BY state")))
    known = set(ledger.column("SELECT id FROM task"))
    return {
        "kills": driver.kills,
        "at named points": sum(life.kill is not None and life.kill.point is not None for life in driver.lives),
        "tokens issued": issued,
        "tokens counted": counted,
        "of people's sessions": people.spent.total(),
        "of history": people.history.total(),
        "tasks": states.total(),
        "done": states["done"],
        "cancelled": states["cancelled"],
        "failed as they must": states["failed"],
        "lost": len(set(driver.earth.tasks.values()) - known),
        "runs": len(ledger.column("SELECT id FROM run")),
        "times a run was found alive": found.count("alive"),
        "found ended": found.count("ended"),
        "found never started": found.count("never started"),
        "messages came in": len(driver.earth.sink.posts),
        "notices": len(ledger.column("SELECT seq FROM notice")),
    }
