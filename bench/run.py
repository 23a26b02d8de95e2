"""Runs all benchmarks, or those named, and tells which targets are missed; a whole run writes docs/benchmarks.md."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import (
    api,
    bump,
    classify,
    dashboard,
    handover,
    history,
    hook,
    idle,
    notices,
    record,
    start,
    status,
    watch,
    window,
)
from bench.machine import Noise, described, filesystem
from bench.page import Measured, details, lines, page
from bench.subject import Subject

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
SUBJECTS = tuple(
    module.SUBJECT
    for module in (
        *(handover, hook, classify, record, history, window, start, idle, status, bump, watch),
        *(notices, api, dashboard),
    )
)
IN_MEMORY = ("tmpfs", "ramfs")


def main(names: Sequence[str]) -> int:
    """Measure what is named; without names, everything."""
    known = {subject.name: subject for subject in SUBJECTS}
    if wrong := [name for name in names if name not in known]:
        print(f"There is no benchmark {', '.join(wrong)}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    shelf = ROOT / ".cache" / "bench"
    shelf.mkdir(parents=True, exist_ok=True)
    if filesystem(shelf).startswith(IN_MEMORY):
        print(
            f"{shelf} lies in memory ({filesystem(shelf)}): what is durable cannot be measured there.", file=sys.stderr
        )
        return 1
    if missing := [f"{name}: {why}" for name in names or known if (why := known[name].cannot())]:
        print("\n".join(missing), file=sys.stderr)
        return 1
    results = [_measured(known[name], shelf) for name in names or known]
    if not names:
        day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        PAGE.write_text(page(results, described(shelf), day), encoding="utf-8")
        print(f"\n{PAGE.relative_to(ROOT)} is written.")
    print("\n" + "\n".join(lines(results)))
    return 0


def _measured(subject: Subject, shelf: Path) -> Measured:
    """One subject at full size, in a folder of its own."""
    print(f"\n{subject.name}: {'; '.join(limit.what for limit in subject.limits)}", flush=True)
    with tempfile.TemporaryDirectory(dir=shelf) as folder, Noise() as noise:
        found = subject.at_full_size(Path(folder))
    measured = Measured(subject, found, str(noise))
    print("\n".join(details(measured)), flush=True)
    return measured


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
