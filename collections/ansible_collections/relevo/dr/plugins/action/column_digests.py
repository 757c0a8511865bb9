# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take digests of what the application's keys decrypt in production; keys go to the module alone, digests into the next generation."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.gates import UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils import seen_primary
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import EscrowAction
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import went_wrong


class ActionModule(EscrowAction):
    """Arguments: seen, by host the result of ``cluster_info``; columns, memory_directory, and what the module ``column_digests`` takes of the database.

    Without one primary nothing is read, and the record says why: what production decrypted before goes into the next generation.
    """

    def keep(self) -> dict[str, Any]:
        arguments = dict(self._task.args)
        memory = self.memory()
        try:
            primary = seen_primary.find(arguments.pop("seen"), every_host=False)
        except Refusal as refusal:
            return {"msg": "no column is read: %s" % refusal, **told(gates=[self._unread(refusal)])}
        if primary != self.host:
            return {"msg": "columns are read on %s, the primary" % primary}
        arguments.pop("memory_directory")
        read: dict[str, bytes] = {}
        for handed in memory.read_all("read").values():
            read.update({name: found["content"] for name, found in handed["read"].items()})
        keys = {"keys/%s/%s" % (column["key"], column["generation"]) for column in arguments["columns"]}
        arguments["keys"] = {name: base64.b64encode(read[name]).decode() for name in sorted(keys & set(read))}
        answer = self.ask("relevo.dr.column_digests", arguments)
        wrong = went_wrong(answer)
        if wrong:
            return {"failed": True, "msg": wrong}
        for name, column in answer["columns"].items():
            memory.write("columns/%s" % name, column)
        counted = {name: len(column["rows"]) for name, column in answer["columns"].items()}
        return {"msg": "digests of %d rows" % sum(counted.values()), "rows": counted}

    def _unread(self, refusal: Refusal) -> dict[str, Any]:
        told_of = refusal.gate
        return Gate(
            "KEYSREAD",
            "Columns of production are read",
            told_of["host"],
            "%s; what they decrypted to before is kept" % told_of["observed"],
            told_of["expected"],
            UNKNOWN,
            told_of["next_action"],
            self.phase,
        ).as_dict()
