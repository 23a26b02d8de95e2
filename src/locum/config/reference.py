"""What several parts of service.json are made of: names, texts and references to secrets."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, StringConstraints, Tag

from locum.config.expect import Entry, expect

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN, max_length=64),
    expect("a name", "write 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"),
]
Text = Annotated[str, StringConstraints(min_length=1), expect("text that is not empty", "write it in double quotes")]


def own_command(reads: str) -> Any:
    """The field of a program that the operator has written; `reads`: what it is told, and how it answers."""
    where = "Program and arguments; a path starts at the folder of service.json, where it runs too."
    return Field(min_length=1, description=f"{where} {reads}")


class CredentialRef(Entry):
    """A secret that systemd hands to the service (`LoadCredential=`)."""

    credential: Annotated[Name, Field(description="The name of a file in $CREDENTIALS_DIRECTORY.")]


class FileRef(Entry):
    """A secret in a file of its own; refused when others than its owner can read it."""

    file: Annotated[Text, Field(description="Path of the file; relative paths start at the folder of service.json.")]


class EnvRef(Entry):
    """A secret in the daemon's own environment."""

    env: Annotated[Text, Field(description="The name of the environment variable.")]


SecretRef = CredentialRef | FileRef | EnvRef


def _secret_shape(value: Any) -> str:
    if isinstance(value, Entry):
        return type(value).__name__
    shapes = {"credential": "CredentialRef", "file": "FileRef", "env": "EnvRef"}
    return next((shapes[key] for key in shapes if key in value), "text") if isinstance(value, dict) else "text"


_SECRETS = 'write text, {"credential": "name"}, {"file": "path"} or {"env": "NAME"}'
Secret = Annotated[
    Annotated[str, expect("text or a reference to a secret", _SECRETS), Tag("text")]
    | Annotated[CredentialRef, Tag("CredentialRef")]
    | Annotated[FileRef, Tag("FileRef")]
    | Annotated[EnvRef, Tag("EnvRef")],
    Discriminator(_secret_shape),
]
EnvName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256),
    expect("a name that a shell accepts", "use letters, digits and underscores, the first not a digit"),
]
