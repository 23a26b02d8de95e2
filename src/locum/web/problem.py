"""Errors as RFC 9457 problems: one shape for every refusal."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from locum.config.problem import plain, suggest
from locum.errors import LocumError, UsageError

MEDIA_TYPE = "application/problem+json"


class TooLargeError(LocumError):
    """The request is too large."""

    code = "too_large"
    exit_code = 2
    status = 413


class UnauthorizedError(LocumError):
    """Over the network a token is needed."""

    code = "unauthorized"
    exit_code = 77
    status = 401


def problem(error: LocumError) -> Response:
    """The answer for an error that says what it is."""
    lead = (error.__doc__ or "").strip().splitlines()[0]
    return _answer(error.status, error.code, lead, error.detail or lead, error.remedy)


def misread(error: ValidationError, keys: Sequence[str]) -> UsageError:
    """What is wrong with a request's body, without repeating what was in it; `keys` are those it may have."""
    told = [_told(each, keys) for each in error.errors(include_url=False, include_input=False)]
    remedies = dict.fromkeys(remedy[:1].upper() + remedy[1:] for _, remedy in told)
    return UsageError("; ".join(what for what, _ in told), remedy="; ".join(remedies))


def _told(detail: ErrorDetails, keys: Sequence[str]) -> tuple[str, str]:
    """What is wrong, and what to do."""
    context = detail.get("ctx", {})
    name = f"`{plain('.'.join(map(str, detail['loc'])))}`" if detail["loc"] else "the body"
    match detail["type"]:
        case "missing":
            return f"{name} is missing", f"add {name}"
        case "extra_forbidden":
            return f"unknown key {name}", suggest(detail["loc"][-1], keys)
        case "expected":
            return f"{name} must be {context['expected']}", context["remedy"] or suggest("", context["choices"])
        case "json_invalid":
            return "the body is not JSON", "send an object: {…}"
        case _:
            return f"{name} must be an object", "write it in braces: {…}"


async def on_locum_error(_: Request, error: Exception) -> Response:
    """Exception handler for every LocumError."""
    assert isinstance(error, LocumError)
    return problem(error)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Exception handler for paths and methods that do not exist."""
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else "http"
    answer = _answer(error.status_code, code, error.detail, error.detail, "")
    answer.headers.update(error.headers or {})
    return answer


async def on_surprise(_: Request, error: Exception) -> Response:
    """Exception handler for what nobody foresaw; the traceback goes to the log, not to the caller."""
    remedy = "The daemon's log has the details; it goes on running."
    detail = f"the daemon made a mistake ({type(error).__name__})"
    return _answer(500, "internal", "The daemon made a mistake.", detail, remedy)


def _answer(status: int, code: str, title: str, detail: str, remedy: str) -> Response:
    content = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    return JSONResponse({**content, "remedy": remedy}, status_code=status, media_type=MEDIA_TYPE)
