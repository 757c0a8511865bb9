# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A repository's password as a file for as long as a task lasts, in memory where the host has such a place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.file_repositories import environment
from ansible_collections.relevo.dr.plugins.module_utils.restic import Restic


@contextlib.contextmanager
def opened(
    repository: Mapping[str, Any], secrets: Mapping[str, str], cache_directory: Optional[str], timeout: float
) -> Iterator[Restic]:
    """Restic with one repository's secrets. repository: of file_repositories.of_host."""
    with tempfile.NamedTemporaryFile("w", dir="/run" if os.access("/run", os.W_OK) else None, prefix="relevo-") as target:
        target.write(secrets[repository["password_secret"]] + "\n")
        target.flush()
        keys = environment(repository, secrets[repository["key_id_secret"]], secrets[repository["key_secret"]])
        yield Restic(
            str(repository["url"]), target.name, keys, repository.get("ca_file"), cache_directory=cache_directory, timeout=timeout
        )
