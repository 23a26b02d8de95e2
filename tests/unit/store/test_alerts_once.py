"""Each threshold once in its window, whatever is written in which order: against a model that adds up every entry."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from locum.config.load import load_bytes
from locum.config.place import Place
from locum.policy.notice import NoticeKind
from locum.policy.task import Ending, Run, RunState
from locum.policy.transcript import Transcript
from locum.policy.usage import Payer, Tokens, Usage
from locum.store.bulk import Share
from tests.ledgers import DAY, HOUR, START, opened, task_of

PLACE = Place(Path("/etc/locum"), Path("/home/x"), "UTC")
CHAINS = {"default": ("a", "b"), "more": ("b", "c")}
RUNS = (("default", "a"), ("default", "b"), ("more", "b"), ("more", "c"), ("default", "a"))

resets = st.sampled_from(["day", "all", {"rolling": "5h"}, {"block": "3h"}])
limits = st.sampled_from([None, 10, 100, 101, 1_000])
percents = st.none() | st.lists(st.sampled_from([1, 33, 80, 90, 99, 100, 150]), max_size=4)
amounts = st.lists(st.sampled_from([1, 50, 120, 999]), max_size=3)
alerts = st.fixed_dictionaries({}, optional={"at_percent": percents, "at_tokens": amounts})
tiers = st.fixed_dictionaries(
    {"usage_threshold_tokens": limits}, optional={"usage_reset": st.sampled_from(["day", "all"]), "alerts": alerts}
)
chains = st.fixed_dictionaries(
    {"usage_threshold_tokens": limits, "usage_halt_tokens": limits, "usage_reset": resets, "alerts": alerts},
    optional={"count_tokens": st.sampled_from([{"input": True, "output": 0.333}, {"output": 2}])},
)
files = st.tuples(chains, chains, tiers, tiers, tiers)
counts = st.builds(Tokens, st.integers(0, 60), st.integers(0, 30), st.integers(0, 3))
seen = st.lists(
    st.tuples(st.integers(0, 7), counts, st.none() | st.integers(-30 * HOUR, 4 * HOUR)), min_size=1, max_size=4
)


def service_of(file) -> dict:
    """The service.json of what was drawn."""
    default, more, *own = file
    one = {
        name: {"name": name, "agent": "command", "command": ["x"], **each}
        for name, each in zip("abc", own, strict=True)
    }
    return {
        **default,
        "failover": {"tiers": [one["a"], one["b"]]},
        "chains": {"more": {**more, "tiers": ["b", one["c"]]}},
    }


def thresholds_of(file) -> list[tuple[str, str, int | None, str, int, object, dict]]:
    """Every threshold, read from the file by hand: (scope, owner, limit, unit, at, reset, weights)."""
    default, more, *own = file
    found = []
    for name, chain in (("default", default), ("more", more)):
        weights = chain.get("count_tokens") or dict.fromkeys(("input", "output", "cache_read", "cache_write"), 1)
        told = chain["alerts"].get("at_percent")
        told = [80, 90, 100] if told is None else told
        scope = f"chain:{name}"
        for owner, key in ((scope, "usage_threshold_tokens"), (f"halt:{name}", "usage_halt_tokens")):
            found += [
                (scope, owner, chain[key], "percent", at, chain["usage_reset"], weights)
                for at in set(told)
                if chain[key]
            ]
        found += [
            (scope, scope, None, "tokens", at, chain["usage_reset"], weights)
            for at in set(chain["alerts"].get("at_tokens", ()))
        ]
        for tier in {"default": "ab", "more": "c"}[name]:
            each, scope = own["abc".index(tier)], f"tier:{tier}"
            reset, mine = each.get("usage_reset", chain["usage_reset"]), each.get("alerts", {})
            at_percent = told if mine.get("at_percent") is None else mine["at_percent"]
            limit = each["usage_threshold_tokens"]
            found += [(scope, scope, limit, "percent", at, reset, weights) for at in set(at_percent) if limit]
            found += [(scope, scope, None, "tokens", at, reset, weights) for at in set(mine.get("at_tokens", ()))]
    return found


class Telling(RuleBasedStateMachine):
    """Writers, restarts, edits and imports, and a plain list of all that was spent beside the real ledger."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = START
        self.spent: dict[str, list[tuple[int, Tokens]]] = {}
        self.largest: dict[str, Tokens] = {}
        self.ended: set[int] = set()
        self.blocks: dict[str, list[int]] = {}
        self.told: set[tuple] = set()  # of windows with a beginning
        self.quiet: dict[tuple, int] = {}  # of rolling windows: when it was told
        self.expected: list[tuple] = []
        self.read = 0

    def call(self, function, *args):
        """Run one coroutine to its end."""
        return anyio.run(function, *args)

    @initialize(file=files)
    def begin(self, file):
        """Start every run once."""
        self.take(file)
        self.ledger = self.call(opened, Path(self.folder.name), self.plan, self.now)
        for number, (chain, tier) in enumerate(RUNS):
            self.call(self.ledger.submit, task_of(number, chain), b"")
            run = Run(
                f"run-{number}", f"task-{number:04}", 1, chain, self.plan.tiers[tier], "/", RunState.RUNNING, START
            )
            self.call(self.ledger.start_run, run, START)

    def teardown(self):
        """Leave nothing behind."""
        self.call(self.ledger.close)
        self.folder.cleanup()

    @rule(hours=st.sampled_from([0, 1, 2, 5, 20]), minutes=st.integers(0, 59))
    def wait(self, hours, minutes):
        """Time passes."""
        self.now += hours * HOUR + minutes * 60_000

    @rule(number=st.integers(0, len(RUNS) - 1), seen=seen)
    def write(self, number, seen):
        """One of the writers tells usage, some of it told before, some of it late."""
        if number in self.ended:
            return
        chain, tier = RUNS[number]
        usages = [
            Usage(f"m{key}", tokens, at_ms=None if offset is None else self.now + offset)
            for key, tokens, offset in seen
        ]
        self.rest()
        if self.count(usages, START, chain, tier):
            self.reach([f"chain:{chain}", f"tier:{tier}"])
        self.call(self.ledger.record, f"run-{number}", usages, self.now)

    @rule(number=st.integers(0, len(RUNS) - 1), total=counts)
    def correct(self, number, total):
        """A run ends with a total that says something else than its parts: more or less was spent."""
        if number in self.ended:
            return
        self.ended.add(number)
        self.rest()
        chain, tier = RUNS[number]
        difference = total - self.call(self.ledger.run_tokens, f"run-{number}")
        if difference:
            self.add(chain, tier, self.now, difference)
            self.reach([f"chain:{chain}", f"tier:{tier}"])
        self.call(self.ledger.end_run, f"run-{number}", Ending(RunState.SUCCEEDED, total=total), None, self.now)

    @rule(place=st.sampled_from(RUNS), seen=seen, parts=st.integers(1, 2))
    def bring_in(self, place, seen, parts):
        """History is imported, in parts and in no order."""
        chain, tier = place
        payer = Payer("command", chain, tier, f"command:{tier}")
        usages = [
            Usage(f"h{key}", tokens, at_ms=self.now if offset is None else self.now + offset)
            for key, tokens, offset in seen
        ]
        for part in range(parts):
            self.rest()
            mine = usages[part::parts]
            self.count(mine, 0, chain, tier, traced=False)
            found = Transcript(
                f"/t/{part}", "command", 0, 1, 1, 1, 1, 1, "", skipping=False, session="", message="", model=None
            )
            self.call(self.ledger.record_history, [Share(found, payer, mine)], self.now)
        self.rest()
        self.trace_anew()
        self.reach([f"chain:{chain}", f"tier:{tier}"])
        self.call(self.ledger.look_back, [payer], self.now)

    @rule()
    def restart(self):
        """The daemon is gone and another one takes over."""
        self.call(self.ledger.close)
        self.ledger = self.call(opened, Path(self.folder.name), self.plan, self.now)
        self.look()

    @rule(file=files)
    def edit(self, file):
        """service.json is another one."""
        self.take(file)
        self.call(self.ledger.replan, self.plan, self.now)
        self.look()

    @rule(part=st.integers(0, 4), factor=st.sampled_from([1, 2]))
    def raise_or_lower(self, part, factor):
        """One limit is doubled, or is what it was."""
        file = list(self.file)
        limit = file[part]["usage_threshold_tokens"]
        file[part] = {**file[part], "usage_threshold_tokens": limit and limit * factor // (3 - factor)}
        self.edit(tuple(file))

    @rule()
    def audit(self):
        """Every crossing on record fits the entries that there were."""
        assert self.call(self.ledger.audit).problems == ()

    @invariant()
    def what_is_told_is_what_was_reached(self):
        """Exactly the notices of the model, no more and no fewer, of one chain or tier the lowest first."""
        if not hasattr(self, "ledger"):
            return
        found = self.call(self.ledger.notices, self.read, 10_000)
        self.read = found[-1][0] if found else self.read
        told = [notice.data for _, notice in found if notice.kind is NoticeKind.TOKEN_THRESHOLD_CROSSED]
        names = [
            (
                each["budget"],
                each["limit"] if each["threshold_unit"] == "percent" else None,
                each["threshold_unit"],
                each["threshold"],
                each["used"],
            )
            for each in told
        ]
        assert sorted(names, key=str) == sorted(self.expected, key=str)
        for budget in {each["budget"] for each in told}:
            needed = [each["threshold_tokens"] for each in told if each["budget"] == budget]
            assert needed == sorted(needed)
        self.expected = []

    # the model

    def take(self, file):
        """Another configuration is in force."""
        self.file = file
        self.plan = load_bytes(Path("service.json"), json.dumps(service_of(file)).encode(), PLACE).plan
        self.thresholds = thresholds_of(file)

    def look(self):
        """What a start and an edit do: everything is looked at."""
        for scope, *_, reset, _weights in self.thresholds:
            if reset == {"block": "3h"} and not self.blocks.get(scope):
                self.trace(scope)
        self.rest()
        self.reach({each[0] for each in self.thresholds})

    def count(self, usages, since, chain, tier, *, traced=True):
        """Add what is new in usages; whether there was anything."""
        added = False
        for at_ms, usage in sorted(
            ((max(since, min(each.at_ms or self.now, self.now)), each) for each in usages), key=lambda pair: pair[0]
        ):
            before = self.largest.get(usage.key, Tokens())
            largest = before.largest(usage.tokens)
            if largest != before:
                self.largest[usage.key] = largest
                self.add(chain, tier, at_ms, largest - before, traced=traced)
                added = True
        return added

    def add(self, chain, tier, at_ms, tokens, *, traced=True):
        """One entry."""
        for scope in (f"chain:{chain}", f"tier:{tier}"):
            self.spent.setdefault(scope, []).append((at_ms, tokens))
            blocks = self.blocks.setdefault(scope, [])
            looked_at = (
                any(each[0] == scope and each[5] == {"block": "3h"} for each in self.thresholds)
                or any(
                    scope == f"chain:{name}" and self.file[number]["usage_reset"] == {"block": "3h"}
                    for number, name in enumerate(CHAINS)
                )
                or self.block_of(scope)
            )
            if traced and looked_at and tokens.total > 0 and (not blocks or at_ms >= blocks[-1] + 3 * HOUR):
                blocks.append(at_ms)

    def block_of(self, scope):
        """Whether a tier's usage is shown by blocks."""
        kind, name = scope.split(":")
        if kind == "chain":
            return False
        own = self.file[2 + "abc".index(name)]
        return own.get("usage_reset", self.file[1 if name == "c" else 0]["usage_reset"]) == {"block": "3h"}

    def trace(self, scope):
        """Find where blocks began from all that was spent."""
        self.blocks[scope] = blocks = []
        for at_ms, tokens in sorted(self.spent.get(scope, ()), key=lambda pair: pair[0]):
            if tokens.total > 0 and (not blocks or at_ms >= blocks[-1] + 3 * HOUR):
                blocks.append(at_ms)

    def trace_anew(self):
        """After an import blocks began elsewhere; what was told in the one that is open is not told again."""
        for scope in [*self.blocks]:
            if not (
                self.block_of(scope)
                or any(
                    scope == f"chain:{name}" and self.file[number]["usage_reset"] == {"block": "3h"}
                    for number, name in enumerate(CHAINS)
                )
            ):
                continue
            before = self.window(scope, {"block": "3h"})
            self.trace(scope)
            after = self.window(scope, {"block": "3h"})
            if before and after:
                mine = {key for key in self.told if key[0] == scope and key[-1] == before}
                self.told |= {(*key[:-1], after) for key in mine}

    def window(self, scope, reset):
        """The first moment that counts and the first that does not any more; None: no block is open."""
        if reset == "all":
            return (0, None)
        if reset == "day":
            return (self.now // DAY * DAY, self.now // DAY * DAY + DAY)
        if reset == {"rolling": "5h"}:
            return (self.now - 5 * HOUR + 1, None)
        begun = [start for start in self.blocks.get(scope, ()) if start <= self.now]
        return (begun[-1], begun[-1] + 3 * HOUR) if begun and self.now < begun[-1] + 3 * HOUR else None

    def used(self, scope, reset, weights):
        """What was spent in the window, weighed, exactly."""
        window = self.window(scope, reset)
        if window is None:
            return Fraction(0)
        start, end = window
        total = Fraction(0)
        for at_ms, tokens in self.spent.get(scope, ()):
            if at_ms >= start and (end is None or at_ms < end):
                total += sum(
                    Fraction(str(float(weights.get(name, 0)))) * getattr(tokens, name)
                    for name in ("input", "output", "cache_read", "cache_write")
                )
        return total

    def reached(self, threshold):
        """Whether so much was spent, and how much it is in whole tokens."""
        scope, _, limit, unit, at, reset, weights = threshold
        used = self.used(scope, reset, weights)
        needed = Fraction(limit * at, 100) if unit == "percent" else Fraction(at)
        return used >= needed, used.numerator // used.denominator

    def rest(self):
        """Rolling windows: told a whole window ago and below now, so it may be told again."""
        known = {
            (scope, owner, limit, unit, at): each
            for each in self.thresholds
            for scope, owner, limit, unit, at, *_ in [each]
        }
        for key, told_at in list(self.quiet.items()):
            threshold = known.get(key)
            rolls = threshold is not None and threshold[5] == {"rolling": "5h"}
            if told_at + 5 * HOUR <= self.now and not (rolls and self.reached(threshold)[0]):
                del self.quiet[key]

    def reach(self, scopes):
        """What has to be told now."""
        for threshold in self.thresholds:
            scope, owner, limit, unit, at, reset, _ = threshold
            over, whole = self.reached(threshold)
            if scope not in scopes or not over:
                continue
            key = (scope, owner, limit, unit, at)
            if reset == {"rolling": "5h"}:
                if key in self.quiet:
                    continue
                self.quiet[key] = self.now
            else:
                once = (*key, self.window(scope, reset))
                if once in self.told:
                    continue
                self.told.add(once)
            self.expected.append((owner, limit, unit, at, whole))


TestTelling = Telling.TestCase
TestTelling.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestTelling.__doc__ = "N writers, restarts, edits, corrections and imports: each threshold exactly once in its window."
