"""A reload as a transaction."""

from __future__ import annotations

import json

import pytest

from locum.config.load import load
from locum.config.reload import Applied, Rejected, Reloader, Unchanged
from tests.unit.config.helpers import service

GOOD = json.dumps(service()).encode()
BETTER = json.dumps(service(usage_threshold_tokens=5)).encode()


@pytest.fixture
def path(tmp_path):
    """A good file."""
    file = tmp_path / "service.json"
    file.write_bytes(GOOD)
    return file


@pytest.fixture
def reloader(path):
    """Who follows it."""
    return Reloader(load(path, {}), {})


def test_equal_bytes_change_nothing(path, reloader):
    """Touching or rewriting the same content keeps the very same configuration."""
    before = reloader.loaded
    path.write_bytes(GOOD)
    assert reloader.refresh() == Unchanged()
    assert reloader.loaded is before


def test_a_good_edit_is_applied_once(path, reloader):
    """A valid edit replaces the configuration whole, and is told once."""
    path.write_bytes(BETTER)
    applied = reloader.refresh()
    assert isinstance(applied, Applied)
    assert applied.loaded is reloader.loaded
    assert applied.loaded.service.usage_threshold_tokens == 5
    assert reloader.refresh() == Unchanged()


@pytest.mark.parametrize("bad", [b"", b"{", b'{"failover": {}}', b"\xff", b" " * (2 << 20), None, "folder"])
def test_a_bad_edit_keeps_the_last_good(path, reloader, bad):
    """Whatever the file becomes, the running configuration stays and the problem is told once."""
    before = reloader.loaded
    path.unlink()
    if bad == "folder":
        path.mkdir()
    elif bad is not None:
        path.write_bytes(bad)
    rejected = reloader.refresh()
    assert isinstance(rejected, Rejected)
    assert rejected.problems
    assert reloader.rejected is rejected
    assert reloader.refresh() == Unchanged()
    assert reloader.rejected is rejected
    assert reloader.loaded is before


def test_taking_a_bad_edit_back_clears_it(path, reloader):
    """Undo is not a reload: nothing changed, and the complaint is gone."""
    path.write_bytes(b"{")
    reloader.refresh()
    path.write_bytes(GOOD)
    assert reloader.refresh() == Unchanged(cleared=True)
    assert reloader.rejected is None
    assert reloader.refresh() == Unchanged()


def test_the_same_mistake_again_is_told_again(path, reloader):
    """A mistake made, mended and made again is two rejections."""
    for _ in range(2):
        path.write_bytes(b"{")
        assert isinstance(reloader.refresh(), Rejected)
        path.write_bytes(GOOD)
        assert reloader.refresh() == Unchanged(cleared=True)


def test_mending_a_bad_edit_applies_the_mended_file(path, reloader):
    """From bad to another good file is one reload that clears the complaint."""
    path.write_bytes(b"{")
    reloader.refresh()
    path.write_bytes(BETTER)
    assert isinstance(reloader.refresh(), Applied)
    assert reloader.rejected is None
