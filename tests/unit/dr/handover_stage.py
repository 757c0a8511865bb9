"""A hand-over with every host's part at once, on hosts that answer as they are told."""

from __future__ import annotations

import subprocess
import threading
import time
from types import SimpleNamespace

from ansible_collections.relevo.dr.plugins.action import handover
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.app_components import Component
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

HOSTS = {"a-db1": "database", "b-db1": "database", "a-app1": "application", "b-app1": "application", "wit1": "witness"}
DATABASE = {
    "unit": "u.service",
    "data_directory": "/d",
    "bin_directory": "/b",
    "port": 5432,
    "database": "shop",
    "stanza": "shop",
    "version": "17",
    "config_directory": "/etc/postgresql/17/main",
    "ledger_present_sql": "select 1",
}
SHOP = {"unit": "shop.service", "environment_file": "/e"}
APPS = ("a-app1", "b-app1")
COMPONENTS = (Component("shop", "systemd", APPS, (), dict.fromkeys(APPS, SHOP)),)
HANDOVER = {"run_id": "run", "nonce": "n", "from_lsn": "0/1", "message_lsn": "0/2", "shutdown_lsn": "0/3", "timeline": 1}


RESTORED = {"set": "20261124-000000F", "bytes": 3, "seconds": 1.0}


class Stage:
    """The hosts. broken: what one of them answers, or raises, instead, by (host, module, step); asked: what was asked for."""

    def __init__(self, broken=None):
        self.broken, self.asked, self.lock = broken or {}, [], threading.Lock()
        self.played = []

    def answer(self, host, module, arguments):
        name = module.rsplit(".", 1)[1]
        step = arguments.get("step") or arguments.get("state") or ""
        with self.lock:
            self.asked.append((host, name, step))
            self.played += [(step, one["name"], host) for one in arguments.get("components", ())]
        good = {"changed": True, "phase": Milestone(name, host).ended()}
        good.update(getattr(self, f"_{name}", lambda *_: {})(host, step))
        wrong = self.broken.get((host, name, step), {})
        if isinstance(wrong, Exception):
            raise wrong
        return {**good, **wrong}

    def _server_fence(self, host, _step):
        proof = {"host": host, "class": "stopped", "at": clock.utc_now(), "shutdown_lsn": "0/3", "timeline": 1, "probes": []}
        return {"proof": {**proof, "handover": HANDOVER, "unarchived": []}}

    def _app_component(self, _host, _step):
        return {"application": {"components": {}}}

    def _witness_statement(self, _host, _step):
        return {"ledger_tail": [], "probes": []}

    def _standby_restore(self, _host, _step):
        return {"restore": RESTORED, "left_out": [2]}

    def _standby_promote(self, _host, step):
        promotion = {"already": False, "promotion_began_at": clock.utc_now(), "promoted_at": clock.utc_now(), "timeline": 2}
        position = {"replay_lsn": "0/4", "target_replayed": True, "replayed_bytes": 16384}
        drained = {"position": position, "in_recovery": True, "nonce": "c", "system_identifier": "77", "left_out": [], "probes": []}
        promoted = {"promotion": promotion, "loss": None, "probes": [], "restore": RESTORED}
        return {"drain": drained, "promote": promoted, "withdraw": {"in_recovery": True}}[step]


class Staged:
    """A module that is started when its letter comes."""

    def __init__(self, action, _run_id, _name, module, arguments, _seconds):
        self._action, self._module, self._arguments = action, module, arguments

    def ready(self, _seconds):
        return True

    def go(self, late, _stop=None):
        return self._action.ask(self._module, {**self._arguments, **late})

    def give_up(self, _reason):
        return None


def playing(tmp_path, monkeypatch, plan, components, silent=(), limit_seconds=1):
    """Play the hand-over with these hosts, of which the silent ones do not answer; returns their results by name.

    limit_seconds: of each part.
    """
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    monkeypatch.setenv("RELEVO_SIGNING_KEY", str(key))
    monkeypatch.setattr(handover, "StagedModule", Staged)
    monkeypatch.setattr(handover, "probe", lambda *_: {"host": "a-db1", "address": "a", "vantage": "v", "result": "refused"})
    control = Control("run", str(tmp_path))
    control.write("landscape", {"given": {}})
    control.write("plan", plan.as_dict())
    control.write("inputs", vars(Inputs(mode="planned", scope="site", target_site="b")) | {"given": []})
    control.write("repositories", {"leave_out": []})
    control.write("components", [one.as_dict() for one in components])
    for host, kind in HOSTS.items():
        settings = {**DATABASE, "address": host, "name": host} if kind == "database" else {}
        control.write(
            f"{kind}/{host}",
            {
                "reachable": host not in silent,
                "settings": settings,
                "clock_offset_seconds": 0.0,
                "facts": {"application": {"components": {one.name: {"active": True} for one in components}}},
            },
        )
    control.write(
        "fence/a-db1", {"settings": {"providers": ["service", "command"], "command_off": ["false"], "command_status": ["false"]}}
    )
    control.write(
        "lock/b-db1", {"held": True, "lease_seconds": 120, "began": {"at": clock.utc_now(), "boottime": clock.boottime_seconds()}}
    )

    def play(stage):
        results = {}

        def asked(host, module, arguments):
            # As the real one: it serves only from the new primary.
            while arguments.get("step") == "cutover" and not (control.exists("handover/promoted") or control.failed()):
                time.sleep(0.002)
            return stage.answer(host, module, arguments)

        def part(host):
            action = handover.ActionModule.__new__(handover.ActionModule)
            action.host, action.control = host, control
            limits = dict.fromkeys(
                ("quiesce_wait_seconds", "fence_seconds", "drain_seconds", "promote_seconds", "cutover_seconds"), limit_seconds
            )
            action._task = SimpleNamespace(args=limits, check_mode=False)
            action.ask = lambda module, arguments: asked(host, module, arguments)
            results[host] = action.act()

        threads = [threading.Thread(target=part, args=(host,)) for host in HOSTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert set(results) == set(HOSTS)
        return results

    return play


def failed(results):
    return {host for host, result in results.items() if result.get("failed")}


def said(result):
    return result["ansible_stats"]["data"]["relevo"]
