# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One number for many durations. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

# Fewer say nothing about one in twenty.
LEAST_VALUES = 20


def percentile(values: Sequence[float], share: float) -> Optional[float]:
    """The smallest value that at least that share of them does not exceed; None for too few."""
    if len(values) < LEAST_VALUES:
        return None
    return sorted(values)[math.ceil(share * len(values)) - 1]
