"""aider: one message for it in a file; it ends with code 0 whatever happens, and tells its tokens in a log beside."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from locum.agents import judge, lines
from locum.agents.base import Command, End, Launch, Line, Mark, Seat, Signal, Source, Verdict, home_of
from locum.agents.rules import Rule, rules_for
from locum.config.logins import KEYS
from locum.policy.failure import Failure, FailureKind
from locum.policy.usage import Tokens, Usage

LOG = "AIDER_ANALYTICS_LOG"
"""The environment variable that says where it writes what it has sent. It is a log of one run alone, so it is ours."""
_SETTINGS = "models.yml"
# Its client would ask three times for each of its own nine tries.
_ONE_TRY = b"- name: aider/extra_params\n  extra_params:\n    max_retries: 0\n"
_ERRORS = {
    "APIConnectionError": FailureKind.NETWORK,
    "AuthenticationError": FailureKind.AUTH_ERROR,
    "BadGatewayError": FailureKind.SERVER_ERROR,
    "BadRequestError": FailureKind.INVALID_REQUEST,
    "ContentPolicyViolationError": FailureKind.INVALID_REQUEST,
    "ContextWindowExceededError": FailureKind.CONTEXT_OVERFLOW,
    "InternalServerError": FailureKind.SERVER_ERROR,
    "NotFoundError": FailureKind.MODEL_UNAVAILABLE,
    "PermissionDeniedError": FailureKind.AUTH_ERROR,
    "RateLimitError": FailureKind.RATE_LIMIT,
    "ServiceUnavailableError": FailureKind.SERVER_ERROR,
    "Timeout": FailureKind.NETWORK,
    "UnprocessableEntityError": FailureKind.INVALID_REQUEST,
}
_ERROR = re.compile(r"litellm\.(?P<name>[A-Z]\w{2,60}): (?:\w{1,60}: )?(?:\w{1,60} - )?(?P<text>.*)", re.DOTALL)
# The provider's answer, as it is or as Python shows its bytes, up to its message.
_ENVELOPE = re.compile(r"""(?:b['"])?\{.{0,500}?"message": ?"(?=.)""", re.DOTALL)
_NUMBER = r"\d{1,9}(?:\.\d{1,3})?[kM]?"
_SENT = re.compile(
    rf"Tokens: (?P<sent>{_NUMBER}) sent, (?:{_NUMBER} cache (?:write|hit), )*(?P<received>{_NUMBER}) received\."
)
_FAILURES = (
    (re.compile(r"Model \S+ has hit a token limit!"), FailureKind.CONTEXT_OVERFLOW, "token_limit"),
    (re.compile(r"Output tokens: ~.* possibly exceeded output limit!"), FailureKind.NO_RESULT, "output_limit"),
    (re.compile(r"Total tokens: ~.* possibly exhausted context window!"), FailureKind.CONTEXT_OVERFLOW, "token_limit"),
    # Its edits could not be applied, or what the linter found could not be mended.
    (re.compile(r"Only \d+ reflections allowed, stopping\."), FailureKind.NO_RESULT, "reflections"),
)
_OUTCOMES = frozenset({Mark.RETRY, Mark.FAILED, Mark.DONE})
# What it prints beside the model's answer; none of it is for the next agent.
_NOISE = (
    "Aider v",
    "Detected dumb terminal",
    "Git repo:",
    "HTTPSConnectionPool(",
    "Main model:",
    "Model:",
    "Repo-map:",
    "Tokens: ",
    "Update git ",
    "Weak model:",
)
_ANSWERED = "answered"
# Told to say yes to everything, it would make a repository of any folder that is none.
_NO_NEW_REPOSITORY = 'git rev-parse --git-dir >/dev/null 2>&1 || set -- "$@" --no-git; exec "$@"'
# To a repository where git knows nobody by name it would give a name of its own, for good.
_SOMEBODY = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "user.name",
    "GIT_CONFIG_KEY_1": "user.email",
    "GIT_CONFIG_VALUE_0": "aider",
    "GIT_CONFIG_VALUE_1": "aider@localhost",
}
_MOST_SAID = 2_000


class Aider:
    """Aider, with the key of any provider that LiteLLM knows.

    Counted are the `message_send` rows of its analytics log, one for each answer of the main model. They have no id,
    but the log is of one run alone, so the place of a row in it is its key. Types of tokens are not told apart: what
    was cached is in the input. Helper calls (commit messages, summaries of a long chat) it tells nowhere.
    """

    name = "aider"
    program = "aider"
    reports_usage = True
    can_resume = False
    speaks_json = False
    variables: tuple[str, ...] = (LOG,)
    keys: tuple[str, ...] = KEYS[name]
    tells: tuple[bytes, ...] = (b'"message_send', b'"exit"')

    def __init__(self, own_rules: Sequence[Rule] = ()) -> None:
        """Judge by the shipped text rules, with the user's `own_rules` ahead of them."""
        self._rules = rules_for(self.name, own_rules)

    def command(self, launch: Launch) -> Command:
        """`aider`, the prompt in its file; its histories lie in the run's own folder and not in the work tree."""
        seat, given = launch.seat, launch.folder
        argv = (
            *("sh", "-c", _NO_NEW_REPOSITORY, self.program),
            seat.program or self.program,
            *("--message-file", str(launch.prompt_file), "--yes-always"),
            # It counts what the provider says of a whole answer, and guesses what a stream has cost.
            *("--no-stream", "--no-pretty", "--no-fancy-input"),
            *("--no-check-update", "--no-show-release-notes", "--no-show-model-warnings", "--no-analytics"),
            # The work tree is the user's: no commits in it, no line in its .gitignore; and no page of the web in the
            # prompt because the prompt names its address.
            *("--no-auto-commits", "--no-dirty-commits", "--no-gitignore", "--no-detect-urls"),
            "--no-suggest-shell-commands",
            *("--model-settings-file", str(given / _SETTINGS)),
            *(("--model", seat.model) if seat.model else ()),
            *seat.args,
        )
        home = {"HOME": str(seat.home)} if seat.home else {}
        histories = {
            "AIDER_CHAT_HISTORY_FILE": str(given / "chat.md"),
            "AIDER_INPUT_HISTORY_FILE": str(given / "input"),
            "COLUMNS": "4000",  # else it breaks its errors into lines of 80 characters
            "PYTHONUNBUFFERED": "1",  # else its output, which goes to a file, is held back
        }
        env = {**home, **histories, **_SOMEBODY, **seat.env, LOG: str(given / "analytics.jsonl")}
        return Command(argv, env, launch.prompt.encode("utf-8", "replace"), {_SETTINGS: _ONE_TRY})

    def read(self, line: Line) -> tuple[Usage | Signal, ...]:
        """What one line of its output or of its log tells."""
        if line.source is Source.OUT:
            return tuple(_told(line.data.decode("utf-8", "replace").rstrip()))
        if line.source is Source.ERR or not lines.holds(line.data, self.tells):
            return ()
        event = lines.parse(line.data)
        return tuple(_row(event, line)) if event is not None else ()

    def sources(self, seat: Seat, cwd: Path, session: str, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """The log of this run, whatever its session: there is none."""
        log = env.get(LOG, "")
        return (glob.escape(log),) if log.startswith("/") else ()

    def histories(self, seat: Seat, env: Mapping[str, str]) -> tuple[str, ...]:  # noqa: ARG002
        """None: it keeps no count of what its user does with it."""
        return ()

    def session_of(self, path: Path) -> str:  # noqa: ARG002
        """None, as above."""
        return ""

    def verdict(self, end: End, signals: Sequence[Signal]) -> Verdict:
        """What the end meant. Its log tells whether it came to its end, its output what stood in the way."""
        over = next((each for each in reversed(signals) if each.rule.startswith("exit:")), None)
        told = [each for each in signals if each is not over and each.mark in _OUTCOMES]
        last, said = told[-1] if told else None, _said(end.out_tail)
        answered = over.mark is Mark.DONE if over else end.exit == 0 and last is not None and last.mark is Mark.DONE
        # Helper calls fail in the same words, and what is answered is answered.
        if last is not None and (last.mark is Mark.FAILED or (last.mark is Mark.RETRY and not answered)):
            whole = _last_error(end.out_tail) if last.mark is Mark.RETRY else ""
            stopped = end.exit is None or judge.killed_by(end.exit) is not None
            mark = Mark.RETRY if last.mark is Mark.RETRY and stopped else Mark.FAILED
            failure = judge.judge(structs.replace(last, mark=mark, text=whole or last.text), self._rules, end, ())
            return replace(failure, said=said)
        if answered:
            return judge.verdict(self.program, self._rules, end, [Signal(Mark.DONE, said)])
        why = judge.verdict(self.program, self._rules, end, ())
        if over is not None and isinstance(why, Failure) and why.rule == "exit:0":
            why = judge.by_text(self._rules, end) or Failure(FailureKind.NO_RESULT, over.text, over.rule)
        return why

    def credentials(self, seat: Seat, env: Mapping[str, str]) -> tuple[Path, ...]:
        """The files that may hold its keys."""
        home = Path("/", home_of(seat, env, "HOME", ""))
        return (home / ".aider.conf.yml", home / ".env", home / ".aider" / "oauth-keys.env")


def _told(said: str) -> Iterator[Signal]:
    """What one line of its output tells. Whatever a model says comes before the line that tells what it cost."""
    error, sent = _ERROR.match(said), _SENT.match(said)
    if error:
        kind = _ERRORS.get(error["name"])
        yield Signal(Mark.RETRY, _why(error) or said, kind, rule=f"litellm:{error['name']}")
    elif sent:
        yield Signal(Mark.SAID, said)
        yield Signal(Mark.DONE, tokens=Tokens(_rounded(sent["sent"]), _rounded(sent["received"])), rule="tokens")
    for sentence, kind, rule in _FAILURES:
        if sentence.match(said):
            yield Signal(Mark.FAILED, said, kind, rule=rule)


def _rounded(number: str) -> int:
    """About how many tokens "2.0k" are."""
    return int(float(number.rstrip("kM")) * {"k": 1_000, "M": 1_000_000}.get(number[-1], 1))


def _row(event: Mapping[str, Any], line: Line) -> Iterator[Usage | Signal]:
    """What a row of its log tells. That the last message was answered is known by what the row before it left."""
    told, at = lines.table(event.get("properties")), event.get("time")
    match event.get("event"):
        case "message_send_starting":
            yield Signal(Mark.MESSAGE, "asked")
        case "message_send":
            yield Signal(Mark.MESSAGE, _ANSWERED)
            model = lines.text(told.get("main_model"))
            tokens = Tokens(lines.count(told.get("prompt_tokens")), lines.count(told.get("completion_tokens")))
            if tokens:
                known = None if not model or model.endswith("/REDACTED") else model
                yield Usage(f"{line.run}:{line.offset}", tokens, known, at_ms=lines.epoch_ms(at))
        case "message_send_exception":
            yield Signal(Mark.RETRY, lines.text(told.get("exception")), rule="message_send_exception")
        case "exit":
            reason = lines.text(told.get("reason")) or "no reason told"
            if line.message == _ANSWERED:
                yield Signal(Mark.DONE, rule="exit:answered")
            else:
                yield Signal(Mark.FAILED, f"aider ended ({reason}) without an answer", rule="exit:unanswered")


def _last_error(tail: str) -> str:
    """The last error in the output, whose lines were wrapped to the width of a terminal, as one line."""
    start = tail.rfind("\nlitellm.")
    block = tail[start + 1 :].partition("\n\n")[0].partition("\nRetrying in ")[0]
    error = _ERROR.match(" ".join(block.split())) if start >= 0 or tail.startswith("litellm.") else None
    return _why(error) if error else ""


def _why(error: re.Match[str]) -> str:
    """The provider's sentence, with what follows it: where it is told as JSON, its reset may."""
    text = error["text"]
    ahead = _ENVELOPE.match(text)
    return text[ahead.end() :] if ahead else text


def _said(tail: str) -> str:
    """What the model said, as far as the end of the output tells."""
    kept = [each for each in tail.partition("\nlitellm.")[0].splitlines() if not each.startswith(_NOISE)]
    return "\n".join(kept).strip()[-_MOST_SAID:]
