"""Where each page has its place: the links of a page that lists others, turned into Sphinx's own tree of contents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:\s]+\.md)\)")


@dataclass(frozen=True)
class Part:
    """The pages that are listed below one heading."""

    caption: str
    pages: tuple[str, ...]


def parts(text: str, placed: Collection[str] = ()) -> list[Part]:
    """Each section of a page with the pages that it links to, in that order. placed: those that have a place already; a page has one."""
    pieces = _SECTION.split(text)
    if len(pieces) == 1:
        # A list without sections is one part, named as the page.
        pieces = ["", *_TITLE.split(text, maxsplit=1)[1:]]
    found, seen = [], set(placed)
    for caption, body in zip(pieces[1::2], pieces[2::2], strict=True):
        pages = tuple(page for page in dict.fromkeys(_LINK.findall(body)) if page not in seen)
        seen.update(pages)
        if pages:
            found.append(Part(caption, pages))
    return found


def with_places(text: str, listed: Sequence[Part]) -> str:
    """The page, and hidden trees that give those pages their place below it."""
    trees = [
        "\n".join(["", "```{toctree}", ":hidden:", f":caption: {part.caption}", "", *part.pages, "```", ""]) for part in listed
    ]
    return text + "".join(trees)
