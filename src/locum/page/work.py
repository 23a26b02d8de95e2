"""Tasks: those at work with what their agents write, and a page of all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from locum.page import say, steer
from locum.page.markup import Html, plain, tag
from locum.words import count

Json = say.Json

FILTERS = {"": "all", "queued": "waiting", "done": "done", "failed": "failed", "cancelled": "cancelled"}
"""Which tasks the list shows, by the state in its address."""


class Working(NamedTuple):
    """A task at work: the task, its attempts, and the end of what its agent has written, which ends at byte `after`."""

    task: Json
    runs: Sequence[Json]
    tail: str
    after: int


class Where(NamedTuple):
    """What the address asks for: which chain, which tasks, from which cursor on, and which one is opened."""

    chain: str
    state: str = ""
    cursor: str = ""
    task: str = ""

    def address(self, **other: str) -> str:
        """The address of the same page with something else."""
        asked = {"chain": self.chain, "tasks": self.state, "cursor": "", "task": self.task, **other}
        return f"/?{urlencode({key: plain(value) for key, value in asked.items() if value})}"


def working(found: Sequence[Working], total: int, now_ms: int, *, steers: bool) -> Html:
    """The tasks at work, those that began first at the top."""
    more = total - len(found)
    if not found:
        return tag("p.none", "Nothing runs now.")
    return tag(
        "div.working",
        [_at_work(each, now_ms, steers=steers) for each in found],
        tag("p.quiet", f"{count(more, 'more task')} at work.") if more > 0 else None,
    )


def _at_work(each: Working, now_ms: int, *, steers: bool) -> Html:
    task, run = each.task, each.runs[-1] if each.runs else None
    spent = run["tokens"]["total"] if run and run["tokens"] else 0
    on = (
        [" on ", say.name(run["tier"]), f", attempt {run['number']}, since ", say.ago(run["started"], now_ms)]
        if run
        else None
    )
    return tag(
        "article.task",
        tag(
            "div.head",
            tag("h3", tag("a", say.name(task["title"] or task["id"]), href=address_of(task))),
            steer.cancel(task) if steers else None,
        ),
        tag("p.quiet", tag("code", task["id"]), on, [" · ", say.tokens(spent), " tokens"] if spent else None),
        tag("p.quiet.path", tag("bdi", say.cut(task["cwd"]))),
        _tail(each),
        id=f"work-{task['id']}",
    )


def _tail(each: Working) -> Html:
    """The end of what the agent has written; the page reads on from there."""
    task = each.task
    return tag(
        "pre.tail",
        each.tail or None,
        tabindex="0",
        role="region",
        aria_label=f"What the agent writes in {say.cut(task['title'] or task['id'], 80)}",
        data_task=task["id"],
        data_run=each.runs[-1]["number"] if each.runs else None,
        data_after=each.after,
    )


def address_of(task: Json) -> str:
    """Where a task is shown with all its attempts."""
    return f"{Where(task['chain']).address(task=task['id'])}#opened"


def opened(each: Working, where: Where, now_ms: int) -> Html:
    """One task with all its attempts, and the end of what its agent has written."""
    task = each.task
    end = [", ended ", say.ago(task["ended"], now_ms)] if task["ended"] else None
    state = FILTERS.get(task["state"], task["state"])
    why = [tag("p", tag("bdi", say.cut(task["reason"], 2000)))] if task["reason"] else None
    said = [tag("p.quiet", tag("bdi", say.cut(task["said"], 2000)))] if task["said"] else None
    return tag(
        "article.task",
        tag(
            "div.head", tag("h3", say.name(task["title"] or task["id"])), tag("a", "close", href=where.address(task=""))
        ),
        tag("p.quiet", tag("code", task["id"]), f" · {state}, submitted ", say.ago(task["created"], now_ms), end),
        tag("p.quiet.path", tag("bdi", say.cut(task["cwd"]))),
        why,
        said,
        tag("ol.attempts", [_attempt(run, now_ms) for run in each.runs]),
        _tail(each) if each.runs else tag("p.none", "It was not tried yet."),
    )


def _attempt(run: Json, now_ms: int) -> Html:
    spent = [", ", say.tokens(run["tokens"]["total"]), " tokens"] if run["tokens"] else ", tokens not known"
    reason = [" ", tag("q.reason", say.cut(run["reason"]))] if run["reason"] else None
    failed = [" ", say.badge(run["failure"]), reason] if run["failure"] else None
    told = [f"{run['number']}. ", run["state"], " on ", say.name(run["tier"]), ", ", say.ago(run["started"], now_ms)]
    return tag("li", told, spent, failed)


def listed(
    tasks: Sequence[Json], cursor: str | None, where: Where, counts: Mapping[str, int], now_ms: int, *, steers: bool
) -> Html:
    """A page of tasks, newest first, with the way to older ones."""
    links = [
        tag(
            "a",
            says,
            f" ({counts[state]:,})" if state in counts else None,
            href=f"{where.address(tasks=state)}#tasks",
            aria_current="true" if state == where.state else None,
        )
        for state, says in FILTERS.items()
    ]
    table = tag("ul.tasks", [_line(each, now_ms, steers=steers) for each in tasks]) if tasks else tag("p.none", "None.")
    ways = [
        tag("a", "newest", href=f"{where.address()}#tasks") if where.cursor else None,
        tag("a", "older", href=f"{where.address(cursor=cursor)}#tasks", rel="next") if cursor else None,
    ]
    pages = tag("nav.pages", ways, aria_label="Pages of tasks") if any(ways) else None
    return tag("div", tag("nav.filters", links, aria_label="Which tasks"), table, pages)


def _line(task: Json, now_ms: int, *, steers: bool) -> Html:
    state = task["state"]
    why = task["reason"] if state == "failed" else task["said"]
    when = task["ended"] or task["created"]
    code = [" ", tag("code", task["reason_code"])] if state == "failed" and task["reason_code"] else None
    return tag(
        f"li.{state}",
        tag("span.state", say.icon(state), FILTERS.get(state, state)),
        tag(
            "div.what",
            tag(
                "p",
                tag("a", say.name(task["title"] or task["id"]), href=address_of(task)),
                " ",
                tag("code.quiet", task["id"]),
            ),
            tag("p.quiet", tag("bdi", say.cut(why)), code) if why or code else None,
        ),
        say.ago(when, now_ms),
        steer.cancel(task) if steers and state in ("queued", "running") else None,
        id=f"task-{task['id']}",
    )
