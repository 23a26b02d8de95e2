"""Finding service.json, and the rules that hold over the whole file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locum.config.load import NoConfigError, load, load_bytes, locate
from locum.config.problem import InvalidConfigError, Problem, Severity
from locum.errors import ConfigError
from tests.unit.config.helpers import PLACE, TWO, loaded, problems, service

EXAMPLE = Path(__file__).parents[3] / "service.json.example"
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("source", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_bad_configurations_read_as_agreed(source):
    """What people are told about a bad file is reviewed word by word, and all of it at once."""
    with pytest.raises(InvalidConfigError) as caught:
        load_bytes(Path("service.json"), source.read_bytes(), PLACE)
    assert str(caught.value) + "\n" == source.with_suffix(".txt").read_text()
    assert caught.value.exit_code == 78


def test_the_example_has_no_problem():
    """What people copy first must load without an error or a warning."""
    found = load(EXAMPLE, {"HOME": "/home/x"})
    assert found.warnings == ()
    assert [tier.name for tier in found.plan.chains["default"].tiers] == ["claude-max", "claude-api", "codex", "house"]


@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_no_mutation_of_the_example_escapes(chance: random.Random, edits: int):
    """Whatever bytes a bad edit leaves, the answer is a configuration or a list of problems inside the file."""
    data = bytearray(EXAMPLE.read_bytes())
    for _ in range(edits):
        at = chance.randrange(len(data))
        data[at : at + chance.choice([0, 1, 1, 5, 200])] = chance.choice(
            [
                b"",
                b'"',
                b"{",
                b"}",
                b"[",
                b"]",
                b",",
                b":",
                b"null",
                b"-1",
                b"true",
                b"[]",
                b"{}",
                b"1e400",
                bytes([chance.randrange(256)]),
            ]
        )
    _told_within(bytes(data))


LIFETIME = (
    "service.json:1:125: warning: the threshold of chain `default` never moves it, "
    'with `usage_reset` "all" a tier held once would never come back, '
    "choose a window that ends, or use `usage_halt_tokens`."
)
SCRAPS = st.recursive(
    st.sampled_from(
        [None, True, 0, -1, 5.0, 1e300, 10**25, "", "a", "day", "all", "5h", "command", "codex", "\x1b[31m", "(?i"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "agent",
                    "tiers",
                    "command",
                    "env",
                    "text",
                    "word",
                    "[key]",
                    "default",
                    "rolling",
                    "calendar",
                    "day",
                    "credential",
                    "file",
                    "TierEntry",
                    "id",
                    "pattern",
                    "",
                    "$schema",
                    "\n",
                    "usage_reset",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = [
    "usage_threshold_tokens",
    "usage_reset",
    "usage_halt_tokens",
    "count_tokens",
    "failover",
    "chains",
    "signals",
    "limits",
]


@given(st.dictionaries(st.sampled_from(KEYS), SCRAPS), st.lists(SCRAPS, max_size=3), SCRAPS)
def test_no_value_in_any_place_escapes(top, tiers, chain):
    """Any value of any type at any key is told as a problem, never as a crash."""
    top.setdefault("failover", {"tiers": tiers})
    top.setdefault("chains", {"more": chain, "text": {"tiers": tiers}})
    _told_within(json.dumps(top).encode())


def _told_within(data: bytes) -> None:
    lines = data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").split("\n")
    try:
        load_bytes(Path("service.json"), data, PLACE)
    except InvalidConfigError as error:
        for problem in error.problems:
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
            assert str(problem).replace("\n", "").isprintable()


@pytest.mark.parametrize("value", [-1, 5.0, "5", True, False, 10**16, 1e3, [], {}, "null"])
@pytest.mark.parametrize("key", ["usage_threshold_tokens", "usage_halt_tokens"])
def test_thresholds_are_whole_numbers(key, value):
    """A threshold that is negative, fractional, quoted or a yes is refused wherever it stands."""
    told = "it must be a whole number of tokens from 0 to 1,000,000,000,000,000"
    assert [problem.why for problem in problems(service(**{key: value}))] == [told]
    assert [problem.why for problem in problems(service(limits={"task_tokens": value}))] == [told]
    if key == "usage_threshold_tokens":
        assert [problem.why for problem in problems(service([{**TWO[0], key: value}]))] == [told]
        assert [problem.why for problem in problems(service(chains={"c": {"tiers": ["a"], key: value}}))] == [told]


@pytest.mark.parametrize("value", [0, None])
def test_no_threshold_is_no_budget(value):
    """Null and 0 both mean that nothing is counted against."""
    found = loaded(service(usage_threshold_tokens=value, usage_halt_tokens=value, limits={"task_tokens": value}))
    assert found.plan.budgets == ()
    assert found.plan.meters["chain:default"].limit is None
    assert found.plan.task_tokens is None


def test_everything_but_tiers_has_a_default():
    """Two tiers are a whole configuration."""
    found = loaded({"$schema": "x", **service()})
    assert found.warnings == ()
    assert found.service.usage_reset == "week"
    limits = found.service.limits
    assert (limits.parallel, limits.attempts, limits.task_tokens, limits.stall_after_ms, limits.time_limit_ms) == (
        4,
        6,
        None,
        600_000,
        None,
    )
    assert (limits.stop_grace_ms, limits.spool_bytes, limits.min_free_bytes, limits.retention_ms) == (
        10_000,
        1 << 29,
        1 << 29,
        1_209_600_000,
    )


def test_one_tier_strips_token_budget_and_says_so():
    """A chain with nowhere to go warns, at the place where it was asked for."""
    asked = service(TWO[:1], usage_threshold_tokens=5)
    asked["failover"]["triggers"] = ["auth_error", "token_budget"]
    (warning,) = loaded(asked).warnings
    assert warning.severity is Severity.WARNING
    assert "`token_budget` does nothing in chain `default`" in str(warning)
    assert (warning.line, warning.column) == (1, json.dumps(asked).index("[", 50) + 1)
    assert loaded(service(TWO[:1], usage_threshold_tokens=5)).warnings
    assert loaded(service([{**TWO[0], "usage_threshold_tokens": 5}])).warnings


def test_one_tier_without_a_budget_is_quiet():
    """Who asked for no budget is not warned about one."""
    assert loaded(service(TWO[:1])).warnings == ()
    assert loaded(service(TWO[:1], usage_halt_tokens=5)).warnings == ()


def test_a_lifetime_threshold_warns_only_when_set():
    """`all` never moves a chain; that matters only to a threshold, and only of the chain that has it."""
    assert [str(w) for w in loaded(service(usage_threshold_tokens=5, usage_reset="all")).warnings] == [LIFETIME]
    assert loaded(service(usage_reset="all", usage_halt_tokens=5)).warnings == ()
    chains = {"c": {"tiers": ["a", "b"], "usage_threshold_tokens": 5, "usage_reset": "all"}}
    assert len(loaded(service(chains=chains)).warnings) == 1


def test_tiers_are_told_apart_by_name():
    """A name twice in the file or in a chain, or a name of nobody, is an error with a hint."""
    again = service([*TWO, {"name": "a", "agent": "codex"}])
    assert [p.what for p in problems(again)] == ["tier `a` stands twice in this chain"]
    assert [p.what for p in problems(service([*TWO, "a"]))] == ["tier `a` stands twice in this chain"]
    assert [p.what for p in problems(service(chains={"c": {"tiers": [{"name": "a", "agent": "codex"}]}}))] == [
        "a second tier `a`"
    ]
    (unknown,) = problems(service([{"name": "claude-max", "agent": "codex"}], chains={"c": {"tiers": ["claud-max"]}}))
    assert (unknown.what, unknown.remedy) == ("no tier is called `claud-max`", "did you mean `claude-max`?")
    assert problems(service(["a"], chains={"c": {"tiers": TWO}})) == ()


def test_all_problems_come_at_once():
    """A wrong type does not hide a wrong name elsewhere, and problems come in the order of the file."""
    found = problems(
        '{"usage_reset": "weak",\n "failover": {"tiers": [{"name": "a", "agent": "codx"}, "b"]},\n "limitz": {}}'
    )
    assert [(p.line, p.remedy) for p in found] == [
        (1, "did you mean `week`?"),
        (2, "did you mean `codex`?"),
        (2, "use `a`"),
        (3, "did you mean `limits`?"),
    ]


def test_secrets_written_in_the_wrong_place_are_never_shown():
    """A secret that stands where it should not is refused without being repeated."""
    secret = "sk-ant-0123456789"
    tier = {"name": "a", "agent": "codex", "args": secret, "env": {"KEY": {"credential": f"{secret}/x"}, "B": [secret]}}
    found = problems(service([tier]))
    assert len(found) == 3
    assert secret not in " ".join(map(str, found))
    assert secret not in repr(problems(service([{"name": "a", "agent": "codex", "env": secret}])))
    assert secret not in repr(problems('{"failover": ' + secret + "}"))


def test_locate_takes_the_first_place_in_order(tmp_path):
    """A nearer file wins, a named one beats them all, and only a named one is looked at when it is named."""
    cwd, home = tmp_path / "work", tmp_path / "home"
    places = [cwd / "config/service.json", cwd / "service.json", home / ".config/locum/service.json"]
    for place in reversed(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")
        assert locate(None, {}, cwd, home) == place
    (cwd / "mine.json").symlink_to("nowhere")
    assert locate(None, {"LOCUM_CONFIG": "mine.json"}, cwd, home) == cwd / "mine.json"
    assert locate(cwd / "service.json", {"LOCUM_CONFIG": "mine.json"}, cwd, home) == cwd / "service.json"
    with pytest.raises(NoConfigError, match=r"looked at .*/absent\.json"):
        locate(Path("absent.json"), {"LOCUM_CONFIG": "mine.json"}, cwd, home)


def test_locate_says_where_it_looked(tmp_path):
    """Who has no configuration learns every place where one could be."""
    with pytest.raises(ConfigError) as caught:
        locate(None, {"LOCUM_CONFIG": ""}, tmp_path, tmp_path / "home")
    for place in ("config/service.json", "home/.config/locum/service.json", "/etc/locum/service.json", "locum init"):
        assert place in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_problem_reads_as_one_line():
    """The sentence has place, what, why and remedy, and ends like one."""
    problem = Problem(Path("/x/s.json"), 3, 5, "what", "why", "do this", Severity.WARNING)
    assert str(problem) == "/x/s.json:3:5: warning: what, why, do this."
