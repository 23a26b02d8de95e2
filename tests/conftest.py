"""What every test stands on: one event loop, and hypothesis that reports how to repeat a failure."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A change is judged by the same examples every time, not by luck; `make fuzz` looks for new trouble.
settings.register_profile("judge", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("fuzz", deadline=None, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("LOCUM_EXAMPLES", "judge"))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of production: asyncio on uvloop."""
    return "asyncio", {"use_uvloop": True}
