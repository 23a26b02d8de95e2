"""`usage_reset`: when a budget starts to count anew."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)

from locum.config.expect import Entry, expect, wrong
from locum.config.values import DURATION_PATTERN, duration_ms
from locum.config.zone import is_zone
from locum.policy.window import Block, Calendar, Lifetime, Rolling, WindowRule

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PERIODS = ("day", "week", "month")

DurationMs = Annotated[
    int,
    BeforeValidator(duration_ms),
    expect("a length of time", 'write a number with s, m, h or d in quotes, such as "90s", "10m" or "1h30m"'),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "10m", "1h30m", "7d"]}),
]
"""A length of time: text in the file, milliseconds here."""


def _zone(name: str) -> str:
    if not is_zone(name):
        raise wrong(
            "the name of a time zone", 'write one such as "Europe/Madrid" or "UTC"', sorted(available_timezones())
        )
    return name


Timezone = Annotated[
    str, AfterValidator(_zone), expect("the name of a time zone", 'write one such as "Europe/Madrid" or "UTC"')
]
ClockTime = Annotated[
    str,
    StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$"),
    expect("a time of day", 'write it as "HH:MM", such as "04:00"'),
]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class CalendarReset(Entry):
    """Anew with each day, week or month of the calendar."""

    calendar: Annotated[
        Annotated[Literal["day", "week", "month"], expect("a period of the calendar", choices=PERIODS)],
        Field(description="The period that counts."),
    ]
    starts: Annotated[
        Annotated[Weekday, expect("a day of the week", choices=WEEKDAYS)] | None,
        Field(description="The day a week starts with; for weeks only. Left out: monday."),
    ] = None
    day: Annotated[
        Annotated[int, Field(ge=1, le=31), expect("a day of the month", "write a whole number from 1 to 31")] | None,
        Field(description="The day a month starts with, clamped to shorter months; for months only. Left out: 1."),
    ] = None
    at: Annotated[ClockTime, Field(description="The time of day at which the period turns, in `timezone`.")] = "00:00"
    timezone: Annotated[
        Timezone | None, Field(description="The IANA time zone whose calendar counts. Left out: the host's.")
    ] = None

    @model_validator(mode="after")
    def _belongs(self) -> CalendarReset:
        if self.starts is not None and self.calendar != "week":
            raise wrong("a week where `starts` is given", 'remove `starts` or write "calendar": "week"')
        if self.day is not None and self.calendar != "month":
            raise wrong("a month where `day` is given", 'remove `day` or write "calendar": "month"')
        return self


class RollingReset(Entry):
    """Never anew: what counts is the time that has just passed."""

    rolling_ms: Annotated[
        DurationMs, Field(alias="rolling", description="How far back usage counts, at any moment, such as 5h.")
    ]


class BlockReset(Entry):
    """Anew with the first use after the last block ended, as vendors' sessions do."""

    block_ms: Annotated[
        DurationMs, Field(alias="block", description="How long a block lasts from its first use on, such as 5h.")
    ]


def _shape(value: Any) -> str:
    if isinstance(value, Entry):
        return type(value).__name__
    if isinstance(value, dict):
        return "RollingReset" if "rolling" in value else "BlockReset" if "block" in value else "CalendarReset"
    return "word"


_WORDS = ("day", "week", "month", "all")
_SHOW = 'write "day", "week", "month", "all", or an object such as {"rolling": "5h"}'

UsageReset = Annotated[
    Annotated[Literal["day", "week", "month", "all"], expect("a window", _SHOW, _WORDS), Tag("word")]
    | Annotated[CalendarReset, Tag("CalendarReset")]
    | Annotated[RollingReset, Tag("RollingReset")]
    | Annotated[BlockReset, Tag("BlockReset")],
    Discriminator(_shape),
]


def window_of(reset: UsageReset, host_timezone: str) -> WindowRule:
    """The rule of a `usage_reset`; `host_timezone` (an IANA name) counts where none is given."""
    match reset:
        case "all":
            return Lifetime()
        case RollingReset():
            return Rolling(reset.rolling_ms)
        case BlockReset():
            return Block(reset.block_ms)
        case CalendarReset():
            hours, minutes = reset.at.split(":")
            return Calendar(
                unit=reset.calendar,
                timezone=reset.timezone or host_timezone,
                weekday=WEEKDAYS.index(reset.starts or "monday"),
                day=reset.day or 1,
                at_minutes=int(hours) * 60 + int(minutes),
            )
        case unit:
            return Calendar(unit, timezone=host_timezone)
