"""The end of what an agent writes is read whole lines at a time, without secrets, however much came before."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from locum.agents.registry import AGENTS
from locum.engine.lately import BACK, lately
from locum.engine.redact import Redactor
from locum.engine.spool import Spool
from locum.policy.plan import Tier
from locum.policy.task import Run, RunState

SECRET = "sk-0123456789abcdef"
RUN = Run("r-1", "t-1", 1, "default", Tier("one", "command", "a"), "/", RunState.RUNNING, 0)


@dataclass
class Service:
    """As much of a supervisor as is asked."""

    folder: Path
    agents: object = field(default_factory=lambda: AGENTS)

    def redactor(self) -> Redactor:
        """One secret."""
        return Redactor(frozenset({SECRET}))

    def spool(self, run_id: str) -> Spool:
        """The run's folder."""
        return Spool(self.folder)

    def write(self, data: bytes) -> None:
        """More output."""
        with self.spool("").out.open("ab") as file:
            file.write(data)


def test_only_whole_lines_and_from_where_one_was(tmp_path) -> None:
    """A line that is not finished is told when it is, and once."""
    service = Service(tmp_path)
    assert lately(service, RUN, None, 9) == ([], 0)
    service.write(b"one\ntwo\nthr")
    first = lately(service, RUN, None, 9)
    assert first == (["one", "two"], 8)
    service.write(b"ee\r\nfour\n")
    assert lately(service, RUN, first.after, 9) == (["three", "four"], 20)
    assert lately(service, RUN, 20, 9) == ([], 20)


def test_secrets_and_protocol_are_left_out(tmp_path) -> None:
    """What is for programs is not for people, and a secret is for nobody."""
    service = Service(tmp_path)
    service.write(f'my key is {SECRET}\n{{"type":"usage","input":1}}\nplain\n'.encode())
    assert lately(service, RUN, None, 9).lines == ["my key is •••", "plain"]


def test_no_half_of_a_secret_shows_where_reading_begins(tmp_path) -> None:
    """However the beginning falls, a line that was cut there is left out."""
    for shift in range(len(SECRET) + 2):
        folder = tmp_path / str(shift)
        folder.mkdir()
        service = Service(folder)
        rest = b"." * (BACK - shift - 1) + b"\n"
        service.write(b"x" * 50 + SECRET.encode() + rest)
        service.write(b"end\n")
        told = lately(service, RUN, None, 9)
        assert told.lines == ["end"], shift


def test_much_is_not_read(tmp_path) -> None:
    """Of a long output only the end is told, also to who asks from far behind."""
    service = Service(tmp_path)
    service.write(b"".join(b"line %d\n" % number for number in range(50_000)))
    for after in (None, 0, 100):
        told = lately(service, RUN, after, 3)
        assert told.lines == ["line 49997", "line 49998", "line 49999"]
    service.write(b"x" * (2 * BACK))
    assert lately(service, RUN, None, 3).lines == []
    service.write(b"\nlast\n")
    assert lately(service, RUN, None, 3).lines[-1] == "last"
