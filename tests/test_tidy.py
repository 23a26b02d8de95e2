"""The house rules, held by a test so that nobody has to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
TEXTS = [
    *SOURCES,
    *sorted((ROOT / "src").rglob("*.sql")),
    *sorted((ROOT / "src").rglob("*.toml")),
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "demo").rglob("*.py")),
    *sorted((ROOT / "bench").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "README.md",
    ROOT / "Makefile",
]
LONGEST_FILE = 400
LONGEST_FUNCTION = 50
MEDIAN_FILE = 180
WORLD = {  # what touches the world, and the only files that may
    "time": {"clock.py"},
    "random": {"clock.py"},
    "subprocess": {"engine/process.py", "engine/shell.py", "engine/crew.py"},  # crew: only readers of our own
    "threading": {"store/worker.py"},
    "ssl": {"notify/http.py"},  # the network outside, and nothing else: sockets of our own are local
    "asyncio": set(),
    "sqlite3": set(),
}


def inside(path: Path) -> str:
    """The path below src/locum."""
    return path.relative_to(ROOT / "src" / "locum").as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a module, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imports(tree: ast.AST) -> Iterator[str]:
    """The top-level names of all modules that are imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_a_source_file_is_small_and_says_what_it_is(path: Path) -> None:
    """No file outgrows a reader: at most 400 lines, no function over 50, and one honest line at the top."""
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_FILE
    lead = ast.get_docstring(tree)
    assert lead, "a module says in one line what it is"
    assert len(lead.splitlines()) == 1
    for function in functions(tree):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        assert length <= LONGEST_FUNCTION, f"{function.name} has {length} lines"


def test_the_usual_file_is_short() -> None:
    """Half of all files fit on a few screens."""
    sizes = sorted(len(path.read_text().splitlines()) for path in SOURCES if path.name != "__init__.py")
    assert sizes[len(sizes) // 2] <= MEDIAN_FILE


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_only_the_seams_touch_the_world(path: Path) -> None:
    """Time, chance, threads and processes enter through one file each, so the whole daemon can be simulated."""
    for name in imports(ast.parse(path.read_text())):
        if name in WORLD:
            assert inside(path) in WORLD[name], f"{name} belongs in {WORLD[name] or 'no file'}"


def test_one_file_connects_to_the_network() -> None:
    """Names are resolved and addresses connected to in one place, behind the check of what may be sent to.

    web/network.py has sockets too: it listens on an address, and connects to none.
    """
    reaching = re.compile(r"\b(getaddrinfo|connect_tcp|create_connection|open_connection|AF_INET6?)\b")
    assert {inside(path) for path in SOURCES if reaching.search(path.read_text())} == {
        "notify/http.py",
        "web/network.py",
    }
    assert not re.search(r"\.connect(_ex)?\(", (ROOT / "src/locum/web/network.py").read_text())


@pytest.mark.parametrize("path", SOURCES, ids=inside)
def test_public_names_are_documented(path: Path) -> None:
    """What can be used from outside a module says what it is for."""
    tree = ast.parse(path.read_text())
    within = {inner for outer in functions(tree) for inner in ast.walk(outer) if inner is not outer}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node not in within:
            assert node.name.startswith("_") or ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_test_states_its_promise(path: Path) -> None:
    """A test without a promise proves nothing that anybody could name."""
    for function in functions(ast.parse(path.read_text())):
        if function.name.startswith("test_"):
            assert ast.get_docstring(function), f"{function.name} does not say what it promises"


def test_nothing_is_left_undone_or_hidden() -> None:
    """No half-finished work and no switched-off test reaches main."""
    left = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b|mark\.(skip|xfail)\b")
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path in TEXTS for match in left.finditer(path.read_text())]
    assert not found


def test_every_folder_of_sql_and_signals_is_shipped() -> None:
    """Data files lie inside the package, where the wheel takes them along."""
    assert list((ROOT / "src/locum/store/sql").glob("*.sql"))
    assert list((ROOT / "src/locum/agents/signals").glob("*.toml"))


def test_there_is_one_way_off_a_tier() -> None:
    """Holds are made in policy/chain.py, behind `bump`, and read back from rows in store/codec.py: nowhere else."""
    makers = {
        inside(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Hold"
    }
    assert makers <= {"policy/chain.py", "store/codec.py"}
    assert "policy/chain.py" in makers


def test_the_layout_is_the_documented_one() -> None:
    """Each folder under src/locum is a floor that docs/ARCHITECTURE.md names."""
    floors = {path.name for path in (ROOT / "src" / "locum").iterdir() if path.is_dir() and path.name != "__pycache__"}
    architecture = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    assert all(f"{floor}/" in architecture for floor in floors)
