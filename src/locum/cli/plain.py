"""The daemon's answers as plain lines of text, for pipes and small screens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from locum.cli.client import Json
from locum.cli.terminal import clean
from locum.words import DELIBERATE, cause, count, due, from_iso, moment, span


def _released(window: str) -> str:
    """How long a released limit holds nothing."""
    return "until usage falls below it" if window == "rolling" else "in this window"


def now_ms() -> int:
    """The wall clock, for saying how far away a moment is."""
    from locum.clock import SystemClock

    return SystemClock().now_ms()


def held(hold: Json | None) -> str:
    """A hold in words: `usage_limit until 05:00 (in 2 h 10 min): the reason`; empty for none."""
    if hold is None:
        return ""
    until_ms = from_iso(hold["until"])
    until = "until released" if until_ms is None else f"until {due(until_ms, now_ms())}"
    by = {"operator": "by the operator,", "unknown": "unknown failure"}.get(hold["kind"], hold["kind"])
    return f"{by} {until}" + (f": {clean(hold['reason'])}" if hold["reason"] else "")


def spent(usage: Json) -> str:
    """Used tokens in words: `3,400,000 of 5,000,000 tokens (68 %) this week, until Mon 00:00 (in 2 d)`."""
    total, limit, halt = usage["totals"]["total"], usage["threshold_tokens"], usage.get("halt_tokens")
    used = usage.get("used_tokens", total) if limit or halt else total
    text = f"{used:,} of {limit:,} tokens" if limit else f"{used:,} tokens"
    if used != total:
        text += ", weighed by count_tokens,"
    if usage["percent"] is not None:
        text += f" ({usage['percent']:g} %)"
    window, end_ms = usage["window"], from_iso(usage["window"]["end"])
    text += {"all": " in all", "rolling": " in the rolling window", "block": " in this block"}.get(
        window["kind"], f" this {window['kind']}"
    )
    if end_ms is not None:
        text += f", until {due(end_ms, now_ms())}"
    if usage.get("threshold_effect") == "none":
        text += "; reaching it holds nothing"
    if usage.get("threshold_effect") == "released":
        text += f"; released: it holds nothing more {_released(window['kind'])}"
    if halt:
        text += f"; every tier is held at {halt:,}"
    if usage.get("halt_effect") == "released":
        text += f" (released: not any more {_released(window['kind'])})"
    if unknown := usage.get("unknown_usage_runs"):
        text += f"; what {count(unknown, 'run')} used is unknown and not in it"
    return text


def work(chain: Json) -> str:
    """What a chain is doing: `active tier codex, 2 running, 1 queued`."""
    where = f"active tier {chain['active_tier']}" if chain["active_tier"] else "no tier available"
    state = ", paused" if chain["paused"] else ""
    return f"{where}{state}, {chain['running']} running, {chain['queued']} queued"


def failure(chain: Json) -> str:
    """The last failure of a chain in words, or why it was last switched on purpose; empty for none."""
    at_ms = from_iso(chain["last_failure_at"])
    if at_ms is None:
        return ""
    kind, tier = chain["last_failure_kind"], chain.get("last_failure_tier")
    if kind in DELIBERATE:
        text = f"last switch: by {cause(kind)}" + (f", off {tier}" if tier else "")
    else:
        text = f"last failure: {kind}" + (f" on {tier}" if tier else "")
    text += f", {moment(at_ms, now_ms())} ({span(now_ms() - at_ms)} ago)"
    return f"{text}: {clean(chain['last_failure_reason'])}" if chain["last_failure_reason"] else text


def vendor_lines(status: Json) -> Iterator[str]:
    """What vendors last said of their windows, beside our own count; an account they said nothing of is left out."""
    for name, account in (status.get("accounts") or {}).items():
        for window in account["windows"]:
            yield f"{clean(name)}: {_window(window)}"


def _window(window: Json) -> str:
    """One reading in words: `five_hour 91 % used, resets 14:00 (in 2 h); said 3 min ago; 1,200,000 counted here`."""
    what = clean(f"{window['name']} {window['model']}" if window["model"] else window["name"])
    ago, resets_ms = f"{span(now_ms() - (from_iso(window['read']) or 0))} ago", from_iso(window["resets"])
    if window["freshness"] == "over":
        return f"{what} has begun anew since the vendor last spoke of it ({ago}): how full it is is not known"
    used = "how full it is was not told" if window["used_percent"] is None else f"{window['used_percent']:g} % used"
    text = f"{what}: {used}" + (f" ({clean(window['status'])})" if window["status"] else "")
    text += "" if resets_ms is None else f", resets {due(resets_ms, now_ms())}"
    text += f"; the vendor said so {ago}" + (": stale" if window["freshness"] == "stale" else "")
    return text + (f"; {window['counted']['total']:,} tokens counted here" if window["counted"] else "")


def config_lines(status: Json) -> Iterator[str]:
    """What stands in the way of all chains, which file is in use, and what is wrong with a newer edit of it."""
    if status.get("low_disk"):
        yield "the disk is almost full (limits.min_free): nothing new is started"
    yield f"config: {status['config']['path']}"
    if problem := (status.get("http") or {}).get("problem"):
        yield f"not reached over TCP: {clean(problem)}"
    for problem in status["config"]["problems"]:
        yield f"refused edit: {problem}"
    yield from source_troubles(status)
    yield from channel_troubles(status.get("channels", ()))
    last = (status.get("post_task") or {}).get("last_failure")
    if last is not None:
        ago = span(now_ms() - (from_iso(last["at"]) or 0))
        yield f"post_task failed after {last['task']} ({ago} ago): {clean(last['reason'])}"


def channel_troubles(channels: Sequence[Json]) -> Iterator[str]:
    """Which channels do not do what they are for, one a line."""
    for each in channels:
        oldest_ms = from_iso(each["oldest"])
        waits = f"; {count(each['waiting'], 'notice')} to look at" if each["waiting"] else ""
        waits += f", the oldest of {span(now_ms() - oldest_ms)} ago" if waits and oldest_ms else ""
        given_up = f"; {each['given_up']:,} given up (locum alerts list --failed)" if each["given_up"] else ""
        if each["disabled"]:
            yield f"channel {each['name']} is disabled: {clean(each['disabled'])}{waits}{given_up}"
        elif each["failures"]:
            failed = f"{count(each['failures'], 'time')} in a row"
            since = span(now_ms() - (from_iso(each["failing_since"]) or 0))
            yield f"channel {each['name']} has failed {failed}, for {since}{waits}{given_up}"
        elif given_up:
            yield f"channel {each['name']} works{waits}{given_up}"


def source_lines(found: Json) -> Iterator[str]:
    """Which homes are watched for sessions that nobody tells of, and for whom those count."""
    told = found.get("usage_sources") or {"on": True, "homes": []}
    if not told["on"]:
        yield "usage_sources is false: sessions that nobody tells of are not counted"
    for home in told["homes"]:
        since_ms, last_ms = from_iso(home["since"]) or 0, from_iso(home["last_counted"])
        whose = f"tier {home['tiers'][0]}" if len(home["tiers"]) == 1 else clean(home["account"] or "no account known")
        text = f"watched: {home['agent']} in {clean(home['folder'])}, for {whose}: "
        text += count(home["files"], "transcript") if home["there"] else "not there yet"
        text += f", since {moment(since_ms, now_ms())}" if since_ms else ", with all of its history"
        yield text + (f", last counted {span(now_ms() - last_ms)} ago" if last_ms else ", nothing new counted yet")


def source_troubles(found: Json) -> Iterator[str]:
    """Why sessions that nobody tells of may not all be counted, or not at once."""
    told = found.get("usage_sources") or {"without_events": None, "homes": []}
    if told["without_events"]:
        why = clean(told["without_events"])
        yield f"no file events ({why}): transcripts are looked at again and again (see fs.inotify.max_user_watches)"
    for home in told["homes"]:
        if home["trouble"]:
            yield f"not all of {home['agent']}'s transcripts in {clean(home['folder'])} count: {clean(home['trouble'])}"


def status(found: Json, usage: Json) -> Iterator[str]:
    """Every chain with its tiers, one a line."""
    for name, chain in found["chains"].items():
        yield f"{name}: {work(chain)}"
        width = max(len(tier["name"]) for tier in chain["tiers"])
        for tier in chain["tiers"]:
            yield f"  {tier['name']:{width}}  {tier['state']:9}  {held(tier['hold'])}".rstrip()
        yield f"  tokens: {spent(usage['chains'][name])}" if name in usage["chains"] else "  tokens: unknown"
        if last := failure(chain):
            yield f"  {last}"
    yield from vendor_lines(found)
    yield from config_lines(found)


def usage(found: Json, chain: str | None) -> Iterator[str]:
    """Tokens of each chain and tier, by type, and those of which it is not known whose they are."""
    rows = {f"chain {name}": each for name, each in found["chains"].items() if chain in (None, name)}
    if chain is None:
        rows |= {f"tier {name}": each for name, each in found["tiers"].items()}
        rows |= {f"account {clean(name)}": each for name, each in found.get("accounts", {}).items()}
    width = max((len(name) for name in rows), default=0)
    for name, each in rows.items():
        yield f"{name:{width}}  {spent(each)}{_types(each['totals'])}"
    totals = found.get("unattributed", {}).get("totals", {})
    if chain is None and totals.get("total"):
        yield f"{'no tier':{width}}  {totals['total']:,} tokens in all{_types(totals)}"
        yield (
            "  Nobody knows whose tier these sessions use: no budget counts them, and nothing stops them.\n"
            "  Install their hooks with --tier NAME; give --tier NAME to what is reported without one."
        )
    if chain is None:
        yield from source_lines(found)
        yield from source_troubles(found)


def tasks(found: Sequence[Json]) -> Iterator[str]:
    """One task a line."""
    if not found:
        yield "no tasks"
    for each in found:
        at_ms = from_iso(each["created"])
        assert at_ms is not None, "every task has a beginning"
        end = f" ({clean(each['reason'])})" if each["reason"] else ""
        if (after := each.get("post_task")) and after["state"] == "failed":
            end += f" [post_task failed: {clean(after['reason'])}]"
        yield f"{each['id']}  {each['state']:9}  {each['chain']}  {_stamp(at_ms)}  {clean(each['title'])}{end}"


def audit(found: Json) -> Iterator[str]:
    """The verdict, and each thing that differs."""
    yield "clean: the ledger adds up" if found["clean"] else "NOT clean: the ledger does not add up"
    yield f"  {found['entries']:,} entries, {found['tokens']['total']:,} tokens, {found['events']:,} chain events"
    yield from (f"  {clean(problem)}" for problem in found["problems"])


def _types(totals: Json) -> str:
    """What was used by type, as far as it was used at all."""
    types = ", ".join(f"{kind} {total:,}" for kind, total in totals.items() if kind != "total" and total)
    return f"  [{types}]" if types else ""


def _stamp(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M}"
