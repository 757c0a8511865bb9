# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at what a change of site needs beside its hosts, from this controller, and keep it for the judgement."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.relevo.dr.plugins.module_utils import app_providers, dependencies, file_repositories
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.plugin_utils.dependency_look import look
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction

_FILES = "dr_files_repositories"


class ActionModule(RunAction):
    """Arguments: secrets_directory, declared (see ``derive``), timeout_seconds. What else the inventory says is read as the controller sees it.

    Only for a check and where a whole site is to be left. Runs on the controller, changes nothing, and never fails: the witness, on whose turn it is, has
    more to do in the run. Nobody waits longer than timeout_seconds for all of it.
    """

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        self.remember("%s/dependencies" % self.host)
        opened = self.control.read("landscape")
        if opened["runbook"] != "check" and opened["given"].get("dr_scope") != "site":
            return {"skipped": True, "msg": "no site is to be left"}
        unread: list[str] = []
        try:
            needs = dependencies.derive(self._known(unread))
        except (Refusal, AnsibleError) as error:
            needs, unread = [], [str(error)]
        asked = dependencies.to_ask(needs, self._left(opened))
        seen = look(asked, float(self._task.args["timeout_seconds"]))
        unasked = dependencies.Seen(None, "not asked: in the site being left")
        kept = [{"need": asdict(need), "seen": asdict(seen.get(need, unasked))} for need in needs]
        self.control.write("dependencies", {"looked": kept, "unread": unread})
        said = "%d of %d answer" % (sum(bool(one.answers) for one in seen.values()), len(asked))
        return {"msg": "; ".join([said, *("nobody looked: %s" % why for why in unread)])}

    def _known(self, unread: list[str]) -> dict[str, Any]:
        """What there is to look at, for derive. unread: takes a sentence for what of a host's variables cannot be read; the rest is looked at all the same.

        Raises AnsibleError for what everything rests on.
        """
        groups, hostvars = self.variables["groups"], self.variables["hostvars"]
        here = hostvars["localhost"]
        # Once for each host: its variables are put together anew for everybody who asks.
        of = {host: hostvars[host] for host in groups["all"]}

        def read(
            group: str, variable: str, reader: Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]
        ) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            for host in groups.get(group, []):
                try:
                    found += [one for one in reader(host, of[host]) if one not in found]
                except (AnsibleError, AttributeError, KeyError, TypeError, ValueError) as error:
                    why = str(error) if isinstance(error, AnsibleError) else "an entry without what it needs"
                    sentence = "%s: %s" % (variable, why)
                    if sentence not in unread:  # most often it is the same for all hosts
                        unread.append(sentence)
            return found

        repositories, key_paths = here.get("dr_pgbackrest_repositories") or [], here.get("dr_keys_paths") or []
        files = _as_the_controller_has_them(
            [*read("dr_database", _FILES, _files), *read("dr_application", _FILES, _files)], here.get(_FILES) or []
        )
        components = read("dr_application", "dr_app_components", _components)
        proofs = [{**one, **_proof_authority(here)} for one in read("dr_witness", "dr_app_proof_endpoints", _proofs)]
        return {
            "hosts": _hosts(of, groups["dr_database"]),
            "repositories": repositories,
            "files": files,
            "key_paths": key_paths,
            "components": components,
            "proofs": proofs,
            "store": os.environ.get("RELEVO_STORE", ""),
            "ca_file": here.get("dr_cluster_tls_ca_file"),
            "secrets_directory": self._task.args["secrets_directory"],
            "secret_names": dependencies.secret_names([*repositories, *files, *key_paths, *components, *proofs]),
            "declared": self._task.args["declared"],
        }

    def _left(self, opened: dict[str, Any]) -> set[str]:
        """The sites that a run leaves; a check leaves none, and looks everywhere."""
        if opened["runbook"] == "check":
            return set()
        return {opened["sites"][host] for host in opened["groups"]["dr_database"]} - {opened["given"].get("dr_target_site", "")}


def _hosts(of: Mapping[str, Mapping[str, Any]], databases: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": host,
            "address": str(said.get("ansible_host") or host),
            "clients": str(said.get("dr_address") or host),
            "site": str(said.get("dr_site") or ""),
            "database_port": said.get("dr_cluster_port") if host in databases else None,
        }
        for host, said in of.items()
        if said.get("ansible_connection") != "local"
    ]


def _files(host: str, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    return file_repositories.of_host(said.get(_FILES) or [], host)


def _as_the_controller_has_them(files: Sequence[dict[str, Any]], here: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The authority of a store is a path on who asks: a host's says nothing of the controller's."""
    paths = {str(one["id"]): one.get("ca_file") for one in here if isinstance(one, Mapping) and "id" in one}
    return [{**one, "ca_file": paths.get(str(one["id"]), one["ca_file"])} for one in files]


def _components(_host: str, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that the controller plays; what is wrong with the list is said by the judgement."""
    declared, wanted = said.get("dr_app_components"), ("name", "endpoint", "ca_file", "key_id_secret", "key_secret")
    return [
        {key: one.get(key) for key in wanted}
        for one in (declared if isinstance(declared, list) else [])
        if isinstance(one, Mapping) and one.get("provider") in app_providers.ON_CONTROLLER
    ]


def _proofs(_host: str, said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How a witness uses the application, where it does, by the same defaults as dr_app's."""
    if not said.get("dr_app_proof_mix"):
        return []
    endpoints = said.get("dr_app_proof_endpoints", said.get("dr_ledger_http_endpoints"))
    secret = said.get("dr_app_proof_password_secret")
    return [{"endpoints": [str(one) for one in endpoints or []], **_proof_authority(said), "password_secret": secret}]


def _proof_authority(said: Mapping[str, Any]) -> dict[str, Any]:
    """A path on who asks; nothing where none is said."""
    names = ("dr_app_proof_ca_file", "dr_ledger_http_ca_file")
    return next(({"ca_file": said[name]} for name in names if name in said), {})
