"""The command line: one whole process, from its start to its exit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.idle import SERVICE
from bench.rounds import interleaved, median, timed, told
from bench.subject import Found, Limit, Subject
from tests.harness import LOCUM, PYTHON, Daemon, running


def measure(folder: Path, rounds: int = 60, warm_up: int = 3) -> Found:
    """Ask a running daemon, beside an interpreter that does nothing."""
    with running(Daemon(folder, SERVICE)) as daemon:

        def run(*argv: str) -> None:
            done = subprocess.run(argv, env=daemon.env, cwd=daemon.work, capture_output=True, check=True)
            assert argv[0] != LOCUM or b"claude-max" in done.stdout, done.stdout

        found = interleaved(
            {
                "locum status": timed(lambda: run(LOCUM, "status")),
                "locum status --json": timed(lambda: run(LOCUM, "status", "--json")),
                "this interpreter doing nothing": timed(lambda: run(PYTHON, "-c", "pass")),
                "the same, isolated (-I -S)": timed(lambda: run(PYTHON, "-I", "-S", "-c", "pass")),
            },
            rounds,
            warm_up,
        )
    figures = tuple((name, told(each, "ms")) for name, each in found.items())
    return Found((median(found["locum status"]),), figures)


SUBJECT = Subject(
    name="status",
    limits=(Limit("`locum status` on a running daemon, whole process, p50", 150, "ms"),),
    how=(
        "The installed command as people type it, its output a pipe, against a running daemon of two tiers: from the "
        "start of the process to its end. Beside it, in the same rounds, the interpreter alone."
    ),
    measure=measure,
    tiny={"rounds": 1, "warm_up": 0},
)
