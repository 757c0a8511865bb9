"""What the checklist rests on beside the results: the pages of the checkout, and when the records were last verified. Thin."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import pages, paths, sign_offs, verified
from relevo.console import heard
from relevo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relevo.overview import Overview
    from relevo.pages import Library
    from relevo.store import Store
    from relevo.verified import Standing


@dataclass(frozen=True)
class Beside:
    """library: None where no project lies beside; rewritten: by commit that somebody signed off the pages that are others now, None: nobody can tell."""

    library: Library | None = None
    verification: Standing = field(default_factory=verified.Standing)
    rewritten: Mapping[str, Sequence[str] | None] = field(default_factory=dict)


def look(store: Store, seen: Overview) -> Beside:
    """As of the overview's moment."""
    standing = verified.stand(store, heard(store, verified.KIND), seen.at)
    try:
        project = paths.find_project(Path.cwd(), os.environ)
    except UsageError:
        return Beside(None, standing)
    about = sign_offs.subjects(seen.policy)
    commits = {one.seen for one in seen.sign_offs if one.seen and one.subject in about}
    return Beside(pages.look(project), standing, {commit: pages.changed_since(project, commit) for commit in commits})
