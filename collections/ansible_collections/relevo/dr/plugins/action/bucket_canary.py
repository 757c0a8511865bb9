# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prove on the controller that the buckets which are asked to keep their objects really do, with the credential that writes the backups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import stanza
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.plugin_utils import bucket
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets


class ActionModule(RunAction):
    """Arguments: repositories, of which those with ``versioning`` or ``immutable`` are tried; secrets_directory. Its gates join the kept judgement."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        asked = [
            repository
            for repository in self._task.args["repositories"]
            if repository.get("bucket") and (repository.get("versioning") or repository.get("immutable"))
        ]
        if self._task.check_mode or not asked:
            return {"msg": "no bucket is asked to keep its objects" if not asked else "check mode: no canary is written"}
        names = [repository[key] for repository in asked for key in ("key_id_secret", "key_secret")]
        secrets = read_secrets(self._task.args["secrets_directory"], names, check_mode=False)
        gates = [gate.as_dict() for repository in asked for gate in judged(repository, bucket.attempt(repository, secrets))]
        judgement = self.control.read("judgement")
        judgement["sentences"] += [
            "%(id)s on %(host)s: %(title)s. Observed: %(observed)s; expected: %(expected)s. Next: %(next_action)s" % gate
            for gate in gates
            if gate["verdict"] != PASS
        ]
        self.control.write("judgement", judgement)
        return {"msg": "tried %d buckets" % len(asked), **told(gates=gates)}


def judged(repository: Mapping[str, Any], trial: bucket.Trial) -> list[Gate]:
    """VERSIONING and IMMUTABLE, each where it was asked for."""
    place = stanza.place(repository)
    wishes = [
        ("versioning", "VERSIONING", "A deleted object is kept", trial.kept, "the canary's version outlives its deletion"),
        (
            "immutable",
            "IMMUTABLE",
            "The backups' credential cannot delete a version",
            trial.refused,
            "a refused delete of the canary's version",
        ),
    ]
    gates = []
    for key, check, title, good, expected in wishes:
        if repository.get(key):
            verdict = PASS if good else UNKNOWN if trial.error else FAIL
            observed = trial.error if verdict == UNKNOWN else trial.said or "kept"
            following = "" if verdict == PASS else _NEXT[key] if verdict == FAIL else _UNANSWERED
            gates.append(Gate(check, title, place, observed, expected, verdict, following, "VERIFY"))
    return gates


_UNANSWERED = "see why the store does not answer the controller as it should"
_NEXT = {
    "versioning": "turn the bucket's versioning on",
    "immutable": "give the bucket an object lock with a default retention, or take s3:DeleteObjectVersion from the backups' credential"
    " (its policy: roles/dr_pgbackrest/README.md)",
}
