"""The names that `-e` may carry, and which runbook takes each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.relevo.dr.plugins.module_utils import inputs

from docs.site.reference import markdown

if TYPE_CHECKING:
    from pathlib import Path


def page(root: Path) -> str:
    """The whole list, for nothing outside it is taken."""
    told = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted((root / "docs/runbooks").glob("*.md"))
        if path.stem != "README"
    }
    rows = []
    for name, pattern in inputs.SCHEMA.items():
        where = [f"[{runbook}](../runbooks/{runbook}.md)" for runbook, text in told.items() if name in text]
        rows.append((markdown.code(name), ", ".join(where), markdown.code(pattern.pattern)))
    words = (
        "# Inputs of a run\n\nThe names that `-e name=value` may carry; any other is refused, since it would override what the inventory says of a host "
        "([why](../decisions/0005-extra-variables-by-list.md)). What each means stands on the runbook's page; the form is a regular expression.\n\n"
    )
    return words + markdown.table(("name", "told of on", "form"), rows)
