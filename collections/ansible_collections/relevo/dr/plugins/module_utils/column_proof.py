# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Columns that an application encrypted, decrypted with a key and compared by digests that only who has the key can make.

The key is data of a COPY into a table of the session: no log, no statistics and no process list ever holds it. The transaction is rolled back.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql

# In a declared query this stands for the key.
KEY = "@key@"
_TABLE = "(select key from pg_temp.relevo_key)"
_MOST_ROWS = 10000
# Whatever the server is told to log, it does not log this session's statements.
_QUIET = (
    "set local log_statement = 'none'",
    "set local log_min_duration_statement = -1",
    "set local log_min_error_statement = 'panic'",
    "set local log_duration = off",
)


class ColumnsError(Exception):
    """The columns cannot be read with this key; the message is a sentence without a byte of it."""


def digests(session: Psql, proof: Mapping[str, Any], key: bytes) -> list[list[str]]:
    """[row, digest] of what a declared query decrypts: its first column names the row, the second is the plain value. Raises ColumnsError."""
    bare = key.rstrip(b"\r\n")
    try:
        word = bare.decode()
    except UnicodeDecodeError:
        raise ColumnsError("%s: the key is no text, and pgcrypto takes text" % proof["name"]) from None
    if not word or "\0" in word:
        raise ColumnsError("%s: its key is not there, is empty, or holds a zero byte" % proof["name"])
    try:
        rows = json.loads(session.execute(script(str(proof["sql"]), word)))
        session.execute("rollback")
    except PostgresqlError as error:
        raise ColumnsError("%s: %s" % (proof["name"], _said(str(error), word))) from None
    if not rows:
        raise ColumnsError("%s: the query finds no row, so nothing was decrypted" % proof["name"])
    return [[str(row), keyed(bare, str(proof["name"]), str(row), value)] for row, value in rows]


def script(sql: str, key: str) -> str:
    """One transaction that is left open for its rollback: the key as data, then the query."""
    if KEY not in sql:
        raise ColumnsError("the query does not use %s, so it proves nothing about a key" % KEY)
    data = key.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    query = sql.rstrip("; \n").replace(KEY, _TABLE)
    return "\n".join(
        [
            "begin;",
            *("%s;" % statement for statement in _QUIET),
            "create temporary table relevo_key (key text) on commit drop;",
            "copy pg_temp.relevo_key from stdin;",
            data,
            "\\.",
            "select coalesce(json_agg(json_build_array(given.row, given.value)), '[]')",
            "from (select * from (%s) asked limit %d) given (row, value)" % (query, _MOST_ROWS),
        ]
    )


def keyed(key: bytes, name: str, row: str, value: Any) -> str:
    """A digest that says nothing to who has no key: with the key one could decrypt instead of guessing."""
    text = json.dumps([name, row, value], ensure_ascii=False, separators=(",", ":"))
    return hmac.new(hashlib.sha256(b"relevo-columns\0" + key).digest(), text.encode(), hashlib.sha256).hexdigest()


def compared(expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> tuple[int, int, int]:
    """How many rows are equal, other, and missing among what production had; rows that came since then say nothing."""
    now = {entry[0]: entry[1] for entry in found}
    equal = sum(1 for row, digest in expected if row in now and hmac.compare_digest(now[row], digest))
    missing = sum(1 for row, _ in expected if row not in now)
    return equal, len(expected) - equal - missing, missing


def _said(error: str, key: str) -> str:
    """The first line of what PostgreSQL says, which never should hold the key, without it."""
    line = next((line for line in error.splitlines() if "ERROR" in line or "error" in line), error.splitlines()[0])
    if "Wrong key or corrupt data" in line:
        return "the key does not decrypt the column (wrong key or corrupt data)"
    return line.replace(key, "(key)")[:300]
