"""The JSON Schema is the manual."""

from __future__ import annotations

import json
from typing import Any

from locum.config.schema import SCHEMA_FILE, rendered, schema


def test_the_written_schema_is_current():
    """The file that editors read is what the models say; `python -m locum.config.schema` writes it anew."""
    assert SCHEMA_FILE.read_text(encoding="utf-8") == rendered()


def test_every_key_is_explained():
    """Each key of each object tells what it is, and each object refuses unknown keys."""
    unexplained = [
        f"{name}.{key}"
        for name, node in _objects(schema())
        for key, value in node["properties"].items()
        if not value.get("description")
    ]
    assert unexplained == []
    assert all(node["additionalProperties"] is False and node["description"] for _, node in _objects(schema()))


def test_defaults_are_written_as_in_the_file():
    """Lengths of time and sizes show their default as people write it."""
    limits = schema()["$defs"]["Limits"]["properties"]
    assert (limits["stall_after"]["default"], limits["spool"]["default"]) == ("10m", "512M")
    assert json.dumps(schema()["properties"]["failover"])


def _objects(root: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    nodes = [("service.json", root), *root["$defs"].items()]
    return [(name, node) for name, node in nodes if "properties" in node]
