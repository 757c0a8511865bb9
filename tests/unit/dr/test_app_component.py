"""One component on a host whose systemctl is a script: what stops first, what is counted, and what hooks may and may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import app_login
from ansible_collections.relevo.dr.plugins.module_utils.app_component import Part
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline, Target
from ansible_collections.relevo.dr.plugins.module_utils.provider_systemd import Systemd

# Keeps what runs and what is enabled as files, and what it was told in a log; a unit called stubborn does not stop.
SYSTEMCTL = """#!/bin/sh
place={place}
[ "$1" = --quiet ] && shift
verb=$1
for unit; do :; done
case $verb in
  is-active) [ -e $place/active/$unit ];;
  is-enabled) [ -e $place/enabled/$unit ];;
  show) case $2 in *LoadState) [ -e $place/known/$unit ] && echo loaded || echo not-found;; esac;;
  *) echo $verb $unit >> $place/log
     case $verb in
       stop) [ $unit = stubborn.service ] || rm $place/active/$unit;;
       start|restart) touch $place/active/$unit;;
       enable) touch $place/enabled/$unit;;
       disable) rm $place/enabled/$unit;;
     esac;;
esac
"""


class Host:
    def __init__(self, place: Path) -> None:
        self.place = place
        for name in ("active", "enabled", "known"):
            (place / name).mkdir()
        (place / "systemctl").write_text(SYSTEMCTL.format(place=place))
        (place / "systemctl").chmod(0o755)
        self.file = place / "app.env"
        self.file.write_text("DATABASE_URL=postgresql://shop@a-db1/m\n")

    def runs(self, *units: str) -> None:
        for unit in units:
            for state in ("active", "enabled", "known"):
                (self.place / state / unit).touch()

    def told(self) -> list[str]:
        log = self.place / "log"
        return log.read_text().splitlines() if log.exists() else []

    def part(self, **settings: object) -> Part:
        settings = {"unit": "shop.service", "environment_file": str(self.file), **settings}
        return Part(Systemd("shop", settings), settings, "run-1")


@pytest.fixture
def host(tmp_path, monkeypatch):
    found = Host(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    answer = {"ok": True, "error": None, "in_recovery": False, "system_identifier": "77", "tls": True}
    monkeypatch.setattr(app_login, "ask", lambda *_, **__: answer)
    found.runs("shop.service", "mail.service", "report.timer")
    return found


TARGET = Target("b-db1", 5432, "77")
BACKGROUND = ["mail.service", "report.timer"]


def test_background_units_stop_before_the_component_and_start_after_it(host):
    part = host.part(background_units=BACKGROUND)
    done = part.quiesce(Deadline(5), leaves=True)
    assert [line for line in host.told() if line.startswith("stop")] == [
        "stop mail.service",
        "stop report.timer",
        "stop shop.service",
    ]
    assert done.more["background"] == {"declared": 2, "running": []}
    assert not list((host.place / "enabled").iterdir())
    assert not part.quiesce(Deadline(5), leaves=True).changed

    (host.place / "log").unlink()
    done = part.cutover(TARGET, Deadline(5))
    started = [line for line in host.told() if line.split()[0] in {"start", "restart"}]
    assert started == ["restart shop.service", "start mail.service", "start report.timer"]
    assert done.more["background"] == {"declared": 2, "running": BACKGROUND}
    assert done.more["address"] == "b-db1:5432"
    assert len(list((host.place / "enabled").iterdir())) == 3
    assert not part.cutover(TARGET, Deadline(5)).changed


def test_a_worker_that_is_left_behind_is_named(host):
    host.runs("stubborn.service")
    with pytest.raises(ApplicationError, match=r"stubborn\.service still run"):
        host.part(background_units=["mail.service", "stubborn.service"]).quiesce(Deadline(5), leaves=False)


def test_the_old_side_is_opened_with_everything_that_works_for_it(host):
    part = host.part(background_units=BACKGROUND)
    part.quiesce(Deadline(5), leaves=True)
    done = part.revert(Deadline(5))
    assert done.changed
    assert done.more["background"]["running"] == BACKGROUND
    assert host.file.read_text() == "DATABASE_URL=postgresql://shop@a-db1/m\n"


def test_a_url_behind_a_pooler_stays_and_its_connections_do_not(host):
    part = host.part(repoint=False)
    assert part.cutover(TARGET, Deadline(5)).changed
    assert host.told() == ["restart shop.service"]
    assert "a-db1" in host.file.read_text()


def test_the_wrong_cluster_and_a_standby_are_never_pointed_at(host, monkeypatch):
    for answer, words in (
        ({"ok": True, "error": None, "in_recovery": False, "system_identifier": "78"}, "is system 78, expected 77"),
        ({"ok": True, "error": None, "in_recovery": True, "system_identifier": "77"}, "still a standby"),
        ({"ok": False, "error": "refused"}, "refused"),
    ):
        monkeypatch.setattr(app_login, "ask", lambda *_, answer=answer, **__: answer)
        with pytest.raises(ApplicationError, match=words):
            host.part().cutover(TARGET, Deadline(0.05))
    monkeypatch.setattr(app_login, "ask", lambda *_, **__: {"ok": False, "error": "refused"})
    with pytest.raises(ApplicationError, match="it still points where it did: a-db1 failed"):
        host.part().cutover(Target("b-db1", 5432, "77", stop=lambda: "a-db1 failed"), Deadline(5))
    assert (host.told(), "a-db1" in host.file.read_text()) == ([], True)


def hook(host, name, content):
    path = host.place / name
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
    return [str(path), "word"]


def test_hooks_run_around_a_verb_and_know_for_whom(host):
    said = f'echo "$RELEVO_HOOK $RELEVO_COMPONENT $RELEVO_RUN_ID $1" >> {host.place}/log'
    part = host.part(hooks={"before_cutover": hook(host, "one", said), "after_cutover": hook(host, "two", said)})
    assert part.check([])["wrong"] == []
    part.cutover(TARGET, Deadline(5))
    assert host.told() == ["before_cutover shop run-1 word", "restart shop.service", "after_cutover shop run-1 word"]


@pytest.mark.parametrize(
    ("content", "words"),
    [("echo geheim; exit 3", "ended with 3"), ("exec sleep 30", "did not end within"), (None, "cannot be run")],
)
def test_a_hook_that_fails_is_named_and_what_it_printed_is_not(host, content, words):
    command = hook(host, "one", content) if content else [str(host.place / "none")]
    with pytest.raises(ApplicationError, match=f"hook before_cutover.*{words}") as refused:
        host.part(hooks={"before_cutover": command}, hook_seconds=0.2).cutover(TARGET, Deadline(5))
    assert "geheim" not in str(refused.value)
    assert host.told() == []


def test_what_is_wrong_with_hooks_and_units_is_seen_before(host):
    hooks = {"before_cutover": ["relative"], "during_cutover": ["/bin/true"], "after_cutover": "/bin/true"}
    wrong = host.part(hooks=hooks, background_units=["gone.service"], unit="other.service").check([])["wrong"]
    assert [line.split(" ")[1] for line in wrong] == [
        "other.service",
        "gone.service",
        "before_cutover",
        "during_cutover",
        "after_cutover",
    ]
