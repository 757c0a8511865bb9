# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the newest escape pack of a cluster would still be the right one, for a check."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS, UNKNOWN, Gate

from relevo import digest, entries, packs, paths, policy_file
from relevo.errors import RelevoError
from relevo.store import Store

_TITLE = "a controller could start at another site from an escape pack"


def gate(cluster: str, inventory: Sequence[str]) -> Gate:
    """From what was said of packs in this store. inventory: its sources."""
    try:
        project = paths.find_project(Path.cwd(), os.environ)
        policy = policy_file.load(None, project, os.environ).policy.escape_pack
        made = [entries.parse(one.document) for one in entries.read(Store(paths.find_place(os.environ)), packs.KIND)]
    except RelevoError as error:
        return Gate("PACK", _TITLE, "controller", str(error).rstrip("."), "a fresh pack", UNKNOWN, "see why", required=False)
    now = packs.Now(
        datetime.now(timezone.utc),
        cluster,
        digest.commit(project)[0],
        digest.inventory_digest([source for source in inventory if Path(source).exists()]),
    )
    found = packs.stand(made, policy, now, partial(digest.same_code, project))
    good = found.pack_id is not None and not found.wrong
    expected = "one of this commit and inventory, not older than %s" % policy.fresh_for
    fix = "relevo pack -i INVENTORY, and bring it to the other site"
    return Gate("PACK", _TITLE, "controller", found.sentence, expected, PASS if good else FAIL, fix, required=False)
