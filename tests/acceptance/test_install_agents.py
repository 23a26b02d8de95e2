"""The installer of the real agent CLIs, with an npm of our own: what it does about an install that is not whole."""

import sys

import pytest

from tests.acceptance.install_agents import TRIES, Agent, install, main

AGENT = Agent("@some/agent", "1.2.3", "agent")
NPM = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--prefix") + 1])
tries = pathlib.Path(__file__).with_suffix(".tries")
tried = int(tries.read_text()) if tries.exists() else 0
tries.write_text(str(tried + 1))
bin = folder / "node_modules" / ".bin"
bin.mkdir(parents=True)
(bin / "agent").write_text("#!/bin/sh\\n" + (SAYS[min(tried, len(SAYS) - 1)]) + "\\n")
(bin / "agent").chmod(0o755)
"""


@pytest.fixture
def npm(tmp_path):
    """Makes an npm whose installs leave a program that does one thing after the first try, and another after the next."""

    def made(*says):
        path = tmp_path / "npm.py"
        path.write_text(f"SAYS = {says!r}\n{NPM}")
        return [sys.executable, path]

    return made


def tried(tmp_path):
    """How often that npm was run."""
    return int((tmp_path / "npm.tries").read_text())


def test_a_program_that_is_there_and_does_not_run_is_installed_again(tmp_path, npm):
    """A package without the program for this platform is no install: the second try mends it, and a third is not made."""
    program = install(AGENT, tmp_path / "cache", npm("exit 1", "echo agent 1.2.3."))
    assert (program.exists(), tried(tmp_path)) == (True, 2)
    assert install(AGENT, tmp_path / "cache", ["/nowhere/npm"]) == program, "what runs is not installed again"


@pytest.mark.parametrize("says", ["exit 1", "echo 1.2.4", "kill -9 $$"])
def test_what_never_reports_its_version_is_refused(tmp_path, npm, says):
    """Another version, or a program that cannot run, is told after a bounded number of tries."""
    with pytest.raises(RuntimeError, match=r"does not report version 1\.2\.3"):
        install(AGENT, tmp_path / "cache", npm(says))
    assert tried(tmp_path) == TRIES


def test_an_unknown_agent_is_named(capsys):
    """A name that nobody has is refused before anything is installed."""
    assert main(["claude-code", "nobody"]) == 1
    assert "there is no nobody" in capsys.readouterr().err
