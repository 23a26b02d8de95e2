"""The rules as people meet them: listed, proved, tried on a run, added, refused, taken out. Without a daemon."""

# ruff: noqa: RUF001 - vendors write typographic apostrophes, and so must we to test them

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from locum.agents.proof import prove
from locum.agents.registry import AGENTS
from locum.agents.replay import CORPUS, STREAMS, TRANSCRIPT, cases
from locum.agents.score import basis_table, scores, shipped_bases, table
from locum.cli import given as given_files
from locum.config.load import load
from locum.engine.spool import Spool
from locum.policy.failure import Failure, FailureKind
from locum.policy.plan import Tier
from locum.policy.task import Ending, RunState
from locum.policy.usage import Tokens
from locum.words import iso
from tests.ledgers import opened, started
from tests.unit.cli.daemon import answering, problem

ROOT = Path(__file__).resolve().parents[3]
OK = CORPUS / "codex" / "ok"
RULE = {
    "--id": "mine.quota",
    "--agent": "codex",
    "--kind": "usage_limit",
    "--pattern": "(?:ERROR: )?The team allowance is used up",
    "--twin": "The team allowance is nearly used up",
}
LATER = '{"type":"turn.failed","error":{"message":"The team allowance is used up. Renews on Monday"}}\n'
QUOTA = '{"type":"turn.failed","error":{"message":"The team allowance is used up, it resets at 9:41 AM (UTC)"}}\n'


def options(**changed: str) -> list[str]:
    """The rule as options, with some of them changed."""
    return [part for pair in {**RULE, **{f"--{key}": value for key, value in changed.items()}}.items() for part in pair]


@pytest.fixture
def config(tmp_path):
    """A service.json where it is found."""
    path = tmp_path / "service.json"
    path.write_text('{"failover": {"tiers": [{"name": "a", "agent": "codex"}]}}')
    return path


# ── explain ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_explain_tells_what_the_corpus_expects_of_every_run(cli, tmp_path):
    """Kind, reset, rule and tokens of every recorded run, from its files alone, are those a person read from it."""
    differing = []
    for case in cases():
        files = [(f"--{name}", case.folder / name) for _, name in STREAMS] + [
            ("--transcript", case.folder / TRANSCRIPT)
        ]
        if case.expected["usage"] and not case.transcript_is_found(AGENTS[case.agent], case.expected["session"] or ""):
            files = files[:-1]
        given = [str(part) for name, path in files if path.exists() for part in (name, path)]
        code = "none" if case.meta["exit"] is None else str(case.meta["exit"])
        if not (case.folder / "stdout").exists():
            (tmp_path / "empty").touch()
            given += ["--stdout", "empty"]
        done = cli(
            "signals",
            "explain",
            "--agent",
            case.agent,
            "--exit",
            code,
            *given,
            "--timezone",
            case.end.timezone,
            "--at",
            iso(case.end.ended_ms),
            "--json",
        )
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert list(told)[:5] == ["kind", "reset", "usage", "rule", "evidence"]
        wanted = {key: case.expected[key] for key in ("kind", "reset", "usage", "rule")}
        differing += [(case.name, key, told[key], each) for key, each in wanted.items() if told[key] != each]
    assert not differing


def test_explain_for_people_is_short(cli):
    """What failed, by which rule, what was said, until when, and what was spent."""
    case = CORPUS / "claude-code" / "usage_limit.oauth" / "stdout"
    done = cli(
        "signals",
        "explain",
        "--agent",
        "claude-code",
        "--exit",
        "1",
        "--stdout",
        str(case),
        "--at",
        "2026-11-22T07:00:00Z",
    )
    assert done.stdout.splitlines() == [
        "usage_limit, by rate_limit_event:five_hour",
        "  it said: You've hit your session limit · resets 9:39am (UTC)",
        "  over at 2026-11-22T09:39:11Z, believed until 2026-11-22T09:39:11Z",
        "  tokens: input 0, output 0, cache_read 0, cache_write 0",
    ]
    well = cli("signals", "explain", "--agent", "codex", "--exit", "0", "--stdout", str(OK / "stdout"))
    assert well.stdout.startswith("success\n")


@pytest.mark.parametrize(
    ("sentence", "reset", "until"),
    [
        ("5-hour limit reached ∙ resets 5:30am", "2026-11-22T05:30:00Z", "2026-11-22T05:30:00Z"),
        ("You've hit your session limit · resets 5:30am (Europe/Madrid)", "2026-11-22T04:30:00Z", "2026-11-22T04:30:00Z"),
        ("You’ve hit your session limit · resets 1am (UTC)", "2026-11-23T01:00:00Z", "2026-11-22T09:00:00Z"),
        ("You've hit your weekly limit · resets Dec 25, 4:39am (UTC)", "2026-12-25T04:39:00Z", "2026-11-30T03:00:00Z"),
        ("Claude AI usage limit reached|1755615600", "2025-08-19T15:00:00Z", "2026-11-22T03:30:00Z"),
        ("Claude AI usage limit reached|7999999999", "2223-07-06T14:13:19Z", "2026-11-30T03:00:00Z"),
    ],
)  # fmt: skip
def test_a_reset_is_told_as_it_was_and_believed_as_far_as_its_window(cli, tmp_path, sentence, reset, until):
    """`reset` is what the vendor said, in its zone; `until` is what locum makes of it."""
    (tmp_path / "out").write_text(f"{sentence}\n")
    done = cli(
        "signals",
        "explain",
        "--agent",
        "claude-code",
        "--exit",
        "1",
        "--stdout",
        "out",
        "--at",
        "2026-11-22T03:00:00Z",
        "--timezone",
        "UTC",
        "--json",
    )
    told = json.loads(done.stdout)
    assert (told["kind"], told["reset"], told["until"]) == ("usage_limit", reset, until)


def test_text_for_people_among_the_json_hides_nothing(cli, tmp_path):
    """Warnings, progress bars, binary noise and half lines between the lines of JSON change no verdict and no count."""
    lines = (OK / "stdout").read_bytes().splitlines()
    noise = [
        b"npm warn deprecated x@1",
        b"\x1b[2K 40 %\r",
        b'{"half":',
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'"text"',
        b"{" * 9000,
    ]
    mixed = [part for number, line in enumerate(lines) for part in (noise[number % len(noise)], line)] + noise
    (tmp_path / "mixed").write_bytes(b"\r\n".join(mixed))
    asked = ["signals", "explain", "--agent", "codex", "--exit", "0", "--transcript", str(OK / TRANSCRIPT), "--json"]
    told = [json.loads(cli(*asked, "--stdout", path).stdout) for path in (str(OK / "stdout"), "mixed")]
    assert told[0]["kind"] is None
    assert told[0]["usage"]["input"] > 0
    assert told[0] == told[1]


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"--agent": "gpt"}, 2, "there is no agent 'gpt'"),
        ({"--exit": "one"}, 2, "--exit 'one' is no exit code"),
        ({"--exit": "256"}, 2, "is no exit code"),
        ({"--exit": "-65"}, 2, "is no exit code"),
        ({"--stdout": "gone"}, 1, "--stdout gone cannot be read: No such file"),
        ({"--stdout": "."}, 1, "cannot be read: Is a directory"),
        ({"--stdout": ""}, 1, "cannot be read: No such file"),
        ({"--stdout": "pipe"}, 1, "--stdout pipe was silent for"),
        ({"--stdout": "-", "--stderr": "-"}, 2, "standard input can be one file only"),
        ({"--stderr": "gone"}, 1, "--stderr gone cannot be read"),
        ({"--transcript": "gone"}, 1, "--transcript gone cannot be read"),
        ({"--at": "noon"}, 2, "--at 'noon' is no moment"),
        ({"--at": "2026-11-22T07:00:00"}, 2, "has no zone"),
        ({"--timezone": "Mars/Olympus"}, 2, "there is no time zone 'Mars/Olympus'"),
        ({"--timezone": ""}, 2, "there is no time zone ''"),
    ],
)
def test_what_explain_cannot_use_is_told_with_what_to_do(cli, tmp_path, monkeypatch, given, code, words):
    """Each mistake has a sentence, a remedy and its exit code, and nothing on standard output."""
    monkeypatch.setattr(given_files, "SILENCE_S", 0.1)
    os.mkfifo(tmp_path / "pipe")
    asked = {"--agent": "codex", "--exit": "0", "--stdout": str(OK / "stdout"), **given}
    done = cli("signals", "explain", *(part for pair in asked.items() for part in pair), "--json")
    assert (done.exit_code, done.stdout) == (code, "")
    told = done.stderr.splitlines()
    assert words in told[0]
    assert told[1].startswith("  ")


@pytest.mark.timeout(20)
def test_explain_reads_pipes_devices_links_and_standard_input(cli, tmp_path):
    """What a shell makes of `<(…)`, `-` and /dev/null is read as the file behind it would be."""
    case = CORPUS / "gemini" / "auth.default"
    asked = [sys.executable, "-c", "from locum.cli.main import main; main()", "signals", "explain", "--json"]
    asked += ["--agent", "gemini", "--exit", "144", "--at", "2026-11-22T07:00:00Z"]
    (tmp_path / "link").symlink_to(case / "stdout")

    def told(line: str) -> str:
        command = f"{shlex.join(asked)} {line}"
        done = subprocess.run(["bash", "-c", command], cwd=case, capture_output=True, text=True, timeout=15, check=True)
        return done.stdout

    plain = told("--stdout stdout --stderr stderr")
    assert json.loads(plain)["kind"] == "auth_error"
    assert told("--stdout <(cat stdout) --stderr <(sleep 0.2; cat stderr)") == plain
    assert told(f"--stdout {shlex.quote(str(tmp_path / 'link'))} --stderr - < stderr") == plain
    silent = cli("signals", "explain", "--agent", "codex", "--exit", "0", "--stdout", os.devnull, "--json")
    assert json.loads(silent.stdout)["kind"] == "no_result"


def test_what_does_not_end_is_read_no_further_than_any_file(cli, monkeypatch):
    """A device without an end is judged by as much as is read of a file; what drips for too long is refused."""
    asked = ["signals", "explain", "--agent", "codex", "--exit", "1", "--stdout", "/dev/zero", "--json"]
    monkeypatch.setattr(given_files, "MOST", 40 << 20)
    assert json.loads(cli(*asked).stdout)["kind"] == "unknown"
    monkeypatch.setattr(given_files, "LONGEST_S", 0)
    done = cli(*asked)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--stdout /dev/zero does not end within 0 s" in done.stderr


def test_a_huge_and_a_binary_output_are_judged_by_what_they_tell(cli, tmp_path):
    """Two gigabytes of nothing, and noise, end in a verdict: they are read in pieces and never held whole."""
    (tmp_path / "noise").write_bytes(os.urandom(1 << 20))
    (tmp_path / "holes").touch()
    os.truncate(tmp_path / "holes", 64 << 20)
    for name in ("noise", "holes"):
        done = cli("signals", "explain", "--agent", "claude-code", "--exit", "1", "--stdout", name, "--json")
        assert json.loads(done.stdout)["kind"] == "unknown"


# ── list and test ────────────────────────────────────────────────────────────────────────────────────────────


def test_rules_are_listed_in_the_order_in_which_they_are_asked(cli, config):
    """Those of service.json, those that were added, those that ship; each with all that is known of it."""
    own = {"id": "own", "agent": "codex", "kind": "network", "pattern": "no line at all"}
    config.write_text(json.dumps({"failover": {"tiers": [{"name": "a", "agent": "codex"}]}, "signals": [own]}))
    assert cli("signals", "add", *options(), "--said", "The team allowance is used up").exit_code == 0
    rules = json.loads(cli("signals", "list", "--json").stdout)["rules"]
    assert [(rule["id"], rule["origin"]) for rule in rules[:2]] == [("own", "service.json"), ("mine.quota", "added")]
    assert {rule["origin"] for rule in rules[2:]} == {"shipped"}
    assert all(rule["case"] or rule["said"] for rule in rules[2:])
    assert len({rule["id"] for rule in rules}) == len(rules)
    plain = cli("signals", "list", "--agent", "codex").stdout
    assert plain.startswith("own ")
    assert "codex.usage_limit" in plain
    assert "claude." not in plain


def test_what_rules_rest_on_is_counted(cli, config):
    """Which rules have a recorded run behind them and which only a sentence is no secret, one's own among them."""
    own = {"id": "own", "agent": "codex", "kind": "network", "pattern": "no line at all"}
    gone = {**own, "id": "gone", "case": "no.such.run"}
    config.write_text(json.dumps({"failover": {"tiers": [{"name": "a", "agent": "codex"}]}, "signals": [own, gone]}))
    assert cli("signals", "add", *options(), "--said", "The team allowance is used up").exit_code == 0
    told = json.loads(cli("signals", "list", "--json").stdout)
    shipped_rules = [rule for rule in told["rules"] if rule["origin"] == "shipped"]
    recorded = sum(rule["case"] is not None for rule in shipped_rules)
    cited = len(shipped_rules) - recorded + 1
    assert told["proof"] == {"recorded": recorded, "cited": cited, "neither": 2}
    last = f"{len(told['rules'])} rules: {recorded} with a recorded run, {cited} only with a sentence, 2 neither"
    assert cli("signals", "list").stdout.splitlines()[-1] == last
    codex = json.loads(cli("signals", "list", "--agent", "codex", "--json").stdout)
    assert sum(codex["proof"].values()) == len(codex["rules"]) < len(told["rules"])


def test_the_corpus_is_proved_and_the_page_shows_its_figures(cli):
    """docs/specs/agents.md has the table that `locum signals test` prints (tests/corpus/table.py writes it)."""
    done = cli("signals", "test")
    assert done.exit_code == 0
    rows = list(table(scores(prove((), cases()))))
    assert done.stdout.splitlines()[: len(rows)] == rows
    assert "\n".join(rows) in (ROOT / "docs" / "specs" / "agents.md").read_text()
    assert "\n".join(basis_table(shipped_bases(cases()))) in (ROOT / "docs" / "specs" / "agents.md").read_text()
    told = json.loads(cli("signals", "test", "--json").stdout)
    assert told["proved"]
    assert told["overall"]["runs"] == sum(case.expected["kind"] is not None for case in cases())


def test_a_rule_of_service_json_that_breaks_something_fails_the_test(cli, config):
    """Exit code 1, the case by its name, and figures that show it: nothing keeps anybody from writing such a rule."""
    own = {"id": "wide", "agent": "codex", "kind": "crash", "pattern": "You.ve hit"}
    config.write_text(json.dumps({"failover": {"tiers": [{"name": "a", "agent": "codex"}]}, "signals": [own]}))
    done = cli("signals", "test")
    assert done.exit_code == 1
    assert "wrong: wide on run 'codex/usage_limit.default': it is told as crash, not usage_limit" in done.stdout
    told = json.loads(cli("signals", "test", "--json").stdout)
    assert not told["proved"]
    assert told["kinds"]["crash"]["precision"] < 1
    assert told["kinds"]["usage_limit"]["recall"] < 1
    assert {"what", "on", "rule", "wrong"} == set(told["wrong"][0])


# ── add and remove ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_rule_is_added_used_and_taken_out(cli, config, tmp_path):
    """It is a file of its own; explain judges by it from then on, and no more once it is removed."""
    (tmp_path / "out").write_text("ERROR: The team allowance is used up until tomorrow\n")
    asked = ["signals", "explain", "--agent", "codex", "--exit", "1", "--stderr", "out", "--stdout", "out", "--json"]
    assert json.loads(cli(*asked).stdout)["kind"] == "unknown"
    done = cli(
        "signals", "add", *options(), "--said", "The team allowance is used up.", "--twin", "The team allowance grew"
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "no daemon runs: the next one reads it"
    assert load(config, {}).added[0].said == ("The team allowance is used up.",)
    assert "rules of your own: 0 in service.json, 1 in signals/" in cli("check").stdout
    assert [json.loads(cli(*asked).stdout)[key] for key in ("kind", "rule")] == ["usage_limit", "mine.quota"]
    assert cli("signals", "remove", "mine.quota").exit_code == 0
    assert json.loads(cli(*asked).stdout)["kind"] == "unknown"
    gone = cli("signals", "remove", "mine.quota")
    assert gone.exit_code == 1
    assert "no rule 'mine.quota' was added" in gone.stderr


@pytest.mark.parametrize("shape", ["{}", "[[rule]]\n{}"])
def test_a_rule_is_added_from_a_file(cli, config, tmp_path, shape):
    """A TOML file with the keys of a shipped rule, alone or as the only one of a list."""
    keys = "\n".join(f"{name.removeprefix('--')} = '{value}'" for name, value in RULE.items() if name != "--twin")
    (tmp_path / "r.toml").write_text(
        shape.replace("{}", f"{keys}\nsaid = 'The team allowance is used up now'\ntwins = ['x']\n")
    )
    done = cli("signals", "add", "r.toml", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["id"], told["daemon"], told["kept"]) == ("mine.quota", None, None)
    assert Path(told["path"]) == config.parent / "signals" / "mine.quota.toml"


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"pattern": "You.ve hit your usage limit", "kind": "network"}, 1, "codex/hook.fail"),
        ({"pattern": "(?:ERROR: )?exceeded retry|The team allowance is used", "kind": "overloaded", "where": "err"}, 1, "ERROR: exceeded retry limit, last status: 429"),
        ({"pattern": ".*team allowance is used"}, 1, "He was told"),
        ({"pattern": "("}, 2, "missing )"),
        ({"pattern": "(?=x)x"}, 2, "invalid perl operator"),
        ({"pattern": r"(\w+\s?){1,300}!"}, 2, "it is too large"),
        ({"pattern": "x*"}, 2, "it fits an empty line"),
        ({"kind": "usage_limt"}, 2, "did you mean `usage_limit`?"),
        ({"kind": "token_budget"}, 2, "it must be a failure kind that an agent can tell: use one of `auth_error`"),
        ({"kind": "operator"}, 2, "it must be a failure kind that an agent can tell"),
        ({"kind": ""}, 2, "it must be a failure kind that an agent can tell"),
        ({"window": ""}, 2, "it must be a vendor's window"),
        ({"agent": "gpt"}, 2, "there is no agent 'gpt'"),
        ({"id": "codex.usage_limit"}, 1, "there is a rule codex.usage_limit already (shipped)"),
        ({"id": "../escape"}, 2, '`id` is "../escape", it must be a name'),
        ({"where": "screen"}, 2, "it must be a place"),
        ({"window": "fortnight"}, 2, "it must be a vendor's window"),
        ({"run": "r-none"}, 1, "there is no run 'r-none'"),
    ],
)  # fmt: skip
def test_a_rule_that_is_wrong_is_refused(cli, config, changed, code, words):
    """What it breaks is named, what is misspelt is told, nothing is written, and what to do is said."""
    done = cli("signals", "add", *options(**changed), "--said", "The team allowance is used up")
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr
    assert not list((config.parent).glob("signals/*"))


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (["The team allowance is used up. Renews on Monday"], True),
        (["The team allowance is used up", "The team allowance is used up, resets 13pm"], True),
        (["The team allowance is used up, back at 9pm"], False),
        (["The team allowance is used up", "The team allowance is used up, back at 9pm"], False),
    ],
)
def test_a_rule_for_sentences_that_tell_a_reset_is_refused_where_none_can_be_read(cli, config, said, refused):
    """`reset` is a promise as well: at least one thing that the rule is for must show it; else nothing is written."""
    done = cli("signals", "add", *options(), "--reset", *(part for each in said for part in ("--said", each)))
    assert done.exit_code == (2 if refused else 0), done.output
    assert ("mine.quota says that the sentence tells when it is over (reset)" in done.stderr) is refused
    assert ("no reset can be read from it" in done.stderr) is refused
    assert ("Leave --reset out" in done.stderr) is refused
    assert bool(list(config.parent.glob("signals/*"))) is not refused


@pytest.mark.timeout(10)
def test_a_file_that_is_no_rule_is_refused(cli, config, tmp_path):
    """A pipe, a huge file, a binary one, a list of rules, none at all, and both ways at once."""
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "huge.toml").touch()
    os.truncate(tmp_path / "huge.toml", 2 << 30)
    (tmp_path / "binary.toml").write_bytes(b"\x00\xff")
    (tmp_path / "kind.toml").write_text("id='a'\nagent='codex'\nkind='operator'\npattern='x'\n")
    (tmp_path / "two.toml").write_text("[[rule]]\nid='a'\n[[rule]]\nid='b'\n")
    told = {
        name: cli("signals", "add", name).stderr
        for name in ("pipe.toml", "huge.toml", "binary.toml", "two.toml", "kind.toml", "gone")
    }
    assert "not a regular file" in told["pipe.toml"]
    assert "is larger than 65,536 bytes" in told["huge.toml"]
    assert "is no TOML" in told["binary.toml"]
    assert "holds 2 rules" in told["two.toml"]
    assert 'kind.toml: `kind` is "operator", it must be a failure kind that an agent can tell' in told["kind.toml"]
    assert "No such file" in told["gone"]
    codes = [cli("signals", "add", name).exit_code for name in ("huge.toml", "binary.toml", "two.toml", "kind.toml")]
    assert codes == [2] * 4, "none of them is service.json"
    assert cli("signals", "add").exit_code == 2
    assert cli("signals", "add", "two.toml", "--id", "x").exit_code == 2


def test_without_a_configuration_nothing_is_added(cli):
    """A rule lies beside service.json: without one there is no place for it, and no need."""
    done = cli("signals", "add", *options())
    assert done.exit_code == 78
    assert "there is no service.json" in done.stderr


def test_an_agent_does_not_change_how_it_is_judged(cli, config, monkeypatch):
    """In a run of locum's, rules are neither added nor taken out."""
    monkeypatch.setenv("LOCUM_RUN", "r-1")
    for asked in (["add", *options()], ["remove", "x"]):
        assert cli("signals", *asked).exit_code == 77


def test_a_rule_that_nothing_shows_a_sentence_for_is_refused(cli, config):
    """A rule without a sentence that it is for proves nothing, however little it breaks."""
    done = cli("signals", "add", *options())
    assert done.exit_code == 2
    assert "nothing shows that mine.quota fits what it is for" in done.stderr
    assert not (config.parent / "signals").exists()


@pytest.mark.parametrize("shape", ["options", "file"])
def test_a_rule_that_names_no_twin_is_refused(cli, config, tmp_path, shape):
    """What a rule must leave alone nobody else knows; it is asked for, with what it could be, and nothing is written."""
    rule = {key: value for key, value in RULE.items() if key != "--twin"} | {"--said": "The team allowance is used up"}
    (tmp_path / "r.toml").write_text("".join(f"{key[2:]} = '{value}'\n" for key, value in rule.items()))
    done = cli("signals", "add", *(["r.toml"] if shape == "file" else [part for pair in rule.items() for part in pair]))
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "locum: rule mine.quota names no sentence that it must leave alone.",
        "  Give one with --twin (`twins` in a file): near to its own, such as the warning that comes before the failure.",
    ]
    assert not (config.parent / "signals").exists()


def test_a_rule_that_fits_its_twin_is_refused(cli, config):
    """A pattern that takes the warning for the failure, which no recorded run would have shown."""
    done = cli("signals", "add", *options(pattern="The team allowance is"), "--said", "The team allowance is used up")
    assert done.exit_code == 1
    assert "it fails on twin 'The team allowance is nearly used up': it fits this" in done.stderr


def test_a_running_daemon_is_told(cli, config, tmp_path):
    """It reads the rule at once; one that keeps its last good configuration makes the verb fail with its words."""
    status = {"config": {"path": str(config)}}
    applied = {"result": "applied", "path": str(config), "problems": [], "warnings": []}
    answers = {("GET", "/status"): status, ("POST", "/reload"): applied}
    with answering(tmp_path / "locum.sock", answers) as daemon:
        done = cli("signals", "add", *options(), "--said", "The team allowance is used up.")
        assert done.exit_code == 0, done.output
        assert "the daemon has read it: applied" in done.stdout
        assert ("POST", "/reload") in [(method, path) for method, path, _ in daemon.asked]
        daemon.answers["POST", "/reload"] = {**applied, "result": "rejected", "problems": ["line 1: no."]}
        refused = cli("signals", "remove", "mine.quota")
        assert refused.exit_code == 78
        assert "the daemon does not use it: line 1: no." in refused.stderr
        daemon.answers["POST", "/reload"] = (403, problem("forbidden", "not for you"))
        assert cli("signals", "add", *options(), "--said", "The team allowance is used up.").exit_code == 77


@pytest.mark.parametrize("shape", ["folder", "neighbour", "link"])
def test_a_daemon_of_another_folder_is_not_said_to_have_read_it(cli, config, tmp_path, shape):
    """Who names a service.json hears whether the running daemon reads rules beside that one, or which one it uses."""
    other = {"folder": tmp_path / "other", "neighbour": tmp_path, "link": tmp_path / "link"}[shape]
    if shape == "link":
        other.symlink_to(tmp_path)
    other.mkdir(exist_ok=True)
    used = other / "theirs.json"
    unchanged = {"result": "unchanged", "path": str(used), "problems": ["line 1: theirs."], "warnings": []}
    answers = {("GET", "/status"): {"config": {"path": str(used)}}, ("POST", "/reload"): {**unchanged, "problems": []}}
    with answering(tmp_path / "locum.sock", answers) as daemon:
        asked = ["--config", str(config), "signals"]
        if shape != "folder":
            done = cli(*asked, "add", *options(), "--said", "The team allowance is used up.")
            assert done.stdout.splitlines()[-1] == "the daemon has read it: unchanged"
            return
        daemon.answers["POST", "/reload"] = unchanged
        done = cli(*asked, "add", *options(), "--said", "The team allowance is used up.")
        words = f"the running daemon uses another service.json ({used}) and has not read it"
        assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, words)
        told = json.loads(cli(*asked, "remove", "mine.quota", "--json").stdout)
        assert told["daemon"] == {"result": "uses another", "path": str(used), "problems": []}
        assert {path for _, path, _ in daemon.asked} == {"/status"}, (
            "nothing is asked of a daemon that is not concerned"
        )


def test_a_broken_rule_file_is_taken_out_by_its_name(cli, config):
    """What keeps the configuration from being read goes by name, the others stay, and nothing outside is touched."""
    folder = config.parent / "signals"
    (folder / "y.toml").mkdir(parents=True)
    (folder / "x.toml").write_text("no TOML")
    (folder / "other.toml").write_text("id = 'another'")
    (folder / "cases" / "codex" / "x").mkdir(parents=True)
    (config.parent / "z.toml").touch()
    (folder / ".hidden.toml").touch()
    assert cli("check").exit_code == 78
    assert cli("signals", "remove", "x").stdout.splitlines()[0] == f"removed {folder}/x.toml"
    assert not (folder / "cases" / "codex" / "x").exists()
    assert json.loads(cli("signals", "remove", "other.toml", "--json").stdout)["id"] == "other"
    for name in ("x", "../z", "../z.toml", ".hidden", "cases", "", "."):
        done = cli("signals", "remove", name)
        assert (done.exit_code, done.stderr.splitlines()[1]) == (1, "  Those that were: y."), name
    done = cli("signals", "remove", "y")
    assert (done.exit_code, done.stderr.splitlines()[1]) == (1, "  Remove it from signals/ yourself.")
    (folder / "y.toml").rmdir()
    assert cli("check").exit_code == 0
    assert (config.parent / "z.toml").exists()


# ── failures that nobody knew ────────────────────────────────────────────────────────────────────────────────


async def _failed(state: Path, out: str, secret: str) -> str:
    """A run in that state's ledger and spool, which failed in words that no rule knows."""
    state.mkdir()
    ledger = await opened(state)
    run = await started(ledger, tier=Tier("a", "codex", "acme"))
    spool = Spool(state / "runs" / run.id)
    spool.create("do it")
    spool.out.write_text(out)
    spool.err.write_text(f"debug: key {secret}\n")
    (spool.folder / "exit").write_text("1\n")
    failure = Failure(FailureKind.UNKNOWN, "The team allowance is used up", "turn.failed")
    await ledger.end_run(run.id, Ending(RunState.FAILED, 1, "", None, Tokens()), failure, run.started_ms + 1)
    await ledger.close()
    (state / "ledger.db").rename(state / "locum.db")
    return run.id


def test_an_unknown_failure_becomes_the_proof_of_its_rule(cli, config, tmp_path):
    """It is listed, kept without secrets as the rule's recorded run, judged by it, and proved ever after."""
    secret = "sk-very-secret-value"
    tier = {"name": "a", "agent": "codex", "env": {"OPENAI_API_KEY": secret}}
    config.write_text(json.dumps({"failover": {"tiers": [tier]}}))
    state = tmp_path / "state"
    head = '{"type":"thread.started","thread_id":"01a201fd-5e2d-72a2-a81c-079255530c56"}\n' + "chatter\n" * 9000
    run = anyio.run(_failed, state, f"{head}{QUOTA}", secret)
    here = ["--state", str(state), "signals"]
    (listed,) = json.loads(cli(*here, "list", "--unknown", "--json").stdout)["runs"]
    assert (listed["run"], listed["agent"], listed["reason"]) == (run, "codex", "The team allowance is used up")
    assert run in cli(*here, "list", "--unknown").stdout

    misses = cli(
        *here, "add", "--run", run, "--id", "mine.quota", "--kind", "usage_limit", "--pattern", "Another", "--twin", "x"
    )
    assert misses.exit_code == 1
    assert f"rule mine.quota does not decide run {run}" in misses.stderr
    assert not (config.parent / "signals").exists()

    asked = [part for pair in RULE.items() if pair[0] != "--agent" for part in pair]
    done = cli(*here, "add", "--run", run, *asked, "--reset", "--json")
    assert done.exit_code == 0, done.output
    kept = Path(json.loads(done.stdout)["kept"])
    assert secret not in "".join(path.read_text() for path in kept.iterdir())
    expected = json.loads((kept / "expected.json").read_text())
    assert (expected["kind"], expected["rule"]) == ("usage_limit", "mine.quota")
    assert expected["reset"].endswith("T09:41:00Z")
    assert (kept / "stdout").stat().st_size < 20_000
    assert cli("signals", "test").exit_code == 0
    told = json.loads(cli(*here, "list", "--unknown", "--json").stdout)
    assert (told["runs"], [(each["run"], each["rule"]) for each in told["explained"]]) == ([], [(run, "mine.quota")])
    assert cli(*here, "list", "--unknown").stdout.splitlines() == [
        "no failure is unknown",
        "1 failure that was unknown: mine.quota reads it now",
    ]
    assert json.loads(cli(*here, "list", "--unknown", "--agent", "pi", "--json").stdout)["explained"] == []

    said = ("--said", "The team allowance is used up")
    breaks = cli("signals", "add", *options(id="a.other", kind="network"), *said)
    assert breaks.exit_code == 1
    assert "codex/mine.quota" in breaks.stderr

    assert cli("signals", "remove", "mine.quota").exit_code == 0
    assert not kept.exists()
    assert cli("signals", "test").exit_code == 0
    assert run in cli(*here, "list", "--unknown").stdout, "without the rule it is unknown again"


def test_an_unknown_failure_without_a_reset_is_no_proof_of_one(cli, config, tmp_path):
    """With --reset it is refused, for the run says none that could be read; without, its rule has none."""
    run = anyio.run(_failed, tmp_path / "state", LATER, "sk-very-secret-value")
    asked = ["--state", str(tmp_path / "state"), "signals", "add", "--run", run]
    asked += [part for pair in RULE.items() if pair[0] != "--agent" for part in pair]
    done = cli(*asked, "--reset")
    assert done.exit_code == 2
    assert f"no reset can be read from it: run {run}" in done.stderr
    assert not (config.parent / "signals").exists()
    assert cli(*asked).exit_code == 0
    (expected,) = config.parent.glob("signals/cases/*/*/expected.json")
    assert json.loads(expected.read_text())["reset"] is None


@pytest.mark.parametrize("meta", ["{}", '{"agent": "gpt"}', '{"agent": "codex", "case": "x", "exit": "1"}', "[]", "{"])
def test_a_kept_case_that_is_broken_is_told(cli, config, meta):
    """Who edits a kept run into nonsense hears which, and how to go on."""
    folder = config.parent / "signals" / "cases" / "codex" / "x"
    folder.mkdir(parents=True)
    (folder / "expected.json").write_text("{}")
    (folder / "meta.json").write_text(meta)
    done = cli("signals", "test")
    assert done.exit_code == 78
    assert "a kept case in" in done.stderr


def test_without_a_ledger_nothing_is_unknown(cli):
    """A host on which no daemon has run yet has no failures; a ledger that is none is told."""
    assert cli("signals", "list", "--unknown").stdout == "no failure is unknown\n"
    (Path.cwd() / "locum.db").write_text("no database" * 99)
    done = cli("--state", str(Path.cwd()), "signals", "list", "--unknown")
    assert done.exit_code == 1
    assert "locum.db" in done.stderr
