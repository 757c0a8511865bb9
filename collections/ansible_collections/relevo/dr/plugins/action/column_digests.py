# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take digests of what the application's keys decrypt in production; keys go to the module alone, digests into the next generation."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import EscrowAction
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import went_wrong


class ActionModule(EscrowAction):
    """Arguments: columns, memory_directory, and what the module ``column_digests`` takes of the database."""

    def keep(self) -> dict[str, Any]:
        arguments = dict(self._task.args)
        memory = self.memory()
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
