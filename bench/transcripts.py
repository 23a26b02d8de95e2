"""A home of Claude Code with years of transcripts in it, the same ones from the same seed, and what is true of them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from locum.policy.usage import NO_TOKENS, Tokens

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
MODELS = ("claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001")
_WORDS = (
    *("the", "file", "is", "read", "again", "and", "tests", "pass", "so", "a", "line", "in", "this", "module", "must"),
    *("be", "wrong", "return", "value", "None", "error", "def", "class", "import", "self", "path", "open", "write"),
    *("config", "token", "limit", "server", "0x7f", "42", "because", "however", "first", "then", "next", "run", "—"),
)


@dataclass(frozen=True, slots=True)
class Tree:
    """What to make: about `size` bytes in about `files` transcripts, the last row not after `end_ms`."""

    size: int
    files: int = 617
    seed: int = 1
    days: int = 90
    end_ms: int = 1_790_000_000_000


@dataclass
class Truth:
    """What the transcripts say, counted where they were made. `counts`: the largest of each type, by message."""

    counts: dict[str, Tokens] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    telling: int = 0
    size: int = 0
    files: int = 0

    @property
    def total(self) -> Tokens:
        """All messages together, each once."""
        return sum(self.counts.values(), NO_TOKENS)


def build(home: Path, tree: Tree) -> Truth:
    """Write the transcripts into `home`/projects."""
    maker = _Maker(home, tree)
    while maker.truth.files < tree.files:
        maker.session()
    return maker.truth


@dataclass
class _Session:
    """One session as it is written. `shared`: rows that a fork would copy."""

    id: str
    cwd: str
    at_ms: int
    model: str
    path: Path
    agent: str = ""
    parent: str | None = None
    rows: list[str] = field(default_factory=list)


class _Maker:
    def __init__(self, home: Path, tree: Tree) -> None:
        self.tree = tree
        self.home = home
        self.truth = Truth()
        self.chance = random.Random(tree.seed)  # noqa: S311 - the same ones each time
        self.soup = " ".join(self.chance.choices(_WORDS, k=200_000))
        self.old: _Session | None = None
        self.projects = [f"/home/dev/src/project-{number:02}" for number in range(24)]

    def session(self) -> None:
        """One session, perhaps forked off the one before, perhaps with subagents."""
        chance, tree = self.chance, self.tree
        begun_ms = tree.end_ms - tree.days * DAY + tree.days * DAY * self.truth.files // tree.files
        cwd = chance.choice(self.projects)
        own = self._uuid()
        path = self.home / "projects" / cwd.replace("/", "-") / f"{own}.jsonl"
        new = _Session(own, cwd, begun_ms + chance.randrange(DAY // 2), chance.choice(MODELS), path)
        if self.old and chance.random() < 0.08:
            shared = self.old.rows[: chance.randrange(1, len(self.old.rows) + 1)]
            new.rows = [row.replace(self.old.id, own) for row in shared]
            new.at_ms = max(new.at_ms, self.old.at_ms)
        self._talk(new, self._share())
        self._write(new)
        for number in range(chance.choice((0, 0, 0, 0, 1, 2))):
            beside = path.with_suffix("") / "subagents" / f"agent-{self._hex(7)}{number}.jsonl"
            helper = _Session(own, cwd, new.at_ms - 9 * MINUTE, MODELS[2], beside, agent=beside.stem[6:])
            self._talk(helper, self._share() // 3)
            self._write(helper)
        self.old = new

    def _share(self) -> int:
        """Bytes of one transcript: some are long, most are short."""
        left = max(1, self.tree.files - self.truth.files)
        mean = max(4_000, (self.tree.size - self.truth.size) // left)
        return int(mean * self.chance.choice((0.3, 0.6, 0.8, 1.0, 1.3, 2.0)))

    def _write(self, session: _Session) -> None:
        session.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(session.rows)
        session.path.write_text(text, encoding="utf-8")
        self.truth.files += 1
        self.truth.size += len(text.encode())
        self.truth.rows += len(session.rows)
        self.truth.telling += sum('"type":"assistant"' in row for row in session.rows)

    def _talk(self, session: _Session, size: int) -> None:
        """Turns of a person and a model, until there are that many bytes."""
        written = sum(map(len, session.rows))
        while written < size:
            first = len(session.rows)
            self._turn(session)
            written += sum(map(len, session.rows[first:]))

    def _turn(self, session: _Session) -> None:
        chance = self.chance
        self._row(session, {"type": "file-history-snapshot", "messageId": self._uuid(), "snapshot": {}}, bare=True)
        self._row(session, {"type": "user", "message": {"role": "user", "content": self._text(200)}})
        context = chance.randrange(12_000, 40_000)
        for step in range(chance.randrange(2, 12)):
            tool = f"toolu_01{self._hex(22)}"
            written = chance.randrange(200, 6_000)
            self._message(session, tool, context, written)
            context += written
            self._result(session, tool)
            if step % 5 == 4:
                data = {"type": "hook_progress", "hookEvent": "PostToolUse", "command": "callback"}
                self._row(session, {"type": "progress", "data": data, "toolUseID": tool})

    def _message(self, session: _Session, tool: str, context: int, written: int) -> None:
        """One answer of the model: a row for each of its blocks, which may count up or repeat the last count."""
        chance = self.chance
        key, request = f"msg_01{self._hex(22)}", f"req_011{self._hex(21)}"
        output = chance.randrange(30, 2_500)
        final = Tokens(chance.randrange(1, 12), output, context, written)
        blocks = self._blocks(tool)
        grows = chance.random() < 0.4
        for number, block in enumerate(blocks):
            last = number == len(blocks) - 1
            counted = output if last or not grows else min(output, 1 + number * chance.randrange(1, 8))
            usage = _usage(Tokens(final.input, counted, final.cache_read, final.cache_write))
            message = {
                "model": session.model,
                "id": key,
                "type": "message",
                "role": "assistant",
                "content": [block],
                "stop_reason": ("tool_use" if last else None),
                "stop_sequence": None,
                "usage": usage,
            }
            self._row(session, {"message": message, "requestId": request, "type": "assistant"})
        self.truth.counts[key] = final
        self.truth.models[key] = session.model

    def _blocks(self, tool: str) -> list[dict[str, object]]:
        """Thinking, words and a tool call, each of them perhaps."""
        chance = self.chance
        blocks: list[dict[str, object]] = []
        if chance.random() < 0.3:
            signature = self._hex(chance.randrange(300, 1_600))
            blocks.append({"type": "thinking", "thinking": self._text(700), "signature": signature})
        if chance.random() < 0.4:
            blocks.append({"type": "text", "text": self._text(350)})
        wanted = {"file_path": "/home/dev/src/x.py", "content": self._text(900, widest=9)}
        return [*blocks, {"type": "tool_use", "id": tool, "name": "Write", "input": wanted}]

    def _result(self, session: _Session, tool: str) -> None:
        """What a tool gave back: it stands in the row twice, and may be long."""
        said = self._text(1_100, widest=40)
        content = [{"tool_use_id": tool, "type": "tool_result", "content": said, "is_error": False}]
        result = {"stdout": said, "stderr": "", "interrupted": False, "isImage": False}
        self._row(session, {"type": "user", "message": {"role": "user", "content": content}, "toolUseResult": result})

    def _row(self, session: _Session, more: dict[str, object], *, bare: bool = False) -> None:
        own = self._uuid()
        session.at_ms = min(session.at_ms + self.chance.randrange(400, 20_000), self.tree.end_ms)
        head: dict[str, object] = {} if bare else self._head(session)
        tail = {} if bare else {"uuid": own, "timestamp": _iso(session.at_ms)}
        session.rows.append(json.dumps({**head, **more, **tail}, ensure_ascii=False, separators=(",", ":")) + "\n")
        session.parent = own

    def _head(self, session: _Session) -> dict[str, object]:
        agent = {"agentId": session.agent} if session.agent else {}
        return {
            "parentUuid": session.parent,
            "isSidechain": bool(session.agent),
            "userType": "external",
            "cwd": session.cwd,
            "sessionId": session.id,
            "version": "2.1.197",
            "gitBranch": "main",
            **agent,
        }

    def _text(self, median: int, widest: int = 6) -> str:
        """Some words: half of the texts are longer than `median`, a few up to `widest` times as long."""
        length = int(median * min(widest, self.chance.lognormvariate(0, 1)))
        start = self.chance.randrange(len(self.soup) - length - 1)
        piece = self.soup[start : start + length]
        return piece.replace(" a ", '\n"a": ')

    def _hex(self, length: int) -> str:
        return f"{self.chance.getrandbits(length * 4):0{length}x}"

    def _uuid(self) -> str:
        raw = self._hex(32)
        return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"


def _usage(tokens: Tokens) -> dict[str, object]:
    written = {"ephemeral_5m_input_tokens": tokens.cache_write, "ephemeral_1h_input_tokens": 0}
    return {
        "input_tokens": tokens.input,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": written,
        "output_tokens": tokens.output,
        "service_tier": "standard",
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
