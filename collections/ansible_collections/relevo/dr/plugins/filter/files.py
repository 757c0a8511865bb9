# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role dr_files computes on the controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.file_repositories import of_host, password_names, secret_files, settings


class FilterModule:
    """Pure functions as filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "file_repositories": of_host,
            "file_passwords": password_names,
            "file_secrets": secret_files,
            "file_settings": settings,
        }
