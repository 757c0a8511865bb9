# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role dr_keys computes on the controller."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.escrow_items import defaults


def default_items(
    repositories: Sequence[Mapping[str, Any]],
    files: Sequence[Mapping[str, Any]],
    database: Sequence[str],
    application: Sequence[str],
) -> list[dict[str, Any]]:
    """What every cluster has in escrow."""
    return defaults(repositories, files, {"database": database, "all": sorted({*database, *application})})


def ways(
    paths: Sequence[Mapping[str, Any]], openers: Sequence[Mapping[str, Any]], only: str = "", lost_site: str = ""
) -> list[dict[str, Any]]:
    """Every way to the keys, {path, opener}: a path that age sealed by each opener alone, another one as it is.

    only: one path, by name. lost_site: paths in it are not tried, since that site is gone.
    """
    chosen = [path for path in paths if (not only or path["name"] == only) and (not lost_site or path.get("site") != lost_site)]
    # Where age did not seal there is nothing to open.
    return [
        {"path": dict(path), "opener": dict(opener)}
        for path in chosen
        for opener in (openers if path["kind"] != "secrets_manager" else [{}])
    ]


def public_shares(path: str) -> dict[str, Any]:
    """What is public of the shares, from their file; {} where none were made."""
    if not path or not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as source:
        found: dict[str, Any] = json.load(source)
    return found


class FilterModule:
    """Pure functions as filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"default_items": default_items, "public_shares": public_shares, "ways_to_keys": ways}
