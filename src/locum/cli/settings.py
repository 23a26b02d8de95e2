"""What every verb knows: the environment, with the global options laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from locum.cli.client import Client
from locum.places import socket_paths


@dataclass(frozen=True, slots=True)
class Settings:
    """`environ` is the process's own, where --config, --socket and --state have set the variables they stand for."""

    environ: Mapping[str, str]

    @property
    def client(self) -> Client:
        """A client for the daemon of this environment."""
        return Client(socket_paths(self.environ))

    def named(self, config: str | None) -> Settings:
        """The same with another --config, for verbs that take it too."""
        return Settings({**self.environ, "LOCUM_CONFIG": config}) if config else self

    def main_chain(self) -> str:
        """The chain that is meant where none is named."""
        chains: list[str] = list(self.client.get("/status")["chains"])
        return "default" if "default" in chains else chains[0]


def laid_over(
    environ: Mapping[str, str], *, config: str | None, socket: str | None, state: str | None
) -> dict[str, str]:
    """The environment with the given options in place of the variables they stand for, as absolute paths."""
    given = {"LOCUM_CONFIG": config, "LOCUM_SOCKET": socket, "LOCUM_STATE": state}
    return {**environ, **{name: str(Path(value).absolute()) for name, value in given.items() if value}}


json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")
chain_option = click.option("--chain", metavar="CHAIN", help="The chain; left out: `default`.")
one_chain_option = click.option("--chain", metavar="CHAIN", help="Only this chain; left out: all of them.")
