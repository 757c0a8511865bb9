# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""See whether timers really run something; what fails is spoken at the end of the run."""

from __future__ import annotations

from ansible_collections.relevo.dr.plugins.plugin_utils.finding_action import FindingAction


class ActionModule(FindingAction):
    """Runs the module ``timer_info``."""

    module = "timer_info"
    phase = "PREFLIGHT"

    def gate(self) -> str:
        return str(self._task.args["gate"])
