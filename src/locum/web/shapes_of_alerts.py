"""The answers about channels and what went through them, as types."""

from __future__ import annotations

from locum.web.shapes import Channel, Shape, Versioned
from locum.web.shapes_of_work import Notice


class Delivery(Shape):
    """What became of a notice in a channel."""

    channel: str
    state: str
    attempts: int
    first_attempt: str | None
    next_attempt: str | None
    ended: str | None
    status: int | None
    answer: str | None
    count: int
    folded_into: str | None


class Alert(Notice):
    """A notice with its deliveries."""

    deliveries: list[Delivery]


class OneAlert(Alert):
    """One notice with its deliveries."""

    schema: int


class AllAlerts(Versioned):
    """The newest notices first, and how the channels stand."""

    alerts: list[Alert]
    channels: list[Channel]


class Replayed(Shape):
    """How much a channel sends again."""

    channel: str
    messages: int


class Replays(Versioned):
    """What is sent again."""

    replayed: list[Replayed]


class Trial(Shape):
    """What came of a sample."""

    channel: str
    type: str
    id: str
    delivered: bool
    refused: bool
    status: int | None
    answer: str | None
    milliseconds: int | float


class Trials(Versioned):
    """What came of each sample."""

    tested: list[Trial]
