"""Installs the pinned real agent CLIs from npm into a cache folder and prints where their programs are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


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
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def install(agent: Agent, cache: Path) -> Path:
    """Install `agent` unless its exact version already runs; returns its program.

    Raises RuntimeError when npm is missing or fails, or when the program does not report the pinned version.
    """
    program = agent.path(cache)
    if agent.version in reported_version(program):
        return program
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not on PATH; the agent CLIs come from npm: install Node.js with npm")
    # Built beside its place and moved there whole: an interrupted install is never mistaken for a finished one.
    fresh = cache / f".{agent.program}-{agent.version}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    done = subprocess.run(
        [npm, "install", "--prefix", fresh, "--no-audit", "--no-fund", "--no-save", f"{agent.package}@{agent.version}"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"npm could not install {agent.package}@{agent.version}:\n{done.stderr.strip()}")
    shutil.rmtree(agent.folder(cache), ignore_errors=True)
    fresh.rename(agent.folder(cache))
    if agent.version not in reported_version(program):
        raise RuntimeError(f"{program} is installed but does not report version {agent.version}")
    return program


def install_all() -> dict[str, Path]:
    """Install every agent; returns agent name -> program."""
    cache = cache_folder()
    return {name: install(agent, cache) for name, agent in AGENTS.items()}


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
