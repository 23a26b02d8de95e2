"""Writes the table of what the corpus proves into docs/specs/agents.md: `.venv/bin/python -m tests.corpus.table`."""

from __future__ import annotations

import re
from pathlib import Path

from locum.agents.proof import prove
from locum.agents.replay import cases
from locum.agents.score import HEAD, scores, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "specs" / "agents.md"
SEP = " | "
OLD = re.compile(rf"^{re.escape(f'| {SEP.join(HEAD)} |')}\n(?:\|.*\n)+", re.MULTILINE)


if __name__ == "__main__":
    rows = "\n".join(table(scores(prove((), cases()))))
    text, places = OLD.subn(lambda _: f"{rows}\n", PAGE.read_text())
    assert places == 1, "the page has the table once"
    PAGE.write_text(text)
