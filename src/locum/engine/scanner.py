"""The process that reads transcripts: it is told of files on its standard input, and tells what they hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec

from locum.agents.registry import AGENTS
from locum.engine.scan import Piece, scan
from locum.policy.transcript import Transcript


class Order(msgspec.Struct, frozen=True):
    """A transcript to read from where `known` says; `folder` and `owners` as for `opened`."""

    number: int
    known: Transcript
    folder: str
    owners: frozenset[int]


class Told(msgspec.Struct, frozen=True):
    """What a part of the transcript of an order holds; without a `piece` the order is done.

    `trouble`: why it was not read, or not to its end.
    """

    number: int
    piece: Piece | None = None
    trouble: str = ""


def main() -> None:
    """Read what is ordered, until nobody orders or nobody listens any more."""
    order_of, line_of = msgspec.json.Decoder(Order).decode, msgspec.json.Encoder().encode
    out = sys.stdout.buffer
    try:
        for line in sys.stdin.buffer:
            for told in _read(order_of(line)):
                out.write(line_of(told) + b"\n")
            out.flush()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.stdout = sys.stderr = open("/dev/null", "w")  # noqa: SIM115, PTH123 - nobody is there to hear of it


def _read(order: Order) -> Iterator[Told]:
    """All that is to be told of one order, its end last."""
    trouble = ""
    try:
        for piece in scan(AGENTS[order.known.agent], order.known, order.folder, order.owners):
            trouble = piece.trouble
            yield Told(order.number, piece)
    except FileNotFoundError:
        pass  # it was removed: what it held is nobody's any more
    except OSError as error:
        trouble = (error.strerror or str(error)).lower()
    except Exception as error:  # noqa: BLE001 - a bug of ours costs this file its count, and no other
        trouble = f"locum itself failed to read it ({type(error).__name__}: {error}); please report that"
    yield Told(order.number, trouble=trouble)


if __name__ == "__main__":
    main()
