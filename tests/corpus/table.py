"""Writes what the corpus proves into docs/specs/agents.md, two tables: `.venv/bin/python -m tests.corpus.table`."""

from __future__ import annotations

import re
from pathlib import Path

from locum.agents.proof import prove
from locum.agents.replay import cases
from locum.agents.score import BASIS_HEAD, HEAD, basis_table, scores, shipped_bases, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "specs" / "agents.md"
SEP = " | "


if __name__ == "__main__":
    text = PAGE.read_text()
    for head, rows in ((HEAD, table(scores(prove((), cases())))), (BASIS_HEAD, basis_table(shipped_bases(cases())))):
        old = re.compile(rf"^{re.escape(f'| {SEP.join(head)} |')}\n(?:\|.*\n)+", re.MULTILINE)
        new = "".join(f"{row}\n" for row in rows)
        text, places = old.subn(lambda _, new=new: new, text)
        assert places == 1, "the page has each table once"
    PAGE.write_text(text)
