"""The pages under docs/ say what is: the tests, files and places they name are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from locum.config.load import load_bytes
from locum.config.place import Place
from locum.web.bodies import Body, FailureTold, TokenCounts, WorkDone

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "locum"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
AUDIT = ROOT / "docs" / "specs" / "token-budget.md"


def places(pattern: re.Pattern[str]) -> set[str]:
    """Where a pattern occurs below src/locum: `file.py:Class.function`, or the file alone outside of both."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        text = path.read_text()
        spans = list(named(ast.parse(text), ""))
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                within = [span for span in spans if span[0] <= number <= span[1]]
                name = f":{max(within)[2]}" if within else ""
                found.add(f"{path.relative_to(SOURCES).as_posix()}{name}")
    return found


def named(node: ast.AST, above: str) -> list[tuple[int, int, str]]:
    """First line, last line and dotted name of every class and function inside `node`."""
    spans = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{above}{child.name}"
            spans += [(child.lineno, child.end_lineno or child.lineno, name), *named(child, f"{name}.")]
    return spans


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page: Path) -> None:
    """Every test, file and linked page that the documentation names exists under that name."""
    text = page.read_text()
    for file, test in re.findall(r"`(tests/[\w./-]+\.py)(?:::(\w+))?`", text):
        assert (ROOT / file).is_file(), file
        assert not test or f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target


def test_the_audit_of_the_budget_misses_no_place() -> None:
    """The two tables of the audit are what its own two patterns find, place by place."""
    audits = AUDIT.read_text().split("## Audit: ")[1:]
    assert len(audits) == 2
    for audit in audits:
        pattern = re.search(r"grep -rnE '([^']+)'", audit)
        assert pattern
        told = re.findall(r"^\| `([\w/]+\.py(?::[\w.]+)?)` \|", audit, re.MULTILINE)
        assert sorted(told) == sorted(places(re.compile(pattern[1])))
        assert f"That is {len(told)} places." in audit


def test_every_source_file_has_its_line_in_the_house() -> None:
    """docs/ARCHITECTURE.md names each file of the package, and none that is gone."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    told, folder = set(), ""
    for indent, name in re.findall(r"^( *)([\w.]+(?:\.py|/)) ", text.split("## The house")[1], re.MULTILINE):
        folder = "" if not indent else folder
        if name.endswith("/"):
            folder = name
        else:
            told.add(f"{folder}{name}")
    assert told == {path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.py") if path.stem != "__init__"}


def test_the_report_of_other_runners_is_documented_key_by_key() -> None:
    """The table in docs/specs/hooks.md names every key of POST /hooks/post-task, and none that is refused."""
    table = (ROOT / "docs" / "specs" / "hooks.md").read_text().split("## Other runners")[1]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    inner: dict[str, type[Body]] = {"tokens": TokenCounts, "failure": FailureTold}
    wanted = {
        f"{name}.{below}" if below else name
        for name in WorkDone.model_fields
        for below in (inner[name].model_fields if name in inner else ("",))
    }
    assert sorted(key for cell in cells for key in re.findall(r"`([^`]+)`", cell)) == sorted(wanted)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_configuration_that_is_shown_can_be_used(page: Path) -> None:
    """What people copy from a page loads without an error or a warning."""
    for shown in re.findall(r"^```jsonc\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        loaded = load_bytes(Path("/etc/locum/service.json"), shown.encode(), Place(Path("/etc/locum"), Path("/root")))
        assert not loaded.warnings
