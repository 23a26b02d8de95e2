"""Prometheus' text format, as much of it as is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure. `more` is what is put behind the family's name: the parts of a histogram."""

    value: float
    labels: Sequence[tuple[str, str]] = ()
    more: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """All figures of one name; `says` is for people. The name of a counter ends in `_total`."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    says: str
    samples: Sequence[Sample]


def histogram(name: str, says: str, bounds: Sequence[float], parts: Sequence[int], total: float) -> Family:
    """A histogram: `parts` are the numbers within each bound and above the last, `total` the sum of what was seen."""
    counted, samples = 0, []
    for bound, number in zip((*bounds, float("inf")), parts, strict=True):
        counted += number
        samples.append(Sample(counted, (("le", _number(bound)),), "_bucket"))
    return Family(name, "histogram", says, [*samples, Sample(total, more="_sum"), Sample(counted, more="_count")])


def written(families: Iterable[Family]) -> bytes:
    """The families as text."""
    return "".join(f"{line}\n" for family in families for line in _lines(family)).encode("utf-8", "replace")


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.says}"
    yield f"# TYPE {family.name} {family.kind}"
    for each in family.samples:
        labels = ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in each.labels)
        yield (
            f"{family.name}{each.more}{{{labels}}} {_number(each.value)}"
            if labels
            else (f"{family.name}{each.more} {_number(each.value)}")
        )


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value)
