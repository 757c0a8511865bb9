# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Use the application from the witness; after a hand-over with a nonce, and with the names that it changed. What was measured before is kept for then."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.plugin_utils.control import ControlError
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets

# Clocks of resolvers count whole seconds.
_MARGIN_SECONDS = 2.0


class ActionModule(RunAction):
    """Arguments: when (before, after), secrets_directory, password_secret, name_wait_max_seconds, and those of the module.

    Returns reference: {prefix, number} of the nonce, null where none was acknowledged. Never fails: what was not seen is judged as that.
    """

    def act(self) -> dict[str, Any]:
        arguments = dict(self._task.args)
        when, directory = arguments.pop("when"), arguments.pop("secrets_directory", "") or ""
        secret, longest = arguments.pop("password_secret", ""), float(arguments.pop("name_wait_max_seconds", 600))
        if when == "after" and self.control.exists("proof/after"):
            raise ControlError("the proof of this run was made already")
        prefix = "cutover-nonce-%s" % token_hex(8)
        if when == "after":
            arguments.update(reference="%s-1" % prefix, names=self._names(longest))
        try:
            if arguments.get("login") and secret:
                arguments["secrets"] = {"password": read_secrets(directory, [secret], check_mode=False)[secret]}
            answer = self.ask("relevo.dr.application_proof", arguments)
        except AnsibleActionFail as error:
            answer = {"failed": True, "msg": str(error)}
        wrong = went_wrong(answer)
        proof: dict[str, Any] = {"error": wrong, "identities": {}} if wrong else answer["proof"]
        if when == "before":
            self.control.write("proof/before", proof)
            return {"msg": wrong or "measured"}
        self.control.write("proof/after", proof)
        nonce: dict[str, Any] = proof.get("nonce") or {}
        acknowledged = bool(nonce.get("acknowledged"))
        return {
            "changed": True,
            "msg": wrong or "used",
            "reference": {"prefix": prefix, "numbers": [[1, 1]]} if acknowledged else None,
        }

    def _names(self, longest: float) -> list[dict[str, Any]]:
        """What the controller changed, with how long an old answer may still be believed."""
        found = []
        for name in self.control.read_all("names").values():
            passed = (
                (clock.parse_utc(clock.utc_now()) - clock.parse_utc(name["changed_at"])).total_seconds()
                if name.get("changed_at")
                else 0.0
            )
            left = max(0.0, float(name["ttl_seconds"]) - passed) + _MARGIN_SECONDS
            found.append({"record": name["record"], "values": name["values"], "wait_seconds": min(left, longest)})
        return found
