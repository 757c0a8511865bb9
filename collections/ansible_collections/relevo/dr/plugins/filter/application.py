# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role dr_app computes on the controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.app_components import of_host


class FilterModule:
    """components_of_host: those of dr_app_components that a host looks at; what is wrong with the list is said by the judgement."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """By name."""
        return {"components_of_host": of_host}
