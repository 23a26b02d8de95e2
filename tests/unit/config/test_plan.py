"""From service.json to the plan of policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from locum.config.place import Place
from locum.policy.failure import DEFAULT_TRIGGERS, HOUR, FailureKind
from locum.policy.plan import Budget, Meter, Plan
from locum.policy.usage import Weights
from locum.policy.window import Block, Calendar, Lifetime, Rolling
from tests.unit.config.helpers import PLACE, TWO, loaded, problems, service

WEEK = Calendar("week", "Europe/Madrid")


def plan(value, place: Place = PLACE) -> Plan:
    """The plan of plain values."""
    return loaded(value, place).plan


def budgets(value) -> dict[str, Budget]:
    """The budgets of plain values, by id."""
    return {budget.id: budget for budget in plan(value).budgets}


def tier(**more):
    """The plain values of one tier of Claude Code."""
    return {"name": "t", "agent": "claude-code", **more}


def account(place: Place = PLACE, **more) -> str:
    """Whose login a tier uses."""
    return plan(service([tier(**more)]), place).tiers["t"].account


@pytest.mark.parametrize(
    ("reset", "rule"),
    [
        ("day", Calendar("day", "Europe/Madrid")),
        ("week", WEEK),
        ("month", Calendar("month", "Europe/Madrid")),
        ("all", Lifetime()),
        ({"rolling": "5h"}, Rolling(5 * HOUR)),
        ({"block": "1h30m"}, Block(90 * 60_000)),
        ({"calendar": "month", "day": 31}, Calendar("month", "Europe/Madrid", day=31)),
        (
            {"calendar": "week", "starts": "sunday", "at": "04:05", "timezone": "Asia/Tokyo"},
            Calendar("week", "Asia/Tokyo", weekday=6, at_minutes=245),
        ),
    ],
)
def test_every_reset_is_a_window(reset, rule):
    """Each way to write `usage_reset` means the window it says, in the host's time zone unless given."""
    assert plan(service(usage_reset=reset)).meters["chain:default"].window == rule
    assert plan(service([tier(usage_reset=reset)])).meters["tier:t"].window == rule


@pytest.mark.parametrize(
    "reset",
    ["weekly", 7, None, [], {}, {"calendar": "week", "day": 3}, {"calendar": "day", "starts": "monday"}, {"rolling": "0s"},
     {"rolling": 5}, {"rolling": "5h", "block": "5h"}, {"calendar": "month", "day": 32}, {"calendar": "month", "day": 0},
     {"calendar": "day", "at": "24:00"}, {"calendar": "day", "at": "4:00"}, {"calendar": "day", "timezone": "Mars/Olympus"},
     {"calendar": "day", "timezone": "../../etc/passwd"}, {"calendar": "day", "timezone": "America"}, {"rolling": "9999999999d"}],
)  # fmt: skip
def test_every_other_reset_is_refused(reset):
    """A window that means nothing is an error, not a guess."""
    assert problems(service(usage_reset=reset))


def test_brakes_and_their_windows():
    """Chain, tier and halt budgets count what they own, over their own or their chain's window and weights."""
    found = budgets(
        service(
            [tier(usage_threshold_tokens=7, usage_reset={"rolling": "5h"}), {**TWO[1], "usage_threshold_tokens": 8}],
            usage_threshold_tokens=5,
            usage_halt_tokens=9,
            count_tokens={"input": True, "output": 5, "cache_read": 0.1},
        )
    )
    weights = Weights(1000, 5000, 100, 0)
    assert {budget.weights for budget in found.values()} == {weights}
    assert {name: (budget.limit, budget.window, budget.acts) for name, budget in found.items()} == {
        "chain:default": (5, WEEK, True),
        "halt:default": (9, WEEK, True),
        "tier:t": (7, Rolling(5 * HOUR), True),
        "tier:b": (8, WEEK, True),
    }


def test_without_token_budget_brakes_only_tell():
    """With `token_budget` not among the triggers brakes 1 and 2 hold nothing; a halt still does."""
    value = service([tier(usage_threshold_tokens=7), TWO[1]], usage_threshold_tokens=5, usage_halt_tokens=9)
    value["failover"]["triggers"] = ["auth_error"]
    assert {name: budget.acts for name, budget in budgets(value).items()} == {
        "chain:default": False, "tier:t": False, "halt:default": True,
    }  # fmt: skip
    assert plan(value).chains["default"].triggers == {FailureKind.AUTH_ERROR}


def test_a_chain_of_one_tier_keeps_other_chains_whole():
    """Stripping `token_budget` touches neither the tier's budget in other chains nor the halt."""
    alone = service([tier(usage_threshold_tokens=7)], usage_threshold_tokens=5, usage_halt_tokens=9)
    assert {name: budget.acts for name, budget in budgets(alone).items()} == {
        "chain:default": False, "tier:t": False, "halt:default": True,
    }  # fmt: skip
    assert FailureKind.TOKEN_BUDGET not in plan(alone).chains["default"].triggers
    shared = {**alone, "chains": {"more": {"tiers": ["t", TWO[1]], "usage_threshold_tokens": 3}}}
    assert {name: budget.acts for name, budget in budgets(shared).items()} == {
        "chain:default": False, "tier:t": True, "halt:default": True, "chain:more": True,
    }  # fmt: skip


def test_a_lifetime_window_stops_brake_one_only():
    """With "all" the chain's threshold never acts; tiers and the halt are prepaid and do."""
    value = service(
        [tier(usage_threshold_tokens=7), TWO[1]], usage_threshold_tokens=5, usage_halt_tokens=9, usage_reset="all"
    )
    assert {name: (budget.acts, budget.window) for name, budget in budgets(value).items()} == {
        "chain:default": (False, Lifetime()), "tier:t": (True, Lifetime()), "halt:default": (True, Lifetime()),
    }  # fmt: skip


def test_every_scope_has_a_meter():
    """Each chain and each tier can be shown, with or without a budget."""
    value = service(
        chains={
            "more": {"tiers": ["a", tier(usage_threshold_tokens=4)], "usage_reset": "day", "usage_threshold_tokens": 6}
        }
    )
    day = Calendar("day", "Europe/Madrid")
    assert plan(value).meters == {
        "chain:default": Meter(WEEK), "tier:a": Meter(WEEK), "tier:b": Meter(WEEK),
        "chain:more": Meter(day, limit=6), "tier:t": Meter(day, limit=4),
        "account:claude-code": Meter(WEEK), "account:codex": Meter(WEEK),
    }  # fmt: skip


def test_an_account_is_shown_over_the_window_of_the_first_chain_it_pays_for():
    """A block begins with the chain's own use, so an account's window is the last so many hours; a home that no tier
    has belongs to the account that a tier with it would have.
    """
    named = tier(name="x", agent="codex", account="work")
    value = service(
        chains={"more": {"tiers": [named, "a"], "usage_reset": {"block": "5h"}, "count_tokens": {"output": True}}},
        usage_sources=[{"agent": "codex", "home": "~/.codex-home"}],
    )
    meters = {scope: meter for scope, meter in plan(value).meters.items() if scope.startswith("account:")}
    home = Path("~/.codex-home").expanduser()
    assert meters["account:work"] == Meter(Rolling(5 * 3_600_000), Weights(0, 1000, 0, 0))
    assert [meter for scope, meter in meters.items() if scope.startswith("account:codex@")] == [Meter(WEEK)], home
    assert meters["account:claude-code"] == Meter(WEEK)


def test_chains_share_tiers_by_name():
    """A tier listed by name is the very tier of the other chain, in the order of the list."""
    chains = plan(service(["t", *TWO], chains={"more": {"tiers": [tier(model="opus"), "a"], "triggers": []}})).chains
    assert [found.name for found in chains["default"].tiers] == ["t", "a", "b"]
    assert chains["default"].tiers[0] == chains["more"].tiers[0]
    assert chains["more"].triggers == frozenset()
    assert chains["default"].triggers <= DEFAULT_TRIGGERS


def test_limits_reach_the_plan():
    """Attempts and tokens of a task are bounded as the file says."""
    found = plan(service(limits={"attempts": 3, "task_tokens": 1000}))
    assert (found.attempts, found.task_tokens) == (3, 1000)


def test_accounts_follow_the_login():
    """Same agent, home and credentials is one account; any other login is another; a given name wins."""
    assert (
        account() == account(model="opus", args=["-v"], env={"TERM": "dumb", "MAX_OUTPUT_TOKENS": "5"}) == "claude-code"
    )
    assert account(home="~/.claude-b") == "claude-code@/home/x/.claude-b"
    assert account(home="b") == account(home="/etc/locum/b") == "claude-code@/etc/locum/b"
    assert (
        account(env={"ANTHROPIC_API_KEY": {"credential": "anthropic"}})
        == "claude-code+ANTHROPIC_API_KEY=credential:anthropic"
    )
    assert account(env={"CLAUDE_CONFIG_DIR": "/b"}) == account(home="/b") == account(home="/b", env={"HOME": "/x"})
    assert account(env={"CLAUDE_CONFIG_DIR": "/b"}, home="/c") == "claude-code@/b", "as the agent has it"
    assert account(env={"HOME": "/x"}) == "claude-code+HOME=/x"
    assert account(agent="opencode", env={"XDG_DATA_HOME": "/x"}) == "opencode+XDG_DATA_HOME=/x"
    assert account(env={"ANTHROPIC_BASE_URL": "http://one"}) != account(env={"ANTHROPIC_BASE_URL": "http://two"})
    assert account(account="work", home="b") == "work"
    assert account(agent="command", command=["x"]) == "command:t"


@pytest.mark.parametrize("secret", ["ghp_plain", {"credential": "x"}, {"file": "k"}, {"env": "X"}])
def test_what_is_secret_and_no_login_of_the_agent_makes_no_other_account(secret):
    """A key for a tool, a server or another agent leaves the account as it is; the agent's own key makes it another."""
    for name in ("GITHUB_TOKEN", "JIRA_BASE_URL", "MY_PASSWORD", "OPENAI_API_KEY", "BRAVE_API_KEY", "CODEX_HOME"):
        assert account(env={name: secret}) == "claude-code", name
    server = ["-c", 'mcp_servers.hub={url="x", bearer_token_env_var="HUB_TOKEN"}']
    assert account(agent="codex", args=server, env={"HUB_TOKEN": secret}) == "codex"
    assert account(agent="command", command=["x"], env={"API_KEY": secret}) == "command:t"
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "AWS_PROFILE"):
        assert account(env={name: secret}) != "claude-code", name


@pytest.mark.parametrize(
    ("agent", "env", "args"),
    [
        ("codex", {}, ["-c", 'model_providers.house={name="h", base_url="http://h", env_key="HOUSE"}']),
        ("codex", {}, ["-c", "model_providers.house.env_key='HOUSE'"]),
        ("opencode", {"OPENCODE_CONFIG_CONTENT": '{"provider":{"h":{"options":{"apiKey":"{env:HOUSE}"}}}}'}, []),
    ],
)
def test_the_key_of_a_provider_of_ones_own_is_a_login(agent, env, args):
    """Where a tier itself names the variable that holds its key, that variable tells accounts apart."""
    found = {account(agent=agent, args=args, env={**env, "HOUSE": {"credential": each}}) for each in ("a", "b")}
    assert len(found) == 2
    assert account(agent="opencode", env={"GROQ_API_KEY": {"env": "G"}}) == "opencode+GROQ_API_KEY=env:G"


def test_an_account_shows_no_place_of_a_secret():
    """Where a key lies is nobody's business: files are told apart by a digest of their path."""
    one, other = (account(env={"ANTHROPIC_API_KEY": {"file": f"{name}/claude.key"}}) for name in ("a", "b"))
    assert one.startswith("claude-code+ANTHROPIC_API_KEY=file:")
    assert one != other
    assert "/" not in one
    assert "claude.key" not in one


def test_accounts_never_show_a_secret():
    """A secret that was written as plain text is told apart by a digest only."""
    shown = account(env={"ANTHROPIC_API_KEY": "sk-secret"})
    assert "secret" not in shown
    assert shown != account(env={"ANTHROPIC_API_KEY": "sk-other"})


def test_the_guard_changes_with_the_login_and_nothing_else():
    """Editing how a tier logs in or runs changes its guard; editing its budget does not."""

    def guard(place: Place = PLACE, **more) -> str:
        return plan(service([tier(**more)]), place).tiers["t"].guard

    assert guard() == guard(usage_threshold_tokens=5, stall_after="5m", usage_reset="day")
    changed = {guard(), guard(model="opus"), guard(home="b"), guard(env={"A": "1"}), guard(args=["x"]), guard(program="/x"),
               guard(home="b", place=Place(Path("/other"), Path("/home/x")))}  # fmt: skip
    assert len(changed) == 7


@pytest.mark.parametrize("weight", [-1, 1001, 0.0005, "1", None, [], 1e300])
def test_weights_are_exact_thousandths(weight):
    """A weight that cannot be counted exactly is refused."""
    assert len(problems(service(count_tokens={"input": 1, "output": weight}))) == 1


def test_a_configuration_can_be_written_out():
    """What was read can be dumped, for people and digests, with every reference as it stood."""
    value = service(
        [tier(env={"A": {"credential": "x"}, "B": "y"}, usage_reset={"rolling": "5h"}), TWO[1]],
        usage_reset={"calendar": "day"},
    )
    dumped = loaded(value).service.model_dump(mode="json", by_alias=True)
    assert dumped["failover"]["tiers"][0]["env"] == {"A": {"credential": "x"}, "B": "y"}
    assert dumped["usage_reset"]["calendar"] == "day"


def test_weights_that_count_nothing_are_refused():
    """A budget that no token counts against would never fire."""
    assert problems(service(count_tokens={}))
    assert problems(service(count_tokens={"input": False, "output": 0}))


def test_every_thousandth_is_a_weight():
    """Three decimals are exact, whatever binary fractions make of them."""
    for thousandth in [*range(1, 3000), 999_999, 1_000_000]:
        found = plan(service(count_tokens={"output": thousandth / 1000})).meters["chain:default"].weights
        assert found == Weights(0, thousandth, 0, 0)


def test_the_plan_knows_whether_something_follows_each_task():
    """Policy and ledger need no more of `post_task` than that; null is as good as nothing."""
    assert not plan(service()).post_task
    assert not plan(service(post_task=None)).post_task
    assert plan(service(post_task={"command": ["./after.sh"]})).post_task


def told_at(value) -> dict[str, list[tuple[str, int]]]:
    """Of how much people are told, by whose usage it is, lowest first."""
    alerts = plan(value).alerts
    return {
        scope: [(each.owner if each.budget else "tokens", each.at) for each in found] for scope, found in alerts.items()
    }


def test_every_budget_is_told_of_unless_said_otherwise():
    """80, 90 and 100 % of chain, halt and tier; without a limit nobody is told of anything."""
    value = service([tier(usage_threshold_tokens=100), TWO[1]], usage_threshold_tokens=100, usage_halt_tokens=110)
    assert told_at(value) == {
        "chain:default": [
            ("chain:default", 80), ("halt:default", 80), ("chain:default", 90), ("halt:default", 90),
            ("chain:default", 100), ("halt:default", 100),
        ],
        "tier:t": [("tier:t", 80), ("tier:t", 90), ("tier:t", 100)],
    }  # fmt: skip
    assert told_at(service()) == {}


def test_a_tier_is_told_of_as_its_chain_is_unless_it_says_otherwise():
    """`at_percent` is handed down, `at_tokens` is not; `[]` is none, also for a tier; a number twice is once."""
    mine = {"at_percent": [50, 50], "at_tokens": [7, 3]}
    budgeted = tier(usage_threshold_tokens=10)
    assert told_at(service([budgeted, TWO[1]], alerts=mine)) == {
        "chain:default": [("tokens", 3), ("tokens", 7)],
        "tier:t": [("tier:t", 50)],
    }
    assert told_at(service([{**budgeted, "alerts": {"at_percent": [], "at_tokens": [1]}}, TWO[1]], alerts=mine)) == {
        "chain:default": [("tokens", 3), ("tokens", 7)],
        "tier:t": [("tokens", 1)],
    }
    assert told_at(service([budgeted, TWO[1]], alerts={"at_percent": []})) == {}
    more = {"tiers": [{**budgeted, "name": "u"}, "a"], "alerts": {"at_percent": [1]}}
    assert told_at(service(alerts=mine, chains={"more": more}))["tier:u"] == [("tier:u", 1)]


def test_plain_tokens_count_as_budgets_do():
    """Over the window and with the weights of their chain or tier, with or without a limit."""
    value = service(
        [tier(usage_reset="day", alerts={"at_tokens": [5]}), TWO[1]],
        usage_reset={"rolling": "5h"},
        count_tokens={"output": True},
        alerts={"at_tokens": [6]},
    )
    (chain,), (own,) = plan(value).alerts["chain:default"], plan(value).alerts["tier:t"]
    assert (chain.window, own.window) == (Rolling(5 * HOUR), Calendar("day", "Europe/Madrid"))
    assert chain.weights == own.weights == Weights(0, 1000, 0, 0)


def test_percentages_of_nothing_are_warned_of():
    """Who asks for percent where there is no limit hears that nothing will come of it; who leaves them out does not."""

    def warned(value):
        return [str(warning) for warning in loaded(value).warnings]

    (one,) = warned(service(alerts={"at_percent": [80]}))
    assert "the percentages of chain `default` are of nothing" in one
    (one,) = warned(service([tier(alerts={"at_percent": [80]}), TWO[1]], usage_threshold_tokens=5))
    assert "the percentages of tier `t` are of nothing" in one
    assert warned(service([tier(usage_threshold_tokens=5), TWO[1]], alerts={"at_percent": [80]})) == []
    assert warned(service(usage_halt_tokens=5, alerts={"at_percent": [80]})) == []
    assert warned(service([tier(alerts={"at_percent": []}), TWO[1]], alerts={"at_tokens": [5]})) == []
