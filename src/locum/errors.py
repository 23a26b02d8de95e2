"""Errors with a code, an exit code and a sentence for the person who reads them."""

from __future__ import annotations


class LocumError(Exception):
    """Something went wrong in locum."""

    code = "error"
    exit_code = 1
    status = 500

    def __init__(self, detail: str = "", *, remedy: str = "") -> None:
        """Take what happened (`detail`) and what to do about it (`remedy`); without one the class docstring is told."""
        self.detail = detail
        self.remedy = remedy
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """One readable text: what happened, what to do."""
        return " ".join(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        """What happened and, if it is known, what to do: each ends with its mark."""
        lead = (self.__doc__ or "").strip().splitlines()[0]
        parts = (self.detail or lead, self.remedy)
        return tuple(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts if part)


class UsageError(LocumError):
    """The command was called in a way it does not understand."""

    code = "usage"
    exit_code = 2
    status = 400


class NotFoundError(LocumError):
    """There is no such thing."""

    code = "not_found"
    exit_code = 1
    status = 404


class ConflictError(LocumError):
    """That cannot be done in the state things are in."""

    code = "conflict"
    exit_code = 1
    status = 409


class UnreachableError(LocumError):
    """The locum daemon cannot be reached."""

    code = "unreachable"
    exit_code = 69
    status = 503


class NoTierError(LocumError):
    """No tier is available now."""

    code = "no_tier"
    exit_code = 75
    status = 409


class ForbiddenError(LocumError):
    """That is not permitted."""

    code = "forbidden"
    exit_code = 77
    status = 403


class ConfigError(LocumError):
    """The configuration cannot be used."""

    code = "config"
    exit_code = 78
    status = 422


class StateError(LocumError):
    """The state on disk cannot be used."""

    code = "state"
    exit_code = 1
    status = 500
