"""One message to one HTTP address: signed as Standard Webhooks has it, and what the answer means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from locum import __version__
from locum.notify.body import FORMATS, Json
from locum.notify.http import SECONDS, Net, NotSentError, RefusedError, post
from locum.policy.address import AddressError, Allowed, url_of
from locum.policy.delivery import Outcome

LONGEST_LINE = 300
_HEADER = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Webhook:
    """An HTTP address with its secrets, of which nothing is ever told. The first of `secrets` is the current one."""

    url: str = field(repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)
    format: str = "standard"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allowed: Allowed = field(default_factory=Allowed)


async def send(net: Net, webhook: Webhook, message: Json, now_ms: int, seconds: float = SECONDS) -> Outcome:
    """Tell it the message once, within `seconds`; what came of it."""
    body = FORMATS[webhook.format](message)
    try:
        url = url_of(webhook.url)
        headers = {**_given(webhook.headers), **signed(webhook.secrets, message["id"], now_ms, body)}
    except AddressError as error:
        return Outcome(told=False, why=f"its url {error}", refused=True)
    except ValueError as error:
        return Outcome(told=False, why=str(error), refused=True)
    try:
        reply = await post(net, url, headers, body, webhook.allowed, seconds)
    except RefusedError as error:
        return Outcome(told=False, why=str(error), refused=True)
    except NotSentError as error:
        return Outcome(told=False, why=str(error))
    return _judged(reply.status, reply.line, reply.retry_after, now_ms)


def signed(secrets: Sequence[str], id_: str, now_ms: int, body: bytes) -> dict[str, str]:
    """The headers of a message: what it is, and a signature with each secret. Raises ValueError for one that is none.

    The time is that of the attempt; the id is the same in all of them.
    """
    headers = {
        "content-type": "application/json",
        "user-agent": f"locum/{__version__}",
        "webhook-id": id_,
        "webhook-timestamp": str(now_ms // 1000),
    }
    if secrets:
        moment = datetime.fromtimestamp(now_ms // 1000, UTC)
        signatures = (_signature(each, id_, moment, body) for each in secrets)
        headers["webhook-signature"] = " ".join(signatures)
    return headers


def _signature(secret: str, id_: str, moment: datetime, body: bytes) -> str:
    import standardwebhooks  # noqa: PLC0415 - only a daemon that signs needs it

    try:
        return standardwebhooks.Webhook(secret).sign(id_, moment, body.decode())
    except Exception:  # noqa: BLE001 - whatever is wrong with a secret, nothing of it may be told
        raise ValueError("its secret is none: write `whsec_` and 24 to 64 random bytes in base64") from None


def _given(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The operator's headers. Raises ValueError for a value that would be more than one line."""
    for name, value in headers.items():
        if not _HEADER.fullmatch(value):
            raise ValueError(f"its header {name} holds what no header can")
    return {name.lower(): value for name, value in headers.items()}


def _judged(status: int, line: str, retry_after: str | None, now_ms: int) -> Outcome:
    why = line[:LONGEST_LINE]
    if 200 <= status < 300:
        return Outcome(told=True, why=why, status=status)
    if status == HTTPStatus.GONE:
        return Outcome(told=False, why=why or "410 Gone", status=status, gone=True)
    if 300 <= status < 400:
        why = "it answers with a redirect, which is never followed: name the address itself"
    return Outcome(told=False, why=why or _phrase(status), status=status, after_ms=_after_ms(retry_after, now_ms))


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"


def _after_ms(text: str | None, now_ms: int) -> int | None:
    """How long to wait, from seconds or a date; None for what is neither, or has passed."""
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        return min(int(text[:12]), 10**9) * 1000
    try:
        moment = parsedate_to_datetime(text)
        at_ms = int(moment.timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0, at_ms - now_ms) or None
