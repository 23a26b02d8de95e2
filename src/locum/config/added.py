"""Rules that were added beside service.json: a folder `signals`, in it one TOML file for each rule."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from locum.config.explain import issues_of
from locum.config.model import SignalRule
from locum.config.problem import InvalidConfigError, Issue, Problem, plain
from locum.config.source import read_bytes

FOLDER = "signals"
SUFFIX = ".toml"
MOST = 500
"""Rules that may be added: each is tried on every failure that nothing typed explains."""
_INSTEAD = f"take it out of {FOLDER}/, or give it a name that does not end in {SUFFIX}"
_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")


@dataclass(frozen=True, slots=True)
class RuleFile:
    """One file of the folder, as it was read."""

    path: Path
    data: bytes


def folder_of(config: Path) -> Path:
    """Where rules are added to the configuration at `config`."""
    return config.parent / FOLDER


def names_in(folder: Path) -> list[str]:
    """The files in the folder that are rules, by name; none when there is no such folder. Raises OSError."""
    try:
        found = (each.name for each in folder.iterdir())
        return sorted(islice((name for name in found if _is_rule(name)), MOST + 1))
    except FileNotFoundError:
        return []


def file_named(folder: Path, name: str) -> Path | None:
    """The file of the rule of that id, or with that file name, whatever is in it; None when there is none."""
    there = (folder / each for each in (f"{name}{SUFFIX}", name) if _is_rule(each) and "/" not in each)
    return next((path for path in there if os.path.lexists(path)), None)


def read_files(config: Path) -> tuple[RuleFile, ...]:
    """Every rule file beside `config`. Raises InvalidConfigError with all that cannot be read."""
    folder = folder_of(config)
    try:
        names = names_in(folder)
    except OSError as error:
        what = (error.strerror or "it cannot be read").lower()
        raise _refused(
            folder, "the folder of added rules cannot be read", what, "make it a folder, or remove it"
        ) from error
    if len(names) > MOST:
        raise _refused(folder, f"there are more than {MOST} rules", "each costs time at every failure", "remove some")
    files, problems = list[RuleFile](), list[Problem]()
    for name in names:
        try:
            files.append(RuleFile(folder / name, read_bytes(folder / name, _INSTEAD)))
        except InvalidConfigError as error:
            problems += error.problems
    if problems:
        raise InvalidConfigError(problems)
    return tuple(files)


def rules_in(files: Iterable[RuleFile], taken: Collection[str] = ()) -> tuple[SignalRule, ...]:
    """The rules in those files. Raises InvalidConfigError with all that is wrong; `taken` are ids of other rules."""
    rules, problems = list[SignalRule](), list[Problem]()
    for file in files:
        try:
            rules.append(rule_in(file))
        except InvalidConfigError as error:
            problems += error.problems
            continue
        if rules[-1].id in taken:
            why = "service.json has one too, and rules are told apart by id"
            problems.append(
                _problem(file, Issue(("id",), f"a second rule `{rules[-1].id}`", why, "remove one of them"))
            )
    if problems:
        raise InvalidConfigError(problems)
    return tuple(rules)


def rule_in(file: RuleFile) -> SignalRule:
    """The rule in one file of the folder. Raises InvalidConfigError with all that is wrong with it."""
    rule = rule_told(file)
    if file.path.name != f"{rule.id}{SUFFIX}":
        why = f"the rule in it is `{rule.id}`, and a rule is found by its file"
        raise _refused(file.path, f"the file is called `{plain(file.path.name)}`", why, f"call it `{rule.id}{SUFFIX}`")
    return rule


def rule_told(file: RuleFile) -> SignalRule:
    """The rule in any file. Raises InvalidConfigError with all that is wrong with it."""
    table = _table(file)
    try:
        return SignalRule.model_validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        issues = issues_of(error, ("signals", 0))
        raise InvalidConfigError(_problem(file, issue) for issue in issues) from error


def _table(file: RuleFile) -> dict[str, Any]:
    try:
        return tomllib.loads(file.data.decode())
    except UnicodeDecodeError as error:
        raise _refused(file.path, "this is not UTF-8", "TOML is", "save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line, column = (int(found[1]), int(found[2])) if found else (0, 0)
        what = _PLACE.sub("", str(error)).lower()
        raise InvalidConfigError(
            [Problem(file.path, line, column, "this cannot be read", f"it is not TOML ({plain(what)})", "mend it")]
        ) from error
    except RecursionError as error:
        raise _refused(file.path, "this cannot be read", "it is nested too deeply", "write one rule, flat") from error


def _problem(file: RuleFile, issue: Issue) -> Problem:
    """The issue with the line of its key: a rule is flat, and each key begins a line."""
    key = str(issue.at[0]) if issue.at else ""
    lines: Iterator[tuple[int, str]] = enumerate(file.data.decode("utf-8", "replace").splitlines(), 1)
    line = next(
        (number for number, text in lines if key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", text)), 0
    )
    return Problem(file.path, line, 1 if line else 0, issue.what, issue.why, issue.remedy, issue.severity)


def _refused(path: Path, what: str, why: str, remedy: str) -> InvalidConfigError:
    return InvalidConfigError([Problem(path, 0, 0, what, why, remedy)])


def _is_rule(name: str) -> bool:
    return name.endswith(SUFFIX) and not name.startswith(".")
