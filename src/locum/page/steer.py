"""Buttons that change something: each carries what it will do in words, is asked about once, and then sent."""

from __future__ import annotations

import json
from urllib.parse import quote

from locum.page import say
from locum.page.markup import Html, plain, tag
from locum.words import count

Json = say.Json


def _button(
    label: str, about: str, path: str, body: Json, tells: str, match: str | None, *, times: bool = False
) -> Html:
    """`about` is what it is done to, `match` the ETag of what the words were true of, `times`: one chooses how long."""
    about = say.cut(about, 80)
    return tag(
        "button.act",
        label,
        tag("span.unseen", f" {about}"),
        type="button",
        id=f"act-{label}-{about}".replace(" ", "_"),
        data_ask=f"{label} {about}?",
        data_yes=label,
        data_path=path,
        data_body=json.dumps(body),
        data_tells=tells,
        data_match=match,
        data_times=times,
    )


def _step(name: str) -> str:
    """A name as one step of a path."""
    return quote(plain(name), safe="")


def _chain(chain: Json, verb: str) -> str:
    return f"/chains/{_step(chain['name'])}/{verb}"


def bump(chain: Json, tier: Json, match: str) -> Html:
    """Take the chain off a tier."""
    active = chain["active_tier"]
    others = [each["name"] for each in chain["tiers"] if each["state"] != "held" and each["name"] != tier["name"]]
    if tier["name"] != active:
        goes_on = f"The chain stays on {active}." if active else "No tier is free: tasks wait."
    else:
        goes_on = f"The next task starts on {others[0]}." if others else "No other tier is free: tasks wait."
    tells = (
        f"{tier['name']} is held, in every chain that lists it, for the time you choose. "
        f"Tasks that run on it now go on to their end. {goes_on}"
    )
    return _button("Bump", tier["name"], _chain(chain, "bump"), {"tier": tier["name"]}, tells, match, times=True)


def release(chain: Json, tier: Json, match: str) -> Html:
    """Lift what holds a tier."""
    kinds = " and ".join(dict.fromkeys(each["kind"] for each in tier["holds"]))
    shared = any(each["target"].partition(":")[0] in ("account", "model") for each in tier["holds"])
    whose = f" What holds the login {tier['account']} is lifted for all of its tiers." if shared else ""
    tells = (
        f"What holds {tier['name']} ({kinds}) is lifted now, and it may be picked at once.{whose} "
        "If the cause is still there, the next task meets it again."
    )
    return _button("Release", tier["name"], _chain(chain, "release"), {"tier": tier["name"]}, tells, match)


def pause(chain: Json, match: str) -> Html:
    """Start nothing more, or start again."""
    if chain["paused"]:
        waits = f"{count(chain['queued'], 'task')} may start at once" if chain["queued"] else "no task waits now"
        tells = f"Tasks of the chain {chain['name']} start again: {waits}."
        return _button("Resume", chain["name"], _chain(chain, "resume"), {}, tells, match)
    number = chain["running"]
    goes = "goes" if number == 1 else "go"
    runs = f"{count(number, 'running task')} {goes} on to the end" if number else "none runs now"
    tells = f"No task of the chain {chain['name']} is started until you resume it; {runs}."
    return _button("Pause", chain["name"], _chain(chain, "pause"), {}, tells, match)


def cancel(task: Json) -> Html:
    """Stop a task."""
    title = say.cut(task["title"] or task["id"], 80)
    if task["state"] == "running":
        tells = (
            f"The agent at work on “{title}” is told to stop, and is ended if it does not. "
            f"What it has changed in {task['cwd']} stays as it is. The tier is not blamed."
        )
    else:
        tells = f"“{title}” is taken out of the queue and is not started any more."
    return _button("Cancel", task["id"], f"/tasks/{_step(task['id'])}/cancel", {}, tells, None)
