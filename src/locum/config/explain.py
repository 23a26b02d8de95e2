"""From what the models refuse to what people can mend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from locum.config.model import Service
from locum.config.problem import At, Issue, dotted, suggest

_PRIVATE = frozenset({"env", "args", "command", "credential", "file", "url", "secret", "old_secret", "headers"})
"""Below these keys values are never shown: a secret may stand there by mistake."""

_SHAPES = {
    "model_type": ("an object", "write it in braces: {…}"),
    "dict_type": ("an object", "write it in braces: {…}"),
    "tuple_type": ("a list", "write it in brackets: […]"),
    "frozen_set_type": ("a list", "write it in brackets: […]"),
    "string_type": ("text", "write it in double quotes"),
    "bool_type": ("true or false", "write it without quotes"),
    "too_short": ("a list with something in it", "add at least one"),
    "too_long": ("a shorter list", "remove what nobody needs"),
}


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of service.json, as the models tell it."""
    return Service.model_json_schema(by_alias=True)


def issues_of(error: ValidationError, within: At = ()) -> Iterator[Issue]:
    """Every problem that the models found, each with its path. `within` is where what was read has its model."""
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # the list only seems short because its items, told one by one, were refused
        yield _issue(detail, within)


def _issue(detail: ErrorDetails, within: At) -> Issue:
    at, node = _walk((*within, *detail["loc"]))
    at = at[len(within) :]
    label = f"`{dotted(at)}`" if at else "the configuration"
    context = detail.get("ctx", {})
    if detail["type"] == "missing":
        return Issue(at[:-1], f"{label} is missing", _manual(node), f"add `{at[-1]}`")
    if detail["type"] == "extra_forbidden":
        choices = tuple(_walk((*within, *detail["loc"][:-1]))[1].get("properties", ()))
        return Issue(at, f"unknown key {label}", "nothing here is called that", suggest(at[-1], choices), key=True)
    if detail["type"] == "expected":
        remedy = suggest(detail["input"], context["choices"], context["remedy"])
        is_key = detail["loc"][-1:] == ("[key]",)
        what = f"{label} is misnamed" if is_key else f"{label} is {_shown(at, detail['input'])}"
        return Issue(at, what, f"it must be {context['expected']}", remedy, key=is_key)
    shape, remedy = _SHAPES.get(detail["type"], (detail["msg"].lower(), "change it"))
    return Issue(at, f"{label} is {_shown(at, detail['input'])}", f"it must be {shape}", remedy)


def _walk(loc: At) -> tuple[At, dict[str, Any]]:
    """The path in the file and the schema of it; `loc` also names the model where several could stand."""
    at: list[str | int] = []
    node = _follow(schema())
    for step in loc:
        if step == "[key]":
            continue
        if "oneOf" in node:  # this step chooses between shapes, it is not in the file
            named = [option for option in node["oneOf"] if option.get("$ref", "").endswith(f"/{step}")]
            node = _follow(named[0]) if named else {}
            continue
        at.append(step)
        node = _child(node, step)
    return tuple(at), node


def _child(node: dict[str, Any], step: str | int) -> dict[str, Any]:
    if isinstance(step, int):
        return _follow(node.get("items", {}))
    found = node.get("properties", {}).get(step)
    if found is None:
        found = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
    return _follow(found or {})


def _follow(node: dict[str, Any]) -> dict[str, Any]:
    """The schema behind references and behind `or null`, keeping the description of where it is used."""
    told = node.get("description")
    while True:
        options = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
        if "$ref" in node:
            node = schema()["$defs"][node["$ref"].rpartition("/")[2]]
        elif len(options) == 1:
            node = options[0]
        else:
            return node if told is None else {**node, "description": told}


def _manual(node: dict[str, Any]) -> str:
    text = str(node.get("description", "it is needed")).partition(". ")[0].rstrip(".")
    return f"it is needed: {text[:1].lower()}{text[1:]}"


def _shown(at: At, value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    private = not _PRIVATE.isdisjoint(at)
    if isinstance(value, str) and value:
        if private or len(value) > 60:
            return "text that is not shown" if private else f"text of {len(value)} characters"
        return json.dumps(value, ensure_ascii=not value.isprintable())
    return "a number" if private and _is_number(value) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
