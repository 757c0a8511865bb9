"""What stands on the sheets of a PDF, and where, as a reader of PDF sees it."""

from __future__ import annotations

from dataclasses import dataclass

import pypdfium2 as pdfium

# As the style sheet has them: A4 and its margins, in points, with room for a rounding.
SIDE, BOTTOM, WIDTH, HEIGHT = 14 / 25.4 * 72, 7 / 25.4 * 72, 595.3, 841.9


@dataclass(frozen=True)
class Sheet:
    """One page: its text, and the box around it (left, bottom, right, top), in points."""

    text: str
    left: float
    bottom: float
    right: float
    top: float


def sheets(contents: bytes) -> list[Sheet]:
    """The pages of a PDF."""
    found = []
    for page in pdfium.PdfDocument(contents):
        text = page.get_textpage()
        boxes = [text.get_rect(number) for number in range(text.count_rects())]
        lefts, bottoms, rights, tops = zip(*boxes, strict=True)
        found.append(Sheet(text.get_text_range(), min(lefts), min(bottoms), max(rights), max(tops)))
    return found


def paper_text(contents: bytes) -> str:
    """All of it."""
    return "\n".join(sheet.text for sheet in sheets(contents))
