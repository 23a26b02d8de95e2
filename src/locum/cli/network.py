"""The verbs for who comes over the network: token, dashboard."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

from locum.cli.client import Json, segment
from locum.cli.settings import Settings, json_option
from locum.cli.terminal import clean, print_json, show


@click.group("token")
def token_() -> None:
    """Make, list and revoke tokens for the API over TCP (`http.listen` in service.json)."""


@token_.command("create")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "operate"]),
    default="read",
    show_default=True,
    help="Only look, or also submit and steer.",
)
@click.option("--for", "lasts", metavar="TIME", help="How long it is good, such as 30d; left out: until it is revoked.")
@json_option
@click.pass_obj
def create(settings: Settings, *, name: str, scope: str, lasts: str | None, as_json: bool) -> None:
    """Make a token and print it: now, and never again."""
    order = {"name": name, "scope": scope, **({"lasts": lasts} if lasts else {})}
    found = settings.client.post("/tokens", order)
    if as_json:
        print_json(found)
        return
    click.echo(found["token"])
    where = f" curl -H 'authorization: Bearer …' {found['url']}/status" if found["url"] else _not_yet()
    click.echo(f"It is shown only now: keep it.{where}", err=True)


def _not_yet() -> str:
    return " It is good as soon as service.json has an `http.listen`."


@token_.command("list")
@json_option
@click.pass_obj
def listed(settings: Settings, *, as_json: bool) -> None:
    """List the tokens and the browsers that are logged in, without their secrets."""
    found = settings.client.get("/tokens")
    if as_json:
        print_json(found)
        return
    click.echo("\n".join(map(_line, found["tokens"])) or "There are no tokens.")


def _line(each: Json) -> str:
    until = f", until {each['expires']}" if each["expires"] else ""
    return (
        f"{each['id']}  {clean(each['name'])}  {each['scope']}  made {each['created']}, "
        f"last used {each['used'] or 'never'}{until}"
    )


@token_.command("revoke")
@click.argument("token")
@json_option
@click.pass_obj
def revoke(settings: Settings, *, token: str, as_json: bool) -> None:
    """Make a token, by its name or its id, worthless at once."""
    found = settings.client.post(f"/tokens/{segment(token)}/revoke")
    show(found, lambda: [f"{clean(found['name'])} ({found['id']}) is good for nothing any more"], as_json=as_json)


@click.command("dashboard")
@click.option("--print", "only_print", is_flag=True, help="Print the link, and open nothing.")
@json_option
@click.pass_obj
def dashboard_(settings: Settings, *, only_print: bool, as_json: bool) -> None:
    """Open the dashboard by a link that logs one browser in, once, within five minutes.

    Without a screen the link is printed.
    """
    found = settings.client.post("/logins")
    if as_json:
        print_json(found)
        return
    click.echo(found["url"])
    if not only_print and has_screen(os.environ):
        import webbrowser

        webbrowser.open(found["url"])


def has_screen(environ: Mapping[str, str]) -> bool:
    """Whether a browser with windows can be opened here, and not one that would take over the terminal."""
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
