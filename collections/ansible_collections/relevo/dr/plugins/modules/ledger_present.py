#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_present
short_description: Which references of the ledger are in the database
description:
  - Asks PostgreSQL over its local socket, on a primary or on a standby. Never changes anything.
options:
  prefix: {description: References are I(prefix)-number., type: str, required: true}
  numbers: {description: "The numbers to look for, as [first, last] pairs.", type: list, elements: list, required: true}
  oldest: {description: The oldest number that was acknowledged., type: int}
  query: {description: A query with one column C(reference) of all references that are present., type: str, default: select reference from shop.ledger_entries}
  bin_directory: {description: Directory of psql., type: path, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  database: {description: Database of the application., type: str, required: true}
  timeout_seconds: {description: Limit of the query., type: float, default: 60}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Look for what was acknowledged
  relevo.dr.ledger_present:
    prefix: relevo-5f3a90c1
    numbers: [[1, 5000], [5003, 5400]]
    bin_directory: /usr/lib/postgresql/17/bin
    database: minimarket
"""

RETURN = r"""
present: {description: "The numbers that are there, as [first, last] pairs.", returned: success, type: list, elements: list}
in_recovery: {description: Whether a standby was asked., returned: success, type: bool}
more_may_be_lost: {description: "Whether O(oldest) is not there, so that older ones may be missing too.", returned: success, type: bool}
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.ledger import more_may_be_lost, ranges
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql

PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,100}")


def statement(prefix: str, numbers: list[list[int]], query: str) -> str:
    """Literals are digits and a checked prefix, so nothing of them can be read as SQL."""
    if not PREFIX.fullmatch(prefix):
        raise ValueError("the prefix %r has other characters than letters, digits and . _ : -" % prefix)
    pairs = ", ".join("(%d::bigint, %d::bigint)" % (int(first), int(last)) for first, last in numbers)
    return (
        "select wanted.n from (values %s) span (first, last) cross join lateral generate_series(span.first, span.last) wanted (n)"
        " join (%s) known on known.reference = '%s-' || wanted.n" % (pairs, query.rstrip("; \n"), prefix)
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "str", "required": True},
            "numbers": {"type": "list", "elements": "list", "required": True},
            "oldest": {"type": "int"},
            "query": {"type": "str", "default": "select reference from shop.ledger_entries"},
            "bin_directory": {"type": "path", "required": True},
            "port": {"type": "int", "default": 5432},
            "database": {"type": "str", "required": True},
            "timeout_seconds": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    p = module.params
    try:
        with Psql(p["bin_directory"], p["port"], p["database"], timeout_seconds=p["timeout_seconds"]) as session:
            in_recovery = session.row("select pg_is_in_recovery() as answer")["answer"]
            rows = session.query(statement(p["prefix"], p["numbers"], p["query"])) if p["numbers"] else []
    except (PostgresqlError, ValueError, TypeError) as error:
        module.fail_json(msg="the ledger's references cannot be looked up in database %s: %s" % (p["database"], error))
    present = {int(row["n"]) for row in rows}
    further = more_may_be_lost(p["oldest"], present)
    module.exit_json(changed=False, present=ranges(present), in_recovery=in_recovery, more_may_be_lost=further)


if __name__ == "__main__":
    main()
