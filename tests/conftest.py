"""What every test stands on: one event loop, and hypothesis that reports how to repeat a failure."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of production: asyncio on uvloop."""
    return "asyncio", {"use_uvloop": True}
