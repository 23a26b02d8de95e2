"""The verbs that put locum into the hooks of an agent whose sessions people start themselves."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from locum.agents.hooks import TEST_EVENT, Hooks
from locum.cli.agentfile import AgentFile
from locum.cli.client import Client, Json, segment
from locum.cli.hookline import HookLine, read_back
from locum.cli.settings import Settings, json_option
from locum.cli.terminal import clean, print_json
from locum.errors import ConflictError, ForbiddenError, LocumError, NotFoundError, UnreachableError, UsageError
from locum.places import socket_paths
from locum.words import count

ASK_S = 5.0
"""How long the daemon may take to say which chains and tiers there are."""
TRY_S = 60.0
"""How long a hook that is tried may take: more than any hook gives itself."""

agent_argument = click.argument("agent", metavar="AGENT")
settings_option = click.option(
    "--settings", "named", metavar="FILE", help="The agent's settings file; left out: that of this user."
)


@click.group("hooks")
def hooks_() -> None:
    """Have the sessions that people start themselves counted, and stopped when a tier has nothing left.

    AGENT is claude-code, codex or gemini. A hook asks the daemon before each prompt; without a daemon sessions go on.
    """


@hooks_.command("install", short_help="Write the hooks into the agent's settings.")
@agent_argument
@click.option("--chain", metavar="CHAIN", help="Count for this chain.")
@click.option("--tier", metavar="TIER", help="Count for this tier; left out: for the one with this agent and home.")
@settings_option
@json_option
@click.pass_obj
def install_(
    settings: Settings, *, agent: str, chain: str | None, tier: str | None, named: str | None, as_json: bool
) -> None:
    """Write the hooks into the agent's settings; everything else in there stays. Can be repeated."""
    known = _known(agent)
    _refuse_agents(settings)
    if "" in (chain, tier):
        raise UsageError("--chain or --tier is empty", remedy="Name one, or leave it out.")
    if shutil.which("curl", path=settings.environ.get("PATH")) is None:
        raise ConflictError("there is no curl on PATH, and the hooks need it", remedy="Install curl, then try again.")
    socket, status = _daemon(settings)
    if status is not None:
        _check(status, chain, tier)
    line = HookLine(socket, agent, chain, tier)
    file = _file(settings, known, named)
    others = _others(file, socket)
    text = file.with_hooks([(each.event, known.entry(each, line.command(each.seconds))) for each in known.installed])
    if changed := text != file.text:
        file.write(text)
    answer = _asked(line, _payload(_transcripts(settings, known, file))) if status else None
    events = [each.event for each in known.installed]
    if as_json:
        names = {"chain": chain, "tier": tier, "checked": status is not None}
        names["attributed"] = answer["attributed"] if answer else None
        print_json(_told(agent, file, changed) | {"events": events, "socket": str(socket)} | names)
        return
    click.echo(f"{'installed' if changed else 'were installed already'} in {file.path}: {', '.join(events)}")
    click.echo(_attribution(line, status, answer))
    if known.cannot:
        click.echo(known.cannot)
    more = f" --settings {shlex.quote(named)}" if named else ""
    click.echo(f"try it:  locum hooks test {agent}{more}\nundo it: locum hooks uninstall {agent}{more}")
    if others:
        click.echo(f"they take the place of the hooks of the daemon at {', '.join(map(str, others))}")
    for warning in (*_doubts(line, status, answer), *_switched_off(known, file)):
        click.echo(f"locum: {warning}.", err=True)
    if status is None:
        unchecked = f"the names could not be checked, and until one answers at {socket} sessions go on uncounted"
        click.echo(f"locum: no daemon answers: {unchecked}.", err=True)


@hooks_.command("uninstall", short_help="Take the hooks out of the agent's settings again.")
@agent_argument
@settings_option
@json_option
@click.pass_obj
def uninstall_(settings: Settings, *, agent: str, named: str | None, as_json: bool) -> None:
    """Take the hooks out of the agent's settings again; everything else in there stays."""
    known = _known(agent)
    _refuse_agents(settings)
    file = _file(settings, known, named)
    found = file.ours()
    if found:
        file.write(file.without_hooks())
    if as_json:
        print_json(_told(agent, file, bool(found)))
    else:
        click.echo(f"removed {count(len(found), 'hook')} from {file.path}" if found else f"none were in {file.path}")


@hooks_.command("test", short_help="Run the installed hook, and say what came back.")
@agent_argument
@settings_option
@json_option
@click.pass_obj
def test_(settings: Settings, *, agent: str, named: str | None, as_json: bool) -> None:
    """Run the installed hook as the agent would, and say what came back.

    Exit code 69 when it reaches no daemon, 1 when it is not installed or names a tier that is no more.
    """
    from locum.engine.shell import run_line

    known = _known(agent)
    file = _file(settings, known, named)
    found = file.ours()
    if not found:
        more = f" --settings {shlex.quote(named)}" if named else ""
        remedy = f"`locum hooks install {agent}{more}` puts them there."
        raise NotFoundError(f"there are no hooks of locum in {file.path}", remedy=remedy)
    missing = {each.event for each in known.installed} - {str(at[1]) for at, _, _ in found}
    if missing:
        click.echo(f"locum: no hook for {', '.join(sorted(missing))} any more; install them again.", err=True)
    command = found[0][2]
    line = read_back(command)
    payload = json.dumps(_payload(_transcripts(settings, known, file))).encode()
    finished = run_line(command, payload, settings.environ, TRY_S)
    if finished.code != 0:
        click.echo("\n".join(map(clean, finished.err.splitlines())), err=True)
        raise _why(finished.code, line)
    answer = _answer(finished.out)
    if answer["attributed"] is None and line and line.names():
        _named(line)
        detail = clean(answer["reason"] or "").removeprefix("locum: ")
        raise NotFoundError(f"the hook names {line.names()}: {detail or 'it is not there'}", remedy=_again(line))
    if as_json:
        print_json(answer)
    else:
        click.echo("\n".join(_heard(answer, known)))
        if line and line.socket not in [path.absolute() for path in socket_paths(settings.environ)]:
            click.echo(f"locum: these hooks ask another daemon, at {line.socket}.", err=True)
    for why in _switched_off(known, file):
        raise ConflictError(why, remedy="Switch them on again; until then its sessions are not counted, nor stopped.")


def _known(agent: str) -> Hooks:
    """What is known of the agent's hooks. Raises UsageError for an agent that is not known, or has none."""
    from locum.agents.registry import AGENTS, hooks
    from locum.agents.registry import agent as named

    named(agent)
    known: Mapping[str, Hooks] = hooks(AGENTS)
    if agent not in known:
        raise UsageError(f"no hooks are known of {agent!r}", remedy=f"They are known of {', '.join(known)}.")
    return known[agent]


def _refuse_agents(settings: Settings) -> None:
    """Raise ForbiddenError in a run of locum's: its agent has its user's settings, but its own socket and home."""
    from locum.engine.proc import RUN_VARIABLE

    if settings.environ.get(RUN_VARIABLE):
        remedy = "Run it in a terminal of your own."
        raise ForbiddenError(f"an agent that locum runs changes no hooks (${RUN_VARIABLE} is set)", remedy=remedy)


def _switched_off(known: Hooks, file: AgentFile) -> Iterator[str]:
    """That the agent's own settings keep it from running any hook."""
    path, off = known.switch
    value: Any = file.value
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if path and value is off:
        yield f"{'.'.join(path)} in {file.path} switches all hooks of {known.agent} off"


def _others(file: AgentFile, socket: Path) -> list[Path]:
    """The sockets of other daemons whose hooks are in the file."""
    lines = (read_back(command) for _, _, command in file.ours())
    return sorted({line.socket for line in lines if line} - {socket})


def _folder(environ: Mapping[str, str], known: Hooks) -> Path:
    """The agent's folder, wherever its variables move it."""
    if known.variable and (moved := environ.get(known.variable)):
        return Path(moved).absolute()
    home = environ.get(known.home_variable) if known.home_variable else None
    return Path(home or environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir).absolute() / known.folder


def _file(settings: Settings, known: Hooks, named: str | None) -> AgentFile:
    """The settings file that was named, else that in the agent's folder. Raises UsageError for an empty name."""
    if named == "":
        raise UsageError("--settings is empty", remedy="Name a file, or leave it out for the agent's usual one.")
    return AgentFile(Path(named).absolute() if named else _folder(settings.environ, known) / known.settings)


def _transcripts(settings: Settings, known: Hooks, file: AgentFile) -> Path:
    """Where sessions with these settings are kept: beside them, else (settings of one project) where all are."""
    beside = file.path.parent / known.below
    return beside if beside.is_dir() else _folder(settings.environ, known) / known.below


def _daemon(settings: Settings) -> tuple[Path, Json | None]:
    """The socket for the hooks, and the status of the daemon there; None when none answers.

    Raises:
        UsageError: no settings file can hold the name of the socket.

    """
    paths = [path.absolute() for path in socket_paths(settings.environ)]
    found, status = paths[0], None
    for path in paths:
        with contextlib.suppress(UnreachableError, ForbiddenError):
            found, status = path, Client((path,)).get("/status", timeout=ASK_S)
            break
    try:
        os.fsencode(found).decode()
    except UnicodeDecodeError as error:
        remedy = "Settings are UTF-8: let the daemon use another socket, with --socket or $LOCUM_SOCKET."
        raise UsageError(f"the name of the socket {clean(found)} is not UTF-8", remedy=remedy) from error
    return found, status


def _check(status: Json, chain: str | None, tier: str | None) -> None:
    """Raise NotFoundError, which names those there are, when the daemon has no such chain or tier."""
    chains: dict[str, list[str]] = {
        name: [each["name"] for each in found["tiers"]] for name, found in status["chains"].items()
    }
    if chain and chain not in chains:
        raise NotFoundError(f"there is no chain {chain}", remedy=f"The chains are {', '.join(chains)}.")
    there = chains[chain] if chain else list(dict.fromkeys(name for found in chains.values() for name in found))
    if tier and tier not in there:
        where = f" in chain {chain}" if chain else ""
        raise NotFoundError(f"there is no tier {tier}{where}", remedy=f"The tiers are {', '.join(there)}.")


def _asked(line: HookLine, payload: Json) -> Json | None:
    """What the daemon answers to a test of this hook; None when it is one that cannot say."""
    query = f"?{line.query}" if line.query else ""
    with contextlib.suppress(LocumError):
        found = Client((line.socket,)).post(f"/hooks/{segment(line.agent)}{query}", payload)
        return found if _is_answer(found) else None
    return None


def _attribution(line: HookLine, status: Json | None, answer: Json | None) -> str:
    """Whom usage counts for: what the daemon says, else what it will go by."""
    if answer and (whose := answer["attributed"]):
        return f"usage counts for {_place(whose)}"
    if line.tier:
        return f"usage counts for {line.names()}"
    if answer and status:
        return f"usage counts for no tier: {_nobody(line, status)}"
    which = f"the only tier of chain {line.chain}" if line.chain else "the only tier"
    return f"usage counts for {which} with this agent and home; where no single one has them it shows as unattributed"


def _place(whose: Json) -> str:
    return f"tier {whose['tier']} of chain {whose['chain']}"


def _nobody(line: HookLine, status: Json) -> str:
    """Why the daemon has found no tier for these hooks; it tells the agents of its tiers, and not their homes."""
    found = [name for name, agent in _agents(line, status).items() if agent == line.agent]
    where = f" of chain {line.chain}" if line.chain else ""
    if not found:
        return f"no tier{where} runs {line.agent}, so name one with --tier"
    if len(found) == 1:
        return f"{found[0]}, the only tier{where} with this agent, has another home; name it with --tier if it is meant"
    names = f"{', '.join(found[:-1])} and {found[-1]}"
    return f"{names} have this agent, and none or several of them this home; name one with --tier"


def _agents(line: HookLine, status: Json) -> dict[str, str]:
    """The tiers that these hooks could count for, and the agent of each."""
    chains = [chain for name, chain in status["chains"].items() if line.chain in (None, name)]
    return {each["name"]: each["agent"] for chain in chains for each in chain["tiers"]}


def _doubts(line: HookLine, status: Json | None, answer: Json | None) -> Iterator[str]:
    """What is allowed, and may still not be meant."""
    agent = _agents(line, status).get(line.tier) if status and line.tier else None
    if agent and agent != line.agent:
        yield f"tier {line.tier} runs {agent}, not {line.agent}; these sessions count for it all the same"
    known = answer and (answer["attributed"] or not line.names())  # else its note says once more that it is nobody's
    if answer and known and answer["go_on"] and answer["reason"]:
        yield clean(answer["reason"]).removeprefix("locum: ").rstrip(".")


def _told(agent: str, file: AgentFile, changed: bool) -> Json:
    return {"schema": 1, "agent": agent, "settings": str(file.path), "changed": changed}


def _payload(transcripts: Path) -> Json:
    """What a hook hears from the agent; no agent calls an event so."""
    session = "locum-test"
    told = {"session_id": session, "cwd": str(Path.cwd()), "transcript_path": str(transcripts / f"{session}.jsonl")}
    return {"hook_event_name": TEST_EVENT, **told}


def _why(code: int | None, line: HookLine | None) -> LocumError:
    """Why a hook failed: what its daemon says when it is asked another way. Raises LocumError when that tells."""
    if code is None:
        return UnreachableError(f"the hook has not ended within {TRY_S:g} s", remedy="See the daemon's log.")
    if line is not None:
        try:
            _named(line)
        except UnreachableError as error:
            again = f"locum --socket PATH {_installing(line)}"
            remedy = f"Start one with `locum serve`; if it runs elsewhere: `{again}`. Sessions go on."
            raise UnreachableError(f"the hook reaches no daemon at {line.socket}", remedy=remedy) from error
    remedy = "What it said stands above; `locum hooks install` writes it anew."
    return ConflictError(f"the hook failed with exit code {code}", remedy=remedy)


def _named(line: HookLine) -> None:
    """Raise NotFoundError when the daemon that the hook tells has not got what it names."""
    try:
        _check(Client((line.socket,)).get("/status", timeout=ASK_S), line.chain, line.tier)
    except NotFoundError as error:
        detail = f"the hook names {line.names()}, but {error.detail} any more"
        raise NotFoundError(detail, remedy=f"{error.remedy} {_again(line)}") from error


def _again(line: HookLine) -> str:
    return f"Name another one: `locum hooks install {line.agent} --chain CHAIN --tier TIER`."


def _installing(line: HookLine) -> str:
    """The command that writes such a line again, without the socket."""
    named = (("--chain", line.chain), ("--tier", line.tier))
    words = [word for option, value in named if value for word in (option, value)]
    return shlex.join(["hooks", "install", line.agent, *words])


def _answer(out: str) -> Json:
    """The daemon's answer to a test. Raises UnreachableError when it is none."""
    with contextlib.suppress(ValueError):
        answer = json.loads(out)
        if _is_answer(answer):
            return dict(answer)
    remedy = "Stop what listens there, or bring the daemon up to date; then install again."
    raise UnreachableError("what answered the hook is no locum daemon that knows hooks", remedy=remedy)


def _is_answer(found: object) -> bool:
    return isinstance(found, dict) and {"attributed", "go_on", "reason"} <= found.keys()


def _heard(answer: Json, known: Hooks) -> Iterator[str]:
    """The daemon's answer to a test, in words, and what no answer of it can do."""
    whose, reason = answer["attributed"], clean(answer["reason"] or "").removeprefix("locum: ")
    yield "the hook reached the daemon"
    if whose:
        yield f"usage counts for {_place(whose)}"
    else:
        yield "usage shows as unattributed and nothing stops it, for no single tier has this agent and home"
        yield f"name one: locum hooks install {known.agent} --tier TIER"
    if not answer["go_on"]:
        yield f"the next prompt would be stopped: {reason}"
    else:
        yield "the next prompt would run"
        if reason:
            yield reason
    if known.cannot:
        yield known.cannot
