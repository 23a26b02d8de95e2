"""One seed for all workers, and one line at the end that says what was done."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

SEED = "CRASH_SEED"
_figures: Counter[str] = Counter()
_failed: list[str] = []


def pytest_configure() -> None:
    """Choose the seed before the workers are started, which inherit it."""
    os.environ.setdefault(SEED, str(random.SystemRandom().randrange(1 << 32)))


@pytest.fixture(scope="session")
def seed() -> int:
    """What all chance in these tests comes from: $CRASH_SEED, else a new one."""
    return int(os.environ[SEED])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what the tests have counted, in whichever worker."""
    if report.failed and "tests/crash/" in report.nodeid:
        _failed.append(report.nodeid)
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "figures":
                assert isinstance(value, dict)
                _figures.update(value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed and the figures, so that a failure can be repeated and a success be told."""
    if _figures or _failed:
        line = ", ".join(f"{value:,} {name}" for name, value in _figures.items()) or "no figures"
        terminalreporter.write_line(f"crash: seed {os.environ[SEED]}: {line}")
