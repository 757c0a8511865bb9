# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether anybody hears of a change of site: a finding, for a failover at night must not wait for a mail server."""

from __future__ import annotations

from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils.gates import Gate, verdict


def judge(file: str, mode: Optional[int], lines: Optional[list[str]], *, named: bool) -> Gate:
    """file: that the inventory names, empty for none; mode, lines: as read, None where it cannot be. named: the operator gave another one to this run."""
    found = [line for line in lines or [] if line.strip() and not line.strip().startswith("#")]
    wrong = (
        "nobody: the inventory names no contacts"
        if not file
        else "nobody: %s cannot be read" % file
        if mode is None or lines is None
        else "nobody: others may read %s (mode %04o)" % (file, mode & 0o7777)
        if mode & 0o077
        else "nobody: %s is empty" % file
        if not found
        else None
    )
    if named:
        wrong = None
    observed = wrong or ("those whom this run names" if named else "%d contacts" % len(found))
    return Gate(
        "CONTACTS",
        "people hear of a change of site",
        "controller",
        observed,
        "a file of apprise URLs that only its owner reads",
        verdict(wrong is None),
        "write one URL a line into %s, mode 0600; see docs/nightly.md"
        % (file or "a file of dr_secrets_directory that dr_run_contacts_secret names"),
        required=False,
    )
