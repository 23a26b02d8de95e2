"""Finding service.json and reading it whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from locum.config import rules
from locum.config.added import RuleFile, read_files, rules_in
from locum.config.explain import issues_of
from locum.config.model import Service, SignalRule
from locum.config.place import Place, place_of
from locum.config.plan import plan_of
from locum.config.problem import InvalidConfigError, Issue, Problem
from locum.config.source import parse, read_bytes
from locum.errors import ConfigError
from locum.policy.plan import Plan


class NoConfigError(ConfigError):
    """There is no configuration."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One valid configuration: never changed, only replaced. `digest` is the SHA-256 of all its files.

    `added` are the rules beside service.json, `document` is what stands in it, as it was written.
    """

    path: Path
    digest: str
    service: Service
    plan: Plan
    place: Place
    warnings: tuple[Problem, ...] = ()
    added: tuple[SignalRule, ...] = ()
    document: Any = None


def locate(explicit: Path | None, environ: Mapping[str, str], cwd: Path, home: Path) -> Path:
    """The service.json to use. Raises NoConfigError, saying where it looked.

    What is named outright (`explicit`, else $LOCUM_CONFIG) is the only place looked at.
    """
    named = explicit or (Path(environ["LOCUM_CONFIG"]) if environ.get("LOCUM_CONFIG") else None)
    usual = (
        cwd / "config" / "service.json",
        cwd / "service.json",
        home / ".config" / "locum" / "service.json",
        Path("/etc/locum/service.json"),
    )
    places = (cwd / named,) if named else usual
    for place in places:
        if os.path.lexists(place):  # a broken link is a problem to tell, not a reason to look on
            return place
    looked = ", ".join(map(str, places))
    remedy = "Name a file that exists" if named else "Write one with `locum init`, or name one with `--config`"
    raise NoConfigError(f"there is no service.json: looked at {looked}", remedy=remedy)


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read and check `path` whole, with the rules beside it. Raises InvalidConfigError with all their problems."""
    return load_bytes(path, read_bytes(path), place_of(path, environ), read_files(path))


def load_bytes(path: Path, data: bytes, place: Place, files: Sequence[RuleFile] = ()) -> Loaded:
    """Check `data` as the content of `path`, `files` as rules. Raises InvalidConfigError with all their problems."""
    document = parse(path, data)
    issues: list[Issue] = []
    try:
        service = Service.model_validate_json(json.dumps(document.value))
    except ValidationError as error:
        issues += issues_of(error)
    if isinstance(document.value, dict):
        issues += rules.errors(document.value)
    if issues:
        raise InvalidConfigError(map(document.problem, issues))
    added = rules_in(files, {rule.id for rule in service.signals})
    warnings = tuple(map(document.problem, rules.warnings(service)))
    return Loaded(
        path, digest_of(data, files), service, plan_of(service, place), place, warnings, added, document.value
    )


def digest_of(data: bytes, files: Sequence[RuleFile] = ()) -> str:
    """What tells two contents of a configuration apart: of service.json, and of the rules beside it."""
    digest = hashlib.sha256(data)
    for file in files:
        digest.update(f"\0{file.path.name}\0{len(file.data)}\0".encode("utf-8", "surrogateescape") + file.data)
    return digest.hexdigest()
