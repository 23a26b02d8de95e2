"""HTML built from values: every text is escaped, and cannot steer what stands around it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias


class Html(str):
    """Text that is HTML already; only `tag` and `joined` make it."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
"""What an element may hold: text, elements, numbers, lists of these; None is nothing."""

_VOID = frozenset({"meta", "link", "input", "br", "hr"})
_NAME = re.compile(r"[a-z][A-Za-z0-9-]*")
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_STRANGE = {
    **{each: 0x2400 + each for each in range(32) if each not in (9, 10)},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *_DIRECTIONS, *range(0xD800, 0xE000), *range(0xFFF9, 0xFFFC)), 0xFFFD),
    0x2028: 10,
    0x2029: 10,
}
"""Controls as their pictures; what would turn the direction of the text around it, or is no character, as a mark."""


def plain(text: str) -> str:
    """Text without what would steer: controls are shown as pictures; line breaks and tabs stay."""
    return text if text.isprintable() else text.translate(_STRANGE)


def tag(element: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element. Its name may carry classes, as in `p.quiet`; `for_` and `data_as` are attributes `for`, `data-as`.

    An attribute that is None or False is left out; True stands without a value.
    There are no scripts and no styles in attributes: the page's policy would refuse them.
    """
    name, *classes = element.split(".")
    assert _NAME.fullmatch(name), "an element has a plain name"
    written = [name]
    if classes:
        written.append(f'class="{" ".join(classes)}"')
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")  # noqa: PLW2901 - the same name, as HTML writes it
        assert _NAME.fullmatch(key), "an attribute has a plain name"
        assert key != "style", "no styles in attributes"
        assert not key.startswith("on"), "no scripts in attributes"
        written.append(key if value is True else f'{key}="{html.escape(plain(str(value)))}"')
    opened = f"<{' '.join(written)}>"
    return Html(opened if name in _VOID else f"{opened}{joined(*children)}</{name}>")


def joined(*children: Child) -> Html:
    """Several things behind each other."""
    return Html("".join(map(_written, children)))


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return html.escape(plain(child), quote=False)
    return str(child) if isinstance(child, int) else joined(*child)
