# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A directory of secrets that others gave: what is made up there would be gone with it."""

from __future__ import annotations

# The name of an empty file that marks it.
GIVEN = ".given"
