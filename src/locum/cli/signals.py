"""The verbs of the rules that read failures: list, test, explain, add, remove. None of them needs a daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from locum.cli.client import Json
from locum.cli.settings import Settings, json_option
from locum.cli.terminal import clean, print_json
from locum.errors import ConfigError, ForbiddenError, UnreachableError, UsageError
from locum.policy.failure import HAPPENING, WINDOW_MS
from locum.words import count

if TYPE_CHECKING:
    from locum.agents.rules import Rule
    from locum.config.load import Loaded

_PLACES = ["message", "out", "err", "answer"]
_NOBODY = "none"
_ANOTHER = "uses another"
_LEAST, _MOST = -64, 255


@click.group("signals")
def signals_() -> None:
    """The rules that read failures out of what agents write: list them, prove them, try them on a run, add your own.

    Rules of service.json are asked first, then those that were added, then those that come with locum.
    """


@signals_.command("list", short_help="List the rules, or the failures that no rule knows.")
@click.option("--agent", metavar="AGENT", help="Only what is asked for this agent.")
@click.option("--unknown", is_flag=True, help="The failures that no rule reads, as far as they are kept.")
@json_option
@click.pass_obj
def list_(settings: Settings, *, agent: str | None, unknown: bool, as_json: bool) -> None:
    """List the rules in the order in which they are asked, or with --unknown the failures that wait for one."""
    from locum.agents.score import basis
    from locum.engine.kept import cases_of

    if agent is not None:
        _known(agent)
    if unknown:
        _list_unknown(settings, agent, as_json=as_json)
        return
    loaded = _loaded(settings)
    found = [each for each in _rules(loaded) if agent in (None, each.agent) or each.agent == "*"]
    rests = basis("", found, cases_of(loaded.path if loaded else None))
    rules = [_rule(each) for each in found]
    if as_json:
        proof = {"recorded": rests.recorded, "cited": rests.cited, "neither": rests.neither}
        print_json({"schema": 1, "proof": proof, "rules": rules})
        return
    width = max(len(each["id"]) for each in rules)
    for each in rules:
        made_for = each["case"] or next(iter(each["said"]), "")
        words = f"{each['id']:{width}}  {each['agent']}  {each['kind']}  {each['origin']}  {each['pattern']}"
        click.echo(clean(f"{words}  for: {made_for}" if made_for else words))
    neither = f", {rests.neither:,} neither" if rests.neither else ""
    told = f"{rests.recorded:,} with a recorded run, {rests.cited:,} only with a sentence{neither}"
    click.echo(f"{count(rests.rules, 'rule')}: {told}")


@signals_.command("test", short_help="Prove every rule on all recorded runs and sentences.")
@json_option
@click.pass_context
def test_(ctx: click.Context, *, as_json: bool) -> None:
    """Try every rule on all that it must fit and all that it must leave alone, and judge every recorded run.

    Exit code 1 when anything is wrong. The table is that of docs/specs/agents.md.
    """
    from locum.agents.own import own_rules
    from locum.agents.proof import proofs, prove
    from locum.agents.score import scores, table
    from locum.engine.kept import cases_of

    loaded = _loaded(ctx.obj)
    trials = tuple(prove(own_rules(loaded) if loaded else (), cases_of(loaded.path if loaded else None)))
    found, wrong = scores(trials), proofs(trials)
    if as_json:
        rows = {
            each.kind: {
                "runs": each.runs,
                "sentences": each.sentences,
                "left_alone": each.left_alone,
                "precision": each.precision,
                "recall": each.recall,
            }
            for each in found
        }
        told = [{"what": each.what, "on": each.on, "rule": each.rule or None, "wrong": each.wrong} for each in wrong]
        overall = rows.pop(found[-1].kind)
        print_json({"schema": 1, "proved": not wrong, "overall": overall, "kinds": rows, "wrong": told})
    else:
        click.echo("\n".join(table(found)))
        for each in wrong:
            click.echo(f"wrong: {each.rule or 'no rule'} on {each.what} {clean(each.on)!r}: {clean(each.wrong)}")
        click.echo(f"{len(trials):,} trials, {len(wrong):,} wrong")
    ctx.exit(1 if wrong else 0)


@signals_.command("explain", short_help="Judge one recorded run.")
@click.option("--agent", required=True, metavar="AGENT", help="Whose run it was.")
@click.option("--exit", "code", required=True, metavar="N", help="Its exit code; `none`: nobody wrote one.")
@click.option("--stdout", "out", required=True, metavar="FILE", help="What it wrote to standard output.")
@click.option("--stderr", "err", metavar="FILE", help="What it wrote to standard error.")
@click.option("--transcript", metavar="FILE", help="Its own record of the session.")
@click.option("--at", metavar="MOMENT", help="When it ended, such as 2026-01-31T05:00:00Z; left out: now.")
@click.option("--timezone", metavar="ZONE", help="Where, for times told without a zone; left out: this host's.")
@json_option
@click.pass_obj
def explain_(
    settings: Settings,
    /,
    *,
    agent: str,
    code: str,
    out: str,
    err: str | None,
    transcript: str | None,
    at: str | None,
    timezone: str | None,
    as_json: bool,
) -> None:
    """Judge one recorded run as the daemon would: what failed, until when, what it spent, and what told so.

    A FILE may be a pipe, such as <(zcat out.gz), /dev/null, or `-` for standard input.
    """
    from locum.cli.given import given
    from locum.cli.recorded import judged

    _known(agent)
    files = given({"stdout": out, "stderr": err, "transcript": transcript})
    loaded = _loaded(settings)
    found = judged(agent, _code(code), files, loaded, settings.environ, at=at, timezone=timezone)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['kind']}, by {found['rule']}" if found["kind"] else "success")
    if found["evidence"]:
        click.echo(f"  it said: {clean(found['evidence'])}")
    if found["reset"]:
        click.echo(f"  over at {found['reset']}, believed until {found['until']}")
    spent = ", ".join(f"{name} {tokens:,}" for name, tokens in found["usage"].items())
    click.echo(f"  tokens: {spent}{'' if found['usage_known'] else ', at least'}")


@signals_.command("add", short_help="Add a rule of your own, once it is proved.")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--run", metavar="RUN", help="The unknown failure that it is for, which is kept as its proof.")
@click.option("--id", "id", metavar="ID", help="What it is called.")
@click.option("--agent", metavar="AGENT", help="Whose output it reads; left out with --run: that run's.")
@click.option("--kind", metavar="KIND", help=f"What a match means: {', '.join(HAPPENING)}.")
@click.option("--pattern", metavar="REGEX", help="What it fits, at the start of a line.")
@click.option("--where", multiple=True, metavar="PLACE", help=f"{', '.join(_PLACES)}; repeatable.")
@click.option("--window", metavar="WINDOW", help=f"The vendor's window: {', '.join(WINDOW_MS)}.")
@click.option("--model", metavar="MODEL", help="The one model that is limited.")
@click.option("--reset", is_flag=True, default=None, help="The sentence tells when it is over.")
@click.option("--remedy", metavar="TEXT", help="What to do about it.")
@click.option("--said", multiple=True, metavar="TEXT", help="A sentence that it is for; repeatable.")
@click.option("--twin", "twins", multiple=True, metavar="TEXT", help="A near sentence to leave alone; one is needed.")
@json_option
@click.pass_obj
def add_(settings: Settings, /, *, file: str | None, run: str | None, as_json: bool, **told: Any) -> None:
    """Add a rule, from a TOML FILE or from options, beside service.json: a running daemon judges by it at once.

    It is proved first, on every recorded run and on all that other rules are for. What it would break refuses it.
    """
    from locum.cli.addition import Addition, checked, from_file, kept_run

    _refuse_agents(settings)
    if told["agent"] is not None:
        _known(told["agent"])
    loaded = _needed(settings)
    table = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in told.items()
        if value not in (None, ())
    }
    if file and table:
        raise UsageError("a rule is given twice, as a file and as options", remedy="Put all of it into the file.")
    if not file and not table:
        raise UsageError("no rule is given", remedy="Name a TOML file, or give --id, --agent, --kind and --pattern.")
    table = from_file(Path(file)) if file else table
    kept = kept_run(run, str(table.get("id", "")), loaded, settings.environ) if run else None
    if kept is not None:
        table = {"agent": kept.run.tier.agent, **table, "case": table.get("id")}
        if table["agent"] != kept.run.tier.agent:
            raise UsageError(f"run {run} was of {kept.run.tier.agent}", remedy=f"Leave --agent {table['agent']} out.")
    addition = Addition(checked(table, Path(file) if file else None), loaded, kept)
    trials = addition.prove()
    addition.write()
    outcome = _told_daemon(settings, loaded.path)
    path = str(addition.file)
    if as_json:
        result = {"id": addition.rule.id, "path": path, "trials": len(trials), "daemon": outcome}
        print_json({"schema": 1, **result, "kept": str(addition.folder) if kept else None})
    else:
        click.echo(f"added {addition.rule.id}: {len(trials):,} trials, none wrong\nwrote {path}")
        click.echo(_in_words(outcome))
    _heed(outcome)


@signals_.command("remove", short_help="Take out a rule that was added.")
@click.argument("rule", metavar="ID")
@json_option
@click.pass_obj
def remove_(settings: Settings, *, rule: str, as_json: bool) -> None:
    """Take out a rule of signals/ beside service.json, and the run that was kept for it.

    Its file may be broken; then it is named by the file, with or without `.toml`.
    """
    from locum.cli.addition import take_out

    _refuse_agents(settings)
    config = _in_use(settings)
    path = take_out(config, rule)
    outcome = _told_daemon(settings, config)
    if as_json:
        print_json({"schema": 1, "id": path.stem, "path": str(path), "daemon": outcome})
    else:
        click.echo(f"removed {path}")
        click.echo(_in_words(outcome))
    _heed(outcome)


def _in_words(outcome: Json | None) -> str:
    """What a running daemon makes of the change."""
    if outcome is None:
        return "no daemon runs: the next one reads it"
    if outcome["result"] == _ANOTHER:
        return f"the running daemon uses another service.json ({clean(outcome['path'])}) and has not read it"
    return f"the daemon has read it: {outcome['result']}"


def _told_daemon(settings: Settings, config: Path) -> Json | None:
    """What a running daemon says of a change to the rules beside `config`; None when none runs.

    A daemon that reads the rules beside another service.json is not asked to.
    """
    from locum.config.added import folder_of

    try:
        used = Path(settings.client.get("/status")["config"]["path"])
        if folder_of(used).resolve() != folder_of(config).resolve():
            return {"result": _ANOTHER, "path": str(used), "problems": []}
        found = settings.client.post("/reload")
    except UnreachableError:
        return None
    return {key: found[key] for key in ("result", "path", "problems")}


def _heed(outcome: Json | None) -> None:
    """Raise ConfigError when the daemon still goes by the last good configuration."""
    if outcome and outcome["problems"]:
        raise ConfigError(
            f"the daemon does not use it: {' '.join(outcome['problems'])}",
            remedy="Mend that, then `locum reload`. The last good configuration stays in use.",
        )


def _list_unknown(settings: Settings, agent: str | None, *, as_json: bool) -> None:
    from locum.cli.unknown import failures

    runs, explained = failures(agent, _loaded(settings), settings.environ)
    if as_json:
        print_json({"schema": 1, "runs": runs, "explained": explained})
        return
    for each in runs:
        click.echo(f"{each['run']}  {each['ended']}  {each['agent']} on {each['tier']}: {clean(each['reason'])}")
    click.echo("locum signals add --run RUN teaches locum what one of them was." if runs else "no failure is unknown")
    rules = Counter(each["rule"] for each in explained)
    for rule, number in rules.items():
        click.echo(f"{count(number, 'failure')} that {'was' if number == 1 else 'were'} unknown: {rule} reads it now")


def _rules(loaded: Loaded | None) -> list[Rule]:
    """Every rule, each once, in the order in which they are asked."""
    from locum.agents.own import own_rules
    from locum.agents.registry import AGENTS
    from locum.agents.rules import shipped

    own = own_rules(loaded) if loaded else ()
    ours = sorted((rule for name in AGENTS for rule in shipped(name)), key=lambda rule: rule.agent == "*")
    return list({rule.id: rule for rule in (*own, *ours)}.values())


def _rule(rule: Rule) -> Json:
    plain = ("id", "agent", "kind", "where", "window", "model", "reset", "lost_session", "said", "twins", "origin")
    found = {name: getattr(rule, name) for name in plain}
    lists: dict[str, Sequence[str]] = {name: list(found[name]) for name in ("where", "said", "twins")}
    return {**found, **lists, "pattern": rule.pattern.text, "case": rule.case or None, "remedy": rule.remedy or None}


def _loaded(settings: Settings) -> Loaded | None:
    """The configuration in use; None when there is none. Raises ConfigError when it cannot be used."""
    from locum.config.load import NoConfigError, load

    try:
        path = _in_use(settings)
    except NoConfigError:
        if settings.environ.get("LOCUM_CONFIG"):
            raise
        return None
    return load(path, settings.environ)


def _needed(settings: Settings) -> Loaded:
    """As `_loaded`. Raises NoConfigError when there is none: a rule is added beside it."""
    from locum.config.load import load

    return load(_in_use(settings), settings.environ)


def _in_use(settings: Settings) -> Path:
    """The service.json in use, unread: the daemon's, unless one was named. Raises NoConfigError."""
    from locum.cli.setup import chosen

    return _of_daemon(settings) or chosen(settings.environ)[0]


def _of_daemon(settings: Settings) -> Path | None:
    """The service.json of a running daemon; None when none answers, or one was named."""
    if settings.environ.get("LOCUM_CONFIG"):
        return None
    try:
        return Path(settings.client.get("/status")["config"]["path"])
    except (UnreachableError, ForbiddenError):
        return None


def _known(agent: str) -> None:
    """Raise UsageError, which names the agents there are, for any other."""
    from locum.agents.registry import agent as named

    named(agent)


def _code(text: str) -> int | None:
    if text == _NOBODY:
        return None
    try:
        code = int(text)
    except ValueError:
        code = _MOST + 1
    if not _LEAST <= code <= _MOST:
        remedy = f"Give a number from 0 to {_MOST}, -N for signal N, or `{_NOBODY}` when nobody wrote one."
        raise UsageError(f"--exit {text!r} is no exit code", remedy=remedy)
    return code


def _refuse_agents(settings: Settings) -> None:
    """Raise ForbiddenError in a run of locum's: agents do not change how they are judged."""
    from locum.engine.proc import RUN_VARIABLE

    if settings.environ.get(RUN_VARIABLE):
        remedy = "Run it in a terminal of your own."
        raise ForbiddenError(f"an agent that locum runs changes no rules (${RUN_VARIABLE} is set)", remedy=remedy)
