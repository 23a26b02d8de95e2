"""Secrets by reference: read when a run starts, never shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from locum.config.place import Place
from locum.config.reference import CredentialRef, EnvRef, FileRef, Secret
from locum.errors import ConfigError

LARGEST_BYTES = 64 << 10


class SecretError(ConfigError):
    """A secret cannot be had."""

    code = "secret"


class SecretMissingError(SecretError):
    """A secret is not there."""

    code = "secret_missing"


class SecretExposedError(SecretError):
    """A secret is not secret."""

    code = "secret_exposed"


def resolve(value: Secret, environ: Mapping[str, str], base_dir: Path) -> str:
    """The text that `value` stands for; relative paths start at `base_dir`. Raises SecretError without showing it."""
    match value:
        case str():
            return value
        case EnvRef():
            return _from_environment(value.env, environ)
        case CredentialRef():
            folder = environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                detail = f"credential `{value.credential}` needs systemd, and $CREDENTIALS_DIRECTORY is not set"
                raise SecretMissingError(
                    detail, remedy='Add LoadCredential= to the unit, or use {"file": …} or {"env": …}'
                )
            return _from_file(Path(folder) / value.credential, private=False)
        case FileRef():
            place = Place(base_dir, Path(environ.get("HOME") or "/"))
            return _from_file(place.path(value.file), private=True)


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    if not environ.get(name):
        raise SecretMissingError(
            f"the environment variable `{name}` is not set", remedy="Set it for the daemon and restart"
        )
    return environ[name]


def _from_file(path: Path, *, private: bool) -> str:
    """The content without one newline at its end. What was opened is what is checked."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - by descriptor
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SecretError(f"{path} is not a file", remedy="Name a file")
            if private and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SecretExposedError(
                    f"others can use {path}", remedy=f"Run `chmod 600 {path}`, and think of changing the secret"
                )
            data = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise SecretMissingError(f"there is no {path}", remedy="Write the secret into it, with mode 600") from None
    except OSError as error:
        raise SecretError(f"{path} cannot be read ({error.strerror})", remedy="Check its owner and mode") from None
    return _text(path, data)


def _text(path: Path, data: bytes) -> str:
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data:
        raise SecretMissingError(f"{path} is empty", remedy="Write the secret into it")
    if len(data) > LARGEST_BYTES or b"\0" in data:
        raise SecretError(f"{path} holds no usable secret", remedy="Write the bare secret into it, as one line")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8 text", remedy="Write the bare secret into it, as one line") from None
