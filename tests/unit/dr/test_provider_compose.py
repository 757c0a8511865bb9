"""A Docker Compose project on an engine that is a script: which containers are looked at, and which images must be there before anything stops."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import app_login, compose_images, provider_compose
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline, Place, Target
from ansible_collections.relevo.dr.plugins.module_utils.provider_compose import Compose

# What docker-compose 1.29.2 said of such a project.
YAML = """services:
  both:
    build:
      context: /opt/shop
    image: mine:2
  built:
    build:
      context: /opt/shop
  web:
    environment:
      DATABASE_URL: postgresql://a:b%@h/x
      TEXT: "a\\n\\n    image: none:1\\n"
    image: relevo-shop:1
version: '3.7'
volumes:
  image:
    image: {}
"""
# Reads and writes state.json beside it; a verb of compose acts on the containers of the project that is in its directory.
ENGINE = """#!{python} -IS
import json, os, re, sys
place = {place!r}
state = json.load(open(place + "/state.json"))
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
open(place + "/log", "a").write(" ".join([name, *words]) + "\\n")
label = "com.docker.compose."

def compose(words):
    while words[0].startswith("--"):
        words = words[2:]
    verb, rest = words[0], words[1:]
    if "--help" in rest:
        print(state["help"])
    elif verb == "version":
        print(state["version"])
    elif verb == "config":
        print(json.dumps(state["config"]) if "json" in rest else state["yaml"])
    else:
        mine = [one for one in state["containers"] if one["labels"][label + "project"] == os.path.basename(os.getcwd())]
        for one in mine:
            if one["labels"][label + "service"] in rest and one["labels"][label + "oneoff"] == "False":
                one["state"] = "running" if verb == "up" else "exited"
                if verb == "up":
                    one["environment"] = [line for line in open(".env").read().splitlines() if "=" in line]
        json.dump(state, open(place + "/state.json", "w"))

if name == "docker-compose":
    compose(words)
elif words[0] == "compose":
    if not state["plugin"]:
        sys.exit("docker: unknown command: docker compose")
    compose(words[1:])
elif words[0] == "ps":
    for one in state["containers"]:
        line = words[-1].replace("{{{{.ID}}}}", one["id"]).replace("{{{{.State}}}}", one["state"])
        print(re.sub(r'{{{{.Label "([^"]*)"}}}}', lambda found: one["labels"].get(found[1], ""), line))
elif words[0] == "image":
    if words[-1] not in state["images"]:
        sys.exit("Error: No such image: " + words[-1])
elif words[0] == "inspect":
    print("\\n".join(line for one in state["containers"] if one["id"] in words for line in one["environment"]))
elif words[0] == "top":
    print("PID\\n" + "\\n".join(str(pid) for one in state["containers"] if one["id"] == words[1] for pid in one["processes"]))
"""
TARGET = Target("b-db1", 5432, "77")
OLD = [Place("a-db1", "a-db1", "192.0.2.1", 5432)]


class Host:
    def __init__(self, place: Path) -> None:
        self.place, self.project = place, place / "releases" / "7"
        self.project.mkdir(parents=True)
        (self.project / ".env").write_text("DATABASE_URL=postgresql://shop@a-db1:5432/m\n")
        self.link = place / "current"
        self.link.symlink_to(self.project)
        for name in ("docker", "docker-compose"):
            (place / name).write_text(ENGINE.format(python=sys.executable, place=str(place)))
            (place / name).chmod(0o755)
        self.state = {
            "plugin": True,
            "version": "2.26.1",
            "help": "      --pull string   Pull image before running\n      --quiet-pull",
            "config": {"name": "7", "services": {"web": {"image": "shop:1"}, "worker": {"build": {}}}},
            "yaml": YAML,
            "images": ["shop:1", "7-worker"],
            "containers": [],
        }
        self.save()

    def save(self, **changed: object) -> None:
        self.state.update(changed)
        (self.place / "state.json").write_text(json.dumps(self.state))

    def runs(self, name: str, service: str = "web", state: str = "running", **about: str) -> None:
        labels = {"service": service, "oneoff": "False", "project": "7", "project.working_dir": str(self.project), **about}
        environment = ["DATABASE_URL=postgresql://shop@a-db1:5432/m"]
        container = {"id": name, "state": state, "environment": environment, "processes": [len(self.state["containers"]) + 1]}
        container["labels"] = {f"com.docker.compose.{key}": value for key, value in labels.items()}
        self.save(containers=[*self.state["containers"], container])

    def told(self, verb: str) -> list[str]:
        return [line for line in (self.place / "log").read_text().splitlines() if f" {verb}" in line]

    def compose(self, directory: Path | None = None, services: tuple[str, ...] = ("web",)) -> Compose:
        return Compose("shop", {"project_directory": str(directory or self.project), "services": list(services)})


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(provider_compose, "_PATH", str(tmp_path))
    monkeypatch.setattr(app_login, "ask_each", lambda *_: {})
    monkeypatch.setattr(app_login, "wait_for_primary", lambda *_: None)
    monkeypatch.setattr(provider_compose.sessions, "held", lambda processes, _: list(processes))
    return Host(tmp_path)


def test_every_container_of_a_service_is_looked_at(host):
    host.runs("aaa")
    host.runs("bbb")
    host.runs("ccc", state="exited")
    shop = host.compose()
    assert shop._containers() == {"web": [("aaa", True), ("bbb", True), ("ccc", False)]}
    assert shop.verify(OLD)["sessions_on_old"] == [1, 2]
    assert shop.check([])["active"]
    host.state["containers"][1]["environment"] = ["DATABASE_URL=postgresql://shop@c-db1:5432/m"]
    host.save()
    assert not shop._uses(shop._file.url())


def test_a_service_of_which_one_container_has_ended_is_started_again(host):
    host.runs("aaa")
    host.runs("bbb", state="exited")
    shop = host.compose()
    assert shop.revert(Deadline(30)).changed
    assert not shop.revert(Deadline(30)).changed


def test_what_was_started_beside_a_service_hides_it_not_and_is_none_of_it(host):
    host.runs("aaa")
    host.runs("zzz", state="exited", oneoff="True")
    host.runs("yyy", service="worker", oneoff="True")
    shop = host.compose(services=("web", "worker"))
    assert shop._containers() == {"web": [("aaa", True)]}
    assert not shop.check([])["active"]


@pytest.mark.parametrize("started_in", ["project", "link"])
def test_a_project_behind_a_link_is_found_whichever_way_it_was_started(host, started_in):
    host.runs("aaa", **{"project.working_dir": str(getattr(host, started_in))})
    host.runs("other", **{"project.working_dir": str(host.place)})
    shop = host.compose(host.link)
    assert shop._containers() == {"web": [("aaa", True)]}
    assert shop.check([])["active"]
    done = shop.cutover(TARGET, Deadline(30))
    assert done.changed
    assert (host.project / ".env").read_text() == "DATABASE_URL=postgresql://shop@b-db1:5432/m\n"
    assert shop.quiesce(Deadline(30), leaves=False).changed
    assert not shop.check([])["active"]


def test_a_container_that_compose_does_not_stop_is_not_said_to_be_stopped(host):
    host.runs("aaa", project="current")
    with pytest.raises(ApplicationError, match="web still run after they were stopped"):
        host.compose(host.link).quiesce(Deadline(30), leaves=True)


def test_an_image_that_is_not_there_is_in_the_way_before_anything_stops(host):
    services = ("web", "worker", "cron")
    assert host.compose(services=services).check([])["wrong"] == ["the project has no service cron"]
    host.save(images=[])
    wrong = host.compose(services=services).check([])["wrong"][1:]
    assert [line.partition(" is not seen here")[0] for line in wrong] == ["the image 7-worker of worker", "the image shop:1 of web"]
    assert all("No such image" in line and line.endswith("pull or build it on this host") for line in wrong)
    assert "the project has no service cron" not in host.compose().check([])["wrong"]


def test_of_docker_compose_1_the_images_are_asked_for_too(host):
    host.save(plugin=False, version="1.29.2", help="    --quiet-pull   Pull without", images=["relevo-shop:1"])
    wrong = host.compose(services=("web", "built", "both")).check([])["wrong"]
    assert [line.partition(" is not seen here")[0] for line in wrong] == ["the image 7_built of built", "the image mine:2 of both"]
    host.save(version="2.26.1")
    assert host.compose().check([])["wrong"][0].startswith("the image shop:1 of web")
    host.save(config=[])
    with pytest.raises(ApplicationError, match="docker-compose says a configuration that cannot be read"):
        host.compose().check([])


@pytest.mark.parametrize(("plugin", "never"), [(True, True), (False, False)])
def test_nothing_is_pulled_where_compose_can_be_told_so(host, plugin, never):
    host.runs("aaa")
    host.save(plugin=plugin, help=host.state["help"] if plugin else "    --quiet-pull   Pull without")
    shop = host.compose()
    shop.prepare(TARGET)
    shop.cutover(TARGET, Deadline(30))
    asked, made = host.told("up")
    assert asked.endswith("up --help")
    assert ("--no-build --pull never --no-deps" in made) is never
    assert "--force-recreate web" in made


def test_images_are_read_as_each_compose_writes_them():
    assert compose_images.of_yaml(YAML, "My.Shop") == {"both": "mine:2", "built": "myshop_built", "web": "relevo-shop:1"}
    assert compose_images.of_yaml("services:\n  'on':\n    image: '123'\n", "x") == {"on": "123"}
    assert compose_images.of_json('{"services": {"web": null}}', "_My.Shop") == {"web": "myshop-web"}
    with pytest.raises(ValueError, match="Expecting"):
        compose_images.of_json("services:", "x")
