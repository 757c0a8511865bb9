"""The reference, made from what the programs themselves read: nothing in it is written twice, so nothing can be old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs.site.reference import commands, inputs, plugins, roles, schemas

if TYPE_CHECKING:
    from pathlib import Path


_LIST = """
## Pages of the site
- [Commands and exit codes](reference/commands.md)
- [Inputs of a run](reference/inputs.md)
- [Variables of an inventory](reference/variables.md)
- [Roles](reference/roles.md)
- [Collection relevo.dr](reference/collection_dr.md)
- [Collection relevo.lab](reference/collection_lab.md)
- [Record of a run](reference/record.md)
- [Policy file](reference/policy_file.md)
"""


def pages(root: Path) -> dict[str, str]:
    """Every page that is made, by its path in the site; where that page is there already, what is written below it."""
    return {
        "docs/reference.md": _LIST,
        "docs/reference/commands.md": commands.page(),
        "docs/reference/inputs.md": inputs.page(root),
        **roles.pages(root),
        **plugins.pages(root),
        **schemas.pages(),
    }
