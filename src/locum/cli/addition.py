"""A rule on its way in: read, proved against everything that is known, and written beside service.json."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from locum.agents.own import own_rules
from locum.agents.proof import SUCCESS, Trial, proofs, prove
from locum.agents.registry import agents
from locum.agents.replay import RECORDED_MS, Case, Held
from locum.agents.resets import parse_reset
from locum.agents.rules import ADDED, SHIPPED, Rule, parse_rules, rules_for
from locum.cli.recorded import written
from locum.config.added import FOLDER, SUFFIX, RuleFile, file_named, folder_of, names_in, rule_told
from locum.config.load import Loaded
from locum.config.model import SignalRule
from locum.config.problem import InvalidConfigError
from locum.engine.kept import CASES, cases_of, meta_of, recorded
from locum.engine.redact import redactor
from locum.engine.seats import Seats
from locum.engine.spool import Spool
from locum.errors import ConflictError, NotFoundError, StateError, UsageError
from locum.files import read_regular
from locum.places import state_dir
from locum.policy.failure import Failure
from locum.policy.task import Run
from locum.store.peek import run_named
from locum.words import count

LARGEST_RULE = 64 << 10


@dataclass(frozen=True, slots=True)
class Kept:
    """A run of the spool, made into a case: its files by name, and what it says of itself."""

    run: Run
    files: Mapping[str, bytes]
    meta: Mapping[str, Any]


def from_file(path: Path) -> dict[str, Any]:
    """The keys of a rule in a TOML file: alone, or the only `[[rule]]`. Raises NotFoundError or UsageError."""
    import tomllib

    try:
        data = read_regular(path, LARGEST_RULE + 1, follow=True)
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}", remedy="Name a TOML file.") from error
    if len(data) > LARGEST_RULE:
        raise UsageError(f"{path} is larger than {LARGEST_RULE:,} bytes", remedy="A rule is a few lines.")
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}", remedy="Mend it, or give the rule as options.") from error
    inner = table.get("rule")
    if not isinstance(inner, list):
        return table
    if len(inner) != 1 or not isinstance(inner[0], dict) or len(table) != 1:
        raise UsageError(f"{path} holds {count(len(inner), 'rule')}", remedy="Add one rule at a time.")
    return dict(inner[0])


def in_toml(table: Mapping[str, Any]) -> bytes:
    """A rule as the file it is kept in. Raises UsageError for what cannot be written."""
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False, default=str)}\n" for key, value in table.items())
    try:
        return "".join(lines).replace("\x7f", "\\u007f").encode()
    except UnicodeEncodeError as error:
        raise UsageError("the rule holds half a character", remedy="Write it in UTF-8.") from error


def checked(table: Mapping[str, Any], source: Path | None) -> SignalRule:
    """The rule, as service.json would take it. Raises UsageError with all that is wrong; `source`: the file it is in.

    It is offered and not yet in use, so what is wrong with it is no broken configuration.
    """
    some = {
        key: [value] if key in ("said", "twins") and isinstance(value, str) else value for key, value in table.items()
    }
    try:
        return rule_told(RuleFile(source or Path("options"), in_toml(some)))
    except InvalidConfigError as error:
        wrong = "; ".join(f"{each.what}, {each.why}: {each.remedy}" for each in error.problems)
        told = f"{source}: {wrong}" if source else wrong
        raise UsageError(told, remedy="`locum signals add --help` tells what each key and option takes.") from error


def kept_run(name: str, rule: str, loaded: Loaded, environ: Mapping[str, str]) -> Kept:
    """The run of that id, of which the spool still holds the files.

    Raises:
        NotFoundError: there is no such run, or its files are gone.
        StateError: the ledger cannot be read.

    """
    state = state_dir(environ)
    run = run_named(state / "locum.db", name)
    remedy = "`locum signals list --unknown` names those that nobody knew."
    if run is None:
        raise NotFoundError(f"there is no run {name!r} in {state}", remedy=remedy)
    spool = Spool(state / "runs" / run.id)
    if not spool.folder.is_dir():
        raise NotFoundError(f"the files of run {name} are gone from {spool.folder}", remedy=remedy)
    known = agents(own_rules(loaded))
    files = recorded(run, known[run.tier.agent], spool, redactor(Seats(loaded, known, environ)))
    return Kept(run, files, meta_of(run, spool, rule))


@dataclass(frozen=True, slots=True)
class Addition:
    """A rule that is to be added to the configuration at `config`, and the run that it is for, if there is one."""

    rule: SignalRule
    loaded: Loaded
    kept: Kept | None = None

    @property
    def file(self) -> Path:
        """Where the rule is written."""
        return folder_of(self.loaded.path) / f"{self.rule.id}{SUFFIX}"

    @property
    def folder(self) -> Path:
        """Where the run that it is for is kept."""
        return folder_of(self.loaded.path) / CASES / self.rule.agent / self.rule.id

    def prove(self) -> tuple[Trial, ...]:
        """All that was tried.

        Raises:
            UsageError: nothing shows what the rule is for, what it is not for, or the reset that it promises.
            ConflictError: it would break something, which is named.

        """
        if not self.rule.said and not self.kept:
            raise UsageError(
                f"nothing shows that {self.rule.id} fits what it is for",
                remedy="Give a sentence with --said (`said` in a file), or the unknown failure itself with --run.",
            )
        if not self.rule.twins:
            raise UsageError(
                f"rule {self.rule.id} names no sentence that it must leave alone",
                remedy="Give one with --twin (`twins` in a file): near to its own, such as the warning that comes "
                "before the failure.",
            )
        before = own_rules(self.loaded)
        self._refuse_another(before)
        added = parse_rules([self.rule.model_dump(exclude_none=True)], origin=ADDED)[0]
        own = (*(each for each in before if each.origin != ADDED), *_in_order(before, added))
        known = cases_of(self.loaded.path)
        case = self._case(own)
        self._refuse_unread(case)
        found = tuple(prove(own, (*known, *case)))
        wrong_before = {(each.what, each.on) for each in proofs(prove(before, known))}
        broken = [each for each in proofs(found) if (each.what, each.on) not in wrong_before]
        if broken:
            first, others = broken[0], len(broken) - 1
            more = f" (and {others} more)" if others else ""
            raise ConflictError(
                f"rule {self.rule.id} is refused: it fails on {first.what} {first.on!r}: {first.wrong}{more}",
                remedy="Let its pattern fit only what it is for; `locum signals explain` tells how a run is judged.",
            )
        return tuple(each for each in found if each.rule == self.rule.id)

    def write(self) -> None:
        """Keep the run, then the rule: each whole or not at all. Raises StateError when that cannot be done."""
        try:
            self.file.parent.mkdir(mode=0o700, exist_ok=True)
            if self.kept is not None:
                self._keep()
            new = self.file.with_name(f".{self.file.name}.new")
            new.write_bytes(in_toml(self.rule.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
            new.replace(self.file)
        except OSError as error:
            remedy = "Make the folder of service.json one that you may write to."
            raise StateError(
                f"{error.filename or self.file} cannot be written: {error.strerror}", remedy=remedy
            ) from error

    def _keep(self) -> None:
        new = self.folder.with_name(f".{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True, mode=0o700)
        case = self._case((*own_rules(self.loaded), parse_rules([self.rule.model_dump(exclude_none=True)])[0]))[0]
        for name, content in self._files(case.expected).items():
            (new / name).write_bytes(content)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.rename(new, self.folder)  # noqa: PTH104 - of a folder

    def _files(self, expected: Mapping[str, Any]) -> dict[str, bytes]:
        assert self.kept is not None, "only what is kept has files"
        texts = {"meta.json": self.kept.meta, "expected.json": expected}
        return {**self.kept.files, **{name: f"{json.dumps(each, indent=2)}\n".encode() for name, each in texts.items()}}

    def _case(self, own: Sequence[Rule]) -> tuple[Case, ...]:
        """The run as a case that expects what the rule makes of it. Raises ConflictError when that is nothing."""
        if self.kept is None:
            return ()
        known = agents(own)
        case = Held(self.folder, self.kept.meta, {}, self.kept.files)
        reading = case.replay(known)
        told = reading.verdict(case.end)
        if not isinstance(told, Failure) or told.rule != self.rule.id:
            says = f"{told.kind}, by {told.rule}" if isinstance(told, Failure) else SUCCESS
            raise ConflictError(
                f"rule {self.rule.id} does not decide run {self.kept.run.id}: that is told as {says}",
                remedy="Its pattern is tried at the start of each line of what the run says of its failure: "
                f"{self.kept.run.reason!r}.",
            )
        expected = {
            "kind": told.kind,
            "rule": told.rule,
            "window": told.window,
            "reset": written(told.reset_ms),
            "lost_session": told.lost_session,
            "stopped": None,
            "session": reading.session or None,
            "usage": msgspec.structs.asdict(reading.spent),
        }
        return (Held(self.folder, self.kept.meta, expected, self.kept.files),)

    def _refuse_unread(self, case: Sequence[Case]) -> None:
        """A rule may be for sentences that tell a reset and for others, but one that tells none shows nothing."""
        if not self.rule.reset or any(each.expected["reset"] for each in case):
            return
        if any(parse_reset(each, RECORDED_MS, "UTC") is not None for each in self.rule.said):
            return
        shown = [f"run {self.kept.run.id} ({self.kept.run.reason!r})"] if self.kept else []
        raise UsageError(
            f"rule {self.rule.id} says that the sentence tells when it is over (reset), but no reset can be read "
            f"from it: {', '.join((*shown, *map(repr, self.rule.said)))}",
            remedy="Leave --reset out (`reset` in a file), or give a sentence that tells one with --said.",
        )

    def _refuse_another(self, own: Sequence[Rule]) -> None:
        there = {each.id: each.origin for name in agents() for each in rules_for(name, own)}
        if self.rule.id in there:
            origin = there[self.rule.id]
            way = {ADDED: "take that one out with `locum signals remove`", SHIPPED: "give yours another id"}
            remedy = f"To change it, {way.get(origin, 'edit service.json')}."
            raise ConflictError(f"there is a rule {self.rule.id} already ({origin})", remedy=remedy)


def _in_order(before: Sequence[Rule], added: Rule) -> list[Rule]:
    """The added rules as they are asked: by the names of their files."""
    return sorted([*(each for each in before if each.origin == ADDED), added], key=lambda each: f"{each.id}{SUFFIX}")


def take_out(config: Path, name: str) -> Path:
    """Remove a rule that was added beside `config`, and its kept run; its file. What is in it may be broken.

    Raises:
        NotFoundError: there is no file of that rule.
        StateError: it cannot be removed.

    """
    folder = folder_of(config)
    path = file_named(folder, name)
    try:
        if path is None:
            names = ", ".join(each.removesuffix(SUFFIX) for each in names_in(folder)) or "none"
            raise NotFoundError(f"no rule {name!r} was added in {folder}", remedy=f"Those that were: {names}.")
        path.unlink()
        for kept in (folder / CASES).glob("*"):
            shutil.rmtree(kept / path.stem, ignore_errors=True)
    except OSError as error:
        raise StateError(
            f"{path or folder} cannot be removed: {error.strerror}", remedy=f"Remove it from {FOLDER}/ yourself."
        ) from error
    return path
