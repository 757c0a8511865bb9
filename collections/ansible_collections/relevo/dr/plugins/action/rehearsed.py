# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what a rehearsal measured. A drill whose user was not let in has no recovery time."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock, rehearsal
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: test (of restore_prove; empty in check mode). Runs on the controller."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        began = self.control.read("landscape")["began"]
        elapsed = clock.boottime_seconds() - float(began["boottime"])
        measured = rehearsal.measures(self._task.args["test"], began["at"], elapsed)
        said = (
            "a user was let in after %.1f s, the proofs not counted; the newest commit was %.0f s old"
            % (measured["rto_seconds"], measured["rpo_seconds"])
            if measured["rto_seconds"] is not None and measured["rpo_seconds"] is not None
            else "no recovery time: not every part of it was seen"
        )
        return {"msg": said, **told(run={"mode": "drill"}, measures=measured)}
