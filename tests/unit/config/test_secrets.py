"""Secrets by reference."""

from __future__ import annotations

import os

import pytest

from locum.config.reference import CredentialRef, EnvRef, FileRef
from locum.config.secrets import LARGEST_BYTES, SecretError, SecretExposedError, SecretMissingError, resolve
from locum.errors import ConfigError

SECRET = "hush-0123"


@pytest.fixture
def file(tmp_path):
    """A secret in a file of its owner."""
    path = tmp_path / "key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


def test_plain_text_is_itself(tmp_path):
    """Text that is no reference is passed on unchanged."""
    assert resolve(" as is\n", {}, tmp_path) == " as is\n"


@pytest.mark.parametrize("content", ["hush-0123", "hush-0123\n", "hush-0123\r\n"])
def test_one_newline_is_not_part_of_a_secret(file, content):
    """What an editor adds at the end is taken off, once."""
    file.write_bytes(content.encode())
    assert resolve(FileRef(file="key"), {}, file.parent) == SECRET
    file.write_bytes(content.encode() + b"\n\n")
    assert resolve(FileRef(file=str(file)), {}, file.parent / "elsewhere").startswith(
        SECRET + ("\r\n" if "\r" in content else "\n")
    )


def test_the_home_folder_may_be_meant(file):
    """`~` is the daemon's own home."""
    assert resolve(FileRef(file="~/key"), {"HOME": str(file.parent)}, file.parent / "x") == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o777])
def test_a_file_that_others_can_use_is_refused(file, mode):
    """A secret with an open mode is refused, also behind a link, and never shown."""
    file.chmod(mode)
    (file.parent / "link").symlink_to(file)
    for name in ("key", "link"):
        with pytest.raises(SecretExposedError, match="chmod 600") as caught:
            resolve(FileRef(file=name), {}, file.parent)
        assert SECRET not in str(caught.value)
        assert caught.value.exit_code == 78


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_file_behind_a_link_is_fine(file, mode):
    """The mode that counts is that of the file, not of its link."""
    (file.parent / "link").symlink_to(file)
    file.chmod(mode)
    assert resolve(FileRef(file="link"), {}, file.parent) == SECRET


def test_what_is_checked_is_what_was_opened(file, monkeypatch):
    """A link swapped after opening cannot smuggle in another file's mode or content."""
    real_open = os.open

    def open_then_swap(*args, **kwargs):
        descriptor = real_open(*args, **kwargs)
        file.unlink()
        file.write_text("other")
        file.chmod(0o644)
        return descriptor

    monkeypatch.setattr(os, "open", open_then_swap)
    assert resolve(FileRef(file="key"), {}, file.parent) == SECRET


def test_credentials_come_from_systemd(file):
    """A credential is read from the folder that systemd names, whose modes are systemd's business."""
    file.chmod(0o440)
    assert resolve(CredentialRef(credential="key"), {"CREDENTIALS_DIRECTORY": str(file.parent)}, file) == SECRET
    with pytest.raises(SecretMissingError, match="LoadCredential="):
        resolve(CredentialRef(credential="key"), {}, file)


def test_the_environment_may_hold_a_secret(tmp_path):
    """A variable is read when it is set and not empty."""
    assert resolve(EnvRef(env="KEY"), {"KEY": SECRET}, tmp_path) == SECRET
    for environ in ({}, {"KEY": ""}):
        with pytest.raises(SecretMissingError, match="`KEY` is not set"):
            resolve(EnvRef(env="KEY"), environ, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\0hush", b"hush\xff", b"hush" * LARGEST_BYTES])
def test_unusable_secrets_are_told_without_being_shown(file, content):
    """Empty, binary and gigantic files are refused by name only."""
    file.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        resolve(FileRef(file="key"), {}, file.parent)
    assert "hush" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_missing_and_odd_files_are_told_apart(file):
    """A missing file, a folder and a pipe each say so and never block."""
    os.mkfifo(file.parent / "pipe", 0o600)
    cases = {"none": SecretMissingError, ".": SecretError, "pipe": SecretError, "key/below": SecretError}
    for name, error in cases.items():
        with pytest.raises(error) as caught:
            resolve(FileRef(file=name), {}, file.parent)
        assert isinstance(caught.value, ConfigError)
