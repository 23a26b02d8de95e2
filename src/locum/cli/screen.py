"""`status` for a terminal: a table a chain."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from locum.cli import plain
from locum.cli.client import Json

_STYLES = {"active": "bold green", "ready": "", "held": "yellow", "probation": "cyan"}
_MARKS = {"active": "▶", "ready": "·", "held": "✗", "probation": "?"}
_BAR = 24


def screen(status: Json, usage: Json) -> RenderableType:
    """Every chain: its tiers, what holds them, and how full its budget is."""
    parts: list[RenderableType] = []
    for name, chain in status["chains"].items():
        parts += [_title(name, chain), _tiers(chain, usage["tiers"]), *_budget(usage["chains"].get(name))]
        if last := plain.failure(chain):
            parts.append(Text(f"  {last}", style="dim"))
        parts.append(Text())
    parts += [Text(f"  {each}", style="dim") for each in plain.vendor_lines(status)]
    first, *problems = plain.config_lines(status)
    return Group(*parts, Text(first, style="dim"), *(Text(each, style="red") for each in problems))


def _title(name: str, chain: Json) -> Text:
    style = "red" if chain["exhausted"] else "yellow" if chain["paused"] else "green"
    return Text.assemble((name, "bold"), "  ", (plain.work(chain), style))


def _tiers(chain: Json, usage: Json) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 2, 0, 1))
    for header in ("tier", "state", "agent", "tokens", "why"):
        table.add_column(header, justify="right" if header == "tokens" else "left", no_wrap=header != "why")
    for tier in chain["tiers"]:
        style = _STYLES[tier["state"]]
        agent = f"{tier['agent']} {tier['model']}" if tier["model"] else tier["agent"]
        table.add_row(
            Text(f"{_MARKS[tier['state']]} {tier['name']}", style),
            Text(tier["state"], style),
            Text(agent, "dim"),
            Text(_tokens(usage.get(tier["name"]))),
            Text(plain.held(tier["hold"])),
        )
    return table


def _tokens(usage: Json | None) -> str:
    total = usage and usage["totals"]["total"]
    return "unknown" if total is None else f"{total:,}"


def _budget(usage: Json | None) -> list[RenderableType]:
    if usage is None:
        return []
    words = Text(f"  {plain.spent(usage)}")
    if usage["percent"] is None:
        return [words]
    full = usage["percent"]
    style = "red" if full >= 100 else "yellow" if full >= 80 else "green"
    bar = ProgressBar(100, min(full, 100), width=_BAR, complete_style=style, finished_style=style)
    row = Table.grid(padding=(0, 1))
    row.add_row(Text(" "), bar, words)
    return [row]
