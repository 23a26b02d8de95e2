"""The JSON Schema of service.json: `python -m locum.config.schema` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from locum.config import explain

SCHEMA_FILE = Path(__file__).parents[3] / "config" / "service.schema.json"


def schema() -> dict[str, Any]:
    """The schema (draft 2020-12) that editors check and explain service.json with."""
    told = {key: value for key, value in explain.schema().items() if key not in ("title", "description")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "service.json",
        "description": "What locum runs, on which tiers, and how many tokens it may spend.",
        **told,
    }


def rendered() -> str:
    """The content of `config/service.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(rendered(), encoding="utf-8")
