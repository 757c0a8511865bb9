#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_verify
short_description: Whether every repository of a stanza holds what it must, byte for byte
description:
  - >-
    Compares what each repository lists with what the manifests of its backups name, reads the stored bytes against the manifests' checksums
    and each WAL segment against the checksum in its name, and judges coverage, age, size, page errors, WAL continuity, encryption and clocks as gates.
  - C(pgbackrest verify) ends with 0 when it finds damage, and does not see a directory that is gone; nothing here rests on it.
  - >-
    Reads what is new since the last verification on this host and a share of the rest, so that every object is read again within O(within).
    What was read is kept in C(/var/lib/relevo/verified-STANZA-N.json); nothing else is written.
options:
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  repositories: {description: See the role dr_pgbackrest., type: list, elements: dict, required: true}
  data_directory: {description: PGDATA on this host., type: path, required: true}
  bin_directory: {description: Directory of pg_controldata., type: path, required: true}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  full: {description: Read every object now., type: bool, default: false}
  within: {description: Seconds in which every object is read again., type: float, default: 604800}
  workers: {description: Objects that are read at once., type: int, default: 2}
  period: {description: Length of a period of the coverage in seconds., type: float, default: 3600}
  periods: {description: How many whole periods before now must have a backup., type: int, default: 24}
  max_age: {description: Seconds that the newest backup may be old., type: float, default: 93600}
  shrink_ratio: {description: The least size of a full backup beside the median of those before it., type: float, default: 0.5}
  clock_offset: {description: Seconds by which the clock of a store may differ., type: float, default: 30}
  encrypted: {description: Whether a repository must be encrypted., type: bool, default: true}
  protected_since: {description: "Epoch seconds of the first protection; periods before it do not count.", type: float}
  archived_until:
    description: By number of the repository, the moment (UTC) up to which everything committed was read back from it.
    type: dict
    default: {}
  archived_segment: {description: The segment that proved it; its timeline is the one in use., type: str, default: ""}
  io_timeout: {description: Seconds for one answer of a store., type: float, default: 5}
  timeout: {description: "Seconds for one command, beside what the size of an object needs.", type: float, default: 30}
attributes:
  check_mode: {support: full, description: Reads and judges the same; keeps nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Verify the repositories
  relevo.dr.repository_verify:
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    repositories: "{{ dr_pgbackrest_repositories }}"
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
"""

RETURN = r"""
gates: {description: The gates of all repositories., returned: always, type: list, elements: dict}
repositories:
  description: "By number: backups, coverage, objects, bytes and seconds of each repository that could be read."
  returned: always
  type: dict
"""

import time
from collections.abc import Mapping
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import backup_gates, restorable, stanza, store_clock, verification_memory
from ansible_collections.relevo.dr.plugins.module_utils.backup_verification import Findings, Wish, verify
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, controldata
from ansible_collections.relevo.dr.plugins.module_utils.repository_reader import RepositoryReader
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import DEFAULT_SEGMENT_BYTES


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "repositories": {"type": "list", "elements": "dict", "required": True},
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "full": {"type": "bool", "default": False},
            "within": {"type": "float", "default": 604800},
            "workers": {"type": "int", "default": 2},
            "period": {"type": "float", "default": 3600},
            "periods": {"type": "int", "default": 24},
            "max_age": {"type": "float", "default": 93600},
            "shrink_ratio": {"type": "float", "default": 0.5},
            "clock_offset": {"type": "float", "default": 30},
            "encrypted": {"type": "bool", "default": True},
            "protected_since": {"type": "float"},
            "archived_until": {"type": "dict", "default": {}},
            "archived_segment": {"type": "str", "default": ""},
            "io_timeout": {"type": "float", "default": 5},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    asked = _asked(parameters, _segment_bytes(parameters))
    gates: list[dict[str, Any]] = []
    found: dict[str, Findings] = {}
    shown: dict[str, Any] = {}
    for repository in parameters["repositories"]:
        place, number = stanza.place(repository), int(repository["id"])
        began = time.monotonic()
        offset = store_clock.offset_seconds(repository)
        reader = RepositoryReader(
            Pgbackrest(
                parameters["config"],
                parameters["stanza"],
                parameters["owner"],
                io_timeout=parameters["io_timeout"],
                timeout=parameters["timeout"],
            ),
            number,
        )
        wish = Wish(asked.segment_bytes, parameters["within"], parameters["full"], parameters["workers"])
        try:
            findings = verify(reader, wish, verification_memory.load(parameters["stanza"], number))
        except PgbackrestError as error:
            observed = error.observed + stanza.shown_certificate(error, [repository]) + _skew(offset, asked)
            gates.append(backup_gates.unusable(place, observed, error.next_action))
            continue
        if not module.check_mode:
            verification_memory.save(parameters["stanza"], number, findings.memory)
        until = parameters["archived_until"].get(str(number))
        gates += backup_gates.judge(place, findings, asked, time.time(), offset)
        stretches = restorable.stretches(findings, int(parameters["archived_segment"][:8] or "0", 16), asked.segment_bytes)
        gates.append(backup_gates.window(place, stretches, until))
        found[place] = findings
        begins = backup_gates.restorable_from(stretches)
        shown[str(number)] = {
            **_shown(findings, asked, time.monotonic() - began),
            "restorable_from": begins,
            "restorable_until": until if begins is not None else None,
        }
    gates += backup_gates.agreement(found, asked.segment_bytes)
    module.exit_json(changed=False, gates=gates, repositories=shown, **told(gates=gates, measures={"backup_verification": shown}))


def _asked(parameters: Mapping[str, Any], segment_bytes: int) -> backup_gates.Asked:
    return backup_gates.Asked(
        period_seconds=parameters["period"],
        periods=parameters["periods"],
        max_age_seconds=parameters["max_age"],
        shrink_ratio=parameters["shrink_ratio"],
        segment_bytes=segment_bytes,
        clock_offset_seconds=parameters["clock_offset"],
        encrypted=parameters["encrypted"],
        protected_since=parameters["protected_since"],
    )


def _segment_bytes(parameters: Mapping[str, Any]) -> int:
    try:
        known = controldata(parameters["bin_directory"], parameters["data_directory"], parameters["owner"])
        return int(known["Bytes per WAL segment"])
    except (PostgresqlError, KeyError, ValueError):
        return DEFAULT_SEGMENT_BYTES


def _skew(offset: Optional[float], asked: backup_gates.Asked) -> str:
    """A store refuses requests of another time, often with a plain 403."""
    if offset is None or abs(offset) <= asked.clock_offset_seconds:
        return ""
    return "; its clock is %.0f s %s this host's" % (abs(offset), "ahead of" if offset > 0 else "behind")


def _shown(findings: Findings, asked: backup_gates.Asked, seconds: float) -> dict[str, Any]:
    found = backup_gates.covered(findings, asked, time.time())
    return {
        "backups": len(stanza.backups(findings.info)),
        "coverage": found.text,
        "missing_periods": [str(period) for period in found.missing],
        "protected_since": asked.protected_since,
        "segments": len(findings.archive.segments),
        "objects": findings.objects,
        "bytes": findings.bytes_stored,
        "objects_read": findings.objects_read,
        "bytes_read": findings.bytes_read,
        "seconds": round(seconds, 3),
    }


if __name__ == "__main__":
    main()
