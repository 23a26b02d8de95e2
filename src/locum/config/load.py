"""Finding service.json and reading it whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from locum.config import rules
from locum.config.explain import issues_of
from locum.config.model import Service
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
    """One valid configuration: never changed, only replaced. `digest` is the SHA-256 of the file's bytes."""

    path: Path
    digest: str
    service: Service
    plan: Plan
    place: Place
    warnings: tuple[Problem, ...] = ()


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
    """Read and check `path` whole. Raises InvalidConfigError with all its problems."""
    return load_bytes(path, read_bytes(path), place_of(path, environ))


def load_bytes(path: Path, data: bytes, place: Place) -> Loaded:
    """Check `data` as the content of `path`. Raises InvalidConfigError with all its problems."""
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
    warnings = tuple(map(document.problem, rules.warnings(service)))
    return Loaded(path, digest_of(data), service, plan_of(service, place), place, warnings)


def digest_of(data: bytes) -> str:
    """What tells two contents of a file apart."""
    return hashlib.sha256(data).hexdigest()
