"""A job of AWX: nothing on its disk outlives it, so that its record must have another place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relevo.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relevo.paths import Place

# What AWX, Tower and the automation controller put among the extra variables of every job, none of which a job can do without.
_JOB = ("awx_job_id", "tower_job_id")


def is_job(variables: Mapping[str, Any]) -> bool:
    """Whether these extra variables are those of a job."""
    return any(name in variables for name in _JOB)


def check_store(place: Place, variables: Mapping[str, Any]) -> None:
    """StoreError where the record of a job would go with its container."""
    if is_job(variables) and not place.store_url.startswith("postgresql"):
        message = (
            "in a job of AWX RELEVO_STORE must be the URL of a PostgreSQL database (postgresql://...): a file would be gone with the job. "
            'Add the credential of the type "Relevo results database" to the job template, as docs/awx.md shows'
        )
        raise StoreError(message)
