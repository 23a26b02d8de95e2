"""`locum serve`, and kill -9 from within at the COUNT-th pass through a point: serve_and_die.py POINT COUNT."""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from locum.cli.main import main as locum
from tests.crash.disk import Disk
from tests.crash.points import BY_NAME, Point, When


class NoSuchPointError(Exception):
    """The point names something that is not there (any more)."""


def owner_of(path: str) -> tuple[Any, str]:
    """The module or class in which the last name of a dotted path is looked up, and that name."""
    *parts, name = path.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and not module.startswith(error.name):
                raise  # it is there, and lacks something else
            continue
        for each in parts[length:]:
            if not hasattr(found, each):
                raise NoSuchPointError(f"{path}: {module} has no {each}")
            found = getattr(found, each)
        return found, name
    raise NoSuchPointError(f"{path}: no such module")


def check(point: Point) -> tuple[Any, str]:
    """Where a point is; raises `NoSuchPointError` when it names nothing."""
    owner, name = owner_of(point.path)
    if point.when is When.SET:
        if name not in owner.__init__.__code__.co_names:
            raise NoSuchPointError(f"{point.path}: no such attribute is set")
    elif not callable(getattr(owner, name, None)):
        raise NoSuchPointError(f"{point.path}: no such function")
    return owner, name


def arm(point: Point, count: int) -> None:
    """Replace what the point names by itself, with death at the `count`-th pass."""
    owner, name = check(point)
    passes = itertools.count(1)

    def passed(given: Sequence[object] = (), returned: object = None) -> None:
        counts = (returned or not point.fruitful) and (point.given is None or point.given in given)
        if counts and next(passes) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    if point.when is When.SET:
        setattr(owner, name, _dying_attribute(f"_{name}", passed))
        return
    raw = inspect.getattr_static(owner, name)
    is_wrapped = isinstance(raw, (classmethod, staticmethod))
    dying = _dying(raw.__func__ if is_wrapped else raw, point.when, passed)
    setattr(owner, name, type(raw)(dying) if is_wrapped else dying)


def _dying(call: Callable[..., Any], when: When, passed: Callable[..., None]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(call):

        @wraps(call)
        async def dying_later(*args: Any, **more: Any) -> Any:
            if when is When.BEFORE:
                passed(args)
            returned = await call(*args, **more)
            if when is When.AFTER:
                passed(args, returned)
            return returned

        return dying_later

    @wraps(call)
    def dying(*args: Any, **more: Any) -> Any:
        if when is When.BEFORE:
            passed(args)
        returned = call(*args, **more)
        if when is When.AFTER:
            passed(args, returned)
        return returned

    return dying


def _dying_attribute(kept: str, passed: Callable[[], None]) -> property:
    def read(self: object) -> object:
        return getattr(self, kept)

    def write(self: object, value: object) -> None:
        passed()
        setattr(self, kept, value)

    return property(read, write)


def main() -> None:
    """Break the daemon if asked to, arm the point if one is named, and serve as `locum serve` does."""
    if name := os.environ.get("CRASH_BROKEN"):
        from tests.crash.broken import BREAK

        BREAK[name]()
    if sys.argv[1:]:
        point = BY_NAME[sys.argv[1]]
        disk = Disk() if point.path.startswith(f"{Disk.__module__}.") else None
        arm(point, int(sys.argv[2]))
        assert disk is None or disk.host, "it is used as long as it is held"
    sys.argv = ["locum", "serve"]
    locum()


if __name__ == "__main__":
    main()
