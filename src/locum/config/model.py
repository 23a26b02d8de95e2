"""service.json as typed values; the descriptions here are its manual."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
)

from locum.config.counting import Alerts, CountTokens, Threshold
from locum.config.expect import Entry, ToldKind, expect, unit, wrong
from locum.config.http import HttpEntry
from locum.config.notify import MOST_CHANNELS, NotifyChannel
from locum.config.reference import NAME_PATTERN, EnvName, Name, Secret, Text, own_command
from locum.config.reset import DurationMs, UsageReset
from locum.config.values import SIZE_PATTERN, size_bytes
from locum.patterns import REMEDY, PatternError, pattern
from locum.policy.failure import ALWAYS_ACT, DAY, DEFAULT_TRIGGERS, MINUTE, SECOND, WINDOW_MS, FailureKind
from locum.policy.usage import EACH_TYPE_ONCE, Weights

WHERE: tuple[Literal["message", "out", "err"], ...] = ("message", "out", "err")
PLACES = (*WHERE, "answer")
VENDOR_WINDOWS = tuple(WINDOW_MS)
AGENTS = ("claude-code", "codex", "gemini", "opencode", "qwen", "pi", "copilot", "aider", "command")
TRIGGERS = tuple(kind for kind in FailureKind if kind in DEFAULT_TRIGGERS - ALWAYS_ACT)
"""The kinds that `triggers` may name, in the order of the manual."""

Bytes = Annotated[
    int,
    BeforeValidator(size_bytes),
    expect("a size", 'write a number with K, M, G or T in quotes, such as "512M" or "1G"'),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["512M", "1G"]}),
]
Count = Annotated[int, Field(ge=1, le=1000), expect("a whole number from 1 to 1000", "write it in plain digits")]
AgentName = Annotated[
    Literal["claude-code", "codex", "gemini", "opencode", "qwen", "pi", "copilot", "aider", "command"],
    expect("an agent that locum knows", choices=AGENTS),
]


def _moves(kind: FailureKind) -> FailureKind:
    if kind not in TRIGGERS:
        raise wrong("a kind that triggers can name", "remove it: it acts, or does not, whatever triggers say")
    return kind


Trigger = Annotated[
    FailureKind,
    AfterValidator(_moves),
    expect("a failure kind", choices=[kind.value for kind in TRIGGERS]),
    WithJsonSchema({"type": "string", "enum": [kind.value for kind in TRIGGERS]}),
]


class Budgeted(Entry):
    """What a chain may spend."""

    usage_threshold_tokens: Annotated[
        Threshold,
        Field(
            description="Tokens the chain may use in one window before the tier in use is held until the window ends. "
            "null or 0: no budget."
        ),
    ] = None
    usage_reset: Annotated[UsageReset, Field(description="The window over which the chain's budgets count.")] = "week"
    usage_halt_tokens: Annotated[
        Threshold,
        Field(description="Tokens in one window after which every tier of the chain is held. null or 0: no limit."),
    ] = None
    count_tokens: Annotated[
        CountTokens | None,
        Field(
            description="Which token types the budgets of this chain and its tiers count. Left out: every type once."
        ),
    ] = None

    alerts: Annotated[Alerts, Field(description="What is told of how much the chain has used.")] = Field(
        default_factory=Alerts
    )

    @property
    def weights(self) -> Weights:
        """The weights of `count_tokens`; every type once where it is left out."""
        counted = self.count_tokens
        return EACH_TYPE_ONCE if counted is None else Weights(**counted.model_dump())


class TierEntry(Entry):
    """One rung: an agent with the login, model and environment it runs with."""

    name: Annotated[Name, Field(description="What the tier is called everywhere; unique in the file.")]
    agent: Annotated[AgentName, Field(description="The program that does the work; `command` is any other program.")]
    model: Annotated[
        Text | None, Field(description="The model to ask for, in the agent's own words. Left out: its default.")
    ] = None
    program: Annotated[
        Text | None, Field(description="The agent's executable, where it is not on PATH under its usual name.")
    ] = None
    command: Annotated[
        Annotated[tuple[Text, ...], Field(min_length=1)] | None,
        Field(
            description="Program and arguments of a `command` agent; {prompt_file} stands for the file with the prompt."
        ),
    ] = None
    args: Annotated[tuple[str, ...], Field(description="More arguments for the agent. Never put secrets here.")] = ()
    env: Annotated[
        dict[EnvName, Secret], Field(description="Environment variables for the agent: text, or references to secrets.")
    ] = Field(default_factory=dict)
    home: Annotated[
        Text | None,
        Field(description="The folder of a login of its own (CLAUDE_CONFIG_DIR, CODEX_HOME). Left out: the usual one."),
    ] = None
    account: Annotated[
        Name | None,
        Field(
            description="Whose login pays; tiers with the same account share the vendor's limits. "
            "Left out: worked out from the agent, its home and its own login in `env`."
        ),
    ] = None
    usage_threshold_tokens: Annotated[
        Threshold, Field(description="Tokens this tier may use in one window before it is held. null or 0: no budget.")
    ] = None
    usage_reset: Annotated[
        UsageReset | None, Field(description="The window of the tier's own budget. Left out: its chain's.")
    ] = None
    alerts: Annotated[Alerts, Field(description="What is told of how much the tier has used.")] = Field(
        default_factory=Alerts
    )
    stall_after_ms: Annotated[
        DurationMs | None,
        Field(alias="stall_after", description="How long the agent may be silent. Left out: limits.stall_after."),
    ] = None
    time_limit_ms: Annotated[
        DurationMs | None,
        Field(alias="time_limit", description="How long one run may take. Left out: limits.time_limit."),
    ] = None


def _tier_shape(value: Any) -> str:
    return "TierEntry" if isinstance(value, (dict, Entry)) else "text"


TierOrName = Annotated[
    Annotated[TierEntry, Tag("TierEntry")]
    | Annotated[
        str,
        StringConstraints(pattern=NAME_PATTERN, max_length=64),
        expect("a tier or the name of one", 'write an object such as {"name": "main", "agent": "claude-code"}'),
        Tag("text"),
    ],
    Discriminator(_tier_shape),
]


class Route(Entry):
    """The tiers of a chain, and what makes it move from one to the next."""

    triggers: Annotated[
        frozenset[Trigger],
        Field(description="The failure kinds that move the chain to its next tier. Left out: all of them."),
    ] = frozenset(TRIGGERS)
    tiers: Annotated[
        tuple[TierOrName, ...],
        Field(
            min_length=1, description="The tiers, most preferred first; a text names a tier described in another chain."
        ),
    ]


class Failover(Route):
    """The chain `default`: its tiers and triggers."""


class ChainEntry(Budgeted, Route):
    """A further chain, with a state and budgets of its own."""


def _pattern(text: str) -> str:
    try:
        pattern(text)
    except PatternError as error:
        raise wrong(f"a pattern that can be used ({error})", f"mend it: {REMEDY}") from error
    return text


class SignalRule(Entry):
    """A rule that reads a failure out of what an agent wrote; it is asked before the rules that locum knows."""

    id: Annotated[Name, Field(description="What the rule is called; unique in the list.")]
    agent: Annotated[AgentName, Field(description="The agent whose output it reads.")]
    kind: Annotated[ToldKind, Field(description="The failure that a match means.")]
    pattern: Annotated[
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=1000),
            AfterValidator(_pattern),
            expect("a regular expression of at most 1000 characters", f"mend it: {REMEDY}"),
        ],
        Field(description="A regular expression (RE2's syntax), tried at the start of each line."),
    ]
    where: Annotated[
        tuple[Annotated[Literal["message", "out", "err", "answer"], expect("a place", choices=PLACES)], ...],
        Field(
            min_length=1,
            description="Where to look: the text of a typed error, standard output, standard error, "
            "the whole answer of a run that ended well and used no tool.",
        ),
    ] = WHERE
    window: Annotated[
        Annotated[
            Literal["five_hour", "daily", "seven_day", "monthly"], expect("a vendor's window", choices=VENDOR_WINDOWS)
        ]
        | None,
        Field(description="The vendor's window that a limit belongs to. Left out: not known."),
    ] = None
    model: Annotated[
        Text | None, Field(description="The one model that is limited; a group `model` in the pattern names it too.")
    ] = None
    reset: Annotated[bool, Field(description="Whether the sentence tells when it is over.")] = False
    lost_session: Annotated[bool, Field(description="Whether the session to be resumed is gone.")] = False
    remedy: Annotated[Text | None, Field(description="What to do, where the sentence itself does not say it.")] = None
    case: Annotated[Name | None, Field(description="The recorded run that the rule is for.")] = None
    said: Annotated[tuple[Text, ...], Field(description="Sentences that the rule is for.")] = ()
    twins: Annotated[tuple[Text, ...], Field(description="Sentences near to those that it must not fit.")] = ()


class Limits(Entry):
    """Bounds on tasks, runs and disk."""

    parallel: Annotated[Count, Field(description="How many tasks of one chain may run at the same time.")] = 4
    attempts: Annotated[
        Count, Field(description="How many attempts a task gets, over all tiers, before it has failed.")
    ] = 6
    task_tokens: Annotated[
        Threshold, Field(description="Tokens one task may use, over all its attempts. null or 0: no limit.")
    ] = None
    stall_after_ms: DurationMs = unit(
        "stall_after", 10 * MINUTE, "10m", "How long an agent may be silent before it is stopped."
    )
    time_limit_ms: DurationMs | None = unit(
        "time_limit", None, None, "How long one run may take. null: as long as it needs."
    )
    stop_grace_ms: DurationMs = unit(
        "stop_grace", 10 * SECOND, "10s", "How long an agent told to stop may take before it is killed."
    )
    spool_bytes: Bytes = unit("spool", 512 << 20, "512M", "How much output of one run is kept on disk.")
    min_free_bytes: Bytes = unit(
        "min_free", 512 << 20, "512M", "No new run starts with less free space on the state's disk."
    )
    retention_ms: DurationMs = unit("retention", 14 * DAY, "14d", "How long the files of finished runs are kept.")


class PostTaskEntry(Entry):
    """A command of your own that is run after each task, whether it is done, failed or cancelled."""

    command: Annotated[
        tuple[Text, ...],
        own_command("It reads the result as JSON on its standard input."),
    ]
    time_limit_ms: DurationMs = unit("time_limit", MINUTE, "1m", "How long it may take until it is stopped.")


class SourceEntry(Entry):
    """A home of an agent that no tier has, and whose sessions count all the same."""

    agent: Annotated[AgentName, Field(description="The agent that keeps its transcripts there.")]
    home: Annotated[Text, Field(description="The agent's own folder, as in a tier's `home`.")]


UsageSources = Annotated[
    Annotated[bool, expect("true, false or a list of homes", 'as [{"agent": "codex", "home": "x"}]'), Tag("flag")]
    | Annotated[tuple[SourceEntry, ...], Tag("homes")],
    Discriminator(lambda value: "homes" if isinstance(value, (list, tuple)) else "flag"),
]
_WATCHED = "Whether sessions nobody tells of are counted, by the tiers' homes; a list names more homes."
_AFTER = "A command of your own that is run after each task. Left out or null: nothing is run."
_OVER_TCP = "The API and the dashboard over TCP. Left out or null: on the daemon's socket only."


class Service(Budgeted):
    """The whole of service.json. The budget at the top is that of the chain `default`, over all its tiers."""

    schema_: Annotated[
        str | None, Field(alias="$schema", description="Where editors find the schema; locum does not read it.")
    ] = None
    failover: Annotated[Failover, Field(description="The chain `default`.")]
    chains: Annotated[dict[Name, ChainEntry], Field(description="More chains, by name.")] = Field(default_factory=dict)
    signals: Annotated[tuple[SignalRule, ...], Field(description="Your own rules for reading failures.")] = ()
    usage_sources: Annotated[UsageSources, Field(description=_WATCHED)] = True
    post_task: Annotated[PostTaskEntry | None, Field(description=_AFTER)] = None
    notify: Annotated[
        Annotated[tuple[NotifyChannel, ...], Field(max_length=MOST_CHANNELS)],
        Field(description="The channels through which people hear of notices. Left out: they are only kept."),
    ] = ()
    http: Annotated[HttpEntry | None, Field(description=_OVER_TCP)] = None
    limits: Annotated[Limits, Field(description="How much may run, how long, and on how much disk.")] = Field(
        default_factory=Limits
    )

    @property
    def tier_entries(self) -> dict[str, TierEntry]:
        """Every tier that is described in the file, by name."""
        routes: tuple[Route, ...] = (self.failover, *self.chains.values())
        return {tier.name: tier for route in routes for tier in route.tiers if isinstance(tier, TierEntry)}
