# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cut a new identity into shares, once: each goes to its holder, what is public of it into the inventory, the identity itself nowhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DECLARATION, EscrowFault
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_shares
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import CONTROLLER, EscrowAction, passed


class ActionModule(EscrowAction):
    """Arguments: cluster, holders ({name, recipient}), threshold, directory, public_file. A holder's recipient seals the share on its way."""

    _requires_connection = False

    def keep(self) -> dict[str, Any]:
        args = self._task.args
        holders, threshold = list(args["holders"]), int(args["threshold"])
        directory, public_file = str(args["directory"]), str(args["public_file"])
        for path in (directory, public_file):
            if os.path.exists(path):
                raise EscrowFault(
                    DECLARATION, path, "something is there", "nothing: shares are made once", "move it away, or keep what it is"
                )
        public, shares = escrow_shares.deal(len(holders), threshold)
        if self._task.check_mode:
            return {"changed": True, "msg": "would make %d shares, of which %d are needed" % (len(holders), threshold)}
        os.makedirs(directory, mode=0o700)
        names = []
        for holder, share in zip(holders, shares):
            name, content = _letter(str(args["cluster"]), holder, share, public)
            handle = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as target:
                target.write(content)
            names.append(name)
        shown = [{**entry, "holder": holder["name"]} for entry, holder in zip(public["shares"], holders)]
        with open(public_file, "x", encoding="utf-8") as target:
            json.dump({**public, "dealt_at": clock.utc_now(), "shares": shown}, target, indent=1)
            target.write("\n")
        gate = passed(
            "KEYSSHARES", "Shares are made", CONTROLLER, "%d of %d" % (threshold, len(holders)), "more than are needed", self.phase
        )
        return {**self.judged([gate], "made %s" % ", ".join(names)), "changed": True, "files": names}


def _letter(cluster: str, holder: Mapping[str, Any], share: escrow_shares.Share, public: Mapping[str, Any]) -> tuple[str, bytes]:
    """A page for the holder; sealed where they have a recipient of their own."""
    lines = [
        "Share %d of %d of the keys of %s, held by %s." % (share.number, len(public["shares"]), cluster, holder["name"]),
        "Any %d of them open the packs for %s." % (public["threshold"], public["recipient"]),
        "Keep it where neither site and no other holder is. You are asked for it at least once a year.",
        "",
        share.text(),
        "",
    ]
    content, name = "\n".join(lines).encode(), "share-%d-%s.txt" % (share.number, holder["name"])
    recipient = str(holder.get("recipient") or "")
    return (name + ".age", escrow_pack.seal(content, [recipient])) if recipient else (name, content)
