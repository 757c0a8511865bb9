"""A Docker Compose project as the customer has it, on an engine of Debian's: its services are pointed at another database, with nothing left behind."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from ansible_collections.relevo.dr.plugins.module_utils.app_component import Part
from ansible_collections.relevo.dr.plugins.module_utils.app_health import health
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline, Target
from ansible_collections.relevo.dr.plugins.module_utils.provider_compose import Compose

from .database_pair import HERE, PASSWORD, Database, free_port, two_databases, until
from .docker_engine import IMAGE, Engine, running

pytestmark = pytest.mark.full

# Health asks the database, as it should; the worker keeps one connection for as long as it may.
WEB = """
import http.server, json, os, subprocess, sys
QUERY = ("select json_build_object('system_identifier', (select system_identifier::text from pg_control_system()),"
         " 'in_recovery', pg_is_in_recovery(), 'port', inet_server_port())")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        done = subprocess.run([sys.argv[2], "-XAtq", os.environ["DATABASE_URL"], "-c", QUERY], capture_output=True)
        self.send_response(200 if done.returncode == 0 else 503)
        self.end_headers()
        self.wfile.write(done.stdout or b"{}")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
PROJECT = """
version: "3.7"
services:
  web:
    image: {image}
    network_mode: host
    restart: always
    environment: {{DATABASE_URL: "${{DATABASE_URL}}"}}
    volumes: ["/usr:/usr:ro", "/etc:/etc:ro", "{place}:/app:ro"]
    command: ["/usr/bin/python3", "/app/web.py", "{port}", "{psql}"]
    stop_grace_period: 1s
  worker:
    image: {image}
    network_mode: host
    restart: always
    environment: {{DATABASE_URL: "${{DATABASE_URL}}"}}
    volumes: ["/usr:/usr:ro", "/etc:/etc:ro"]
    command: ["/bin/sh", "-c", "exec {psql} -XAtq \\"$$DATABASE_URL\\" -c 'select pg_sleep(3600)'"]
    stop_grace_period: 1s
"""


@pytest.fixture(scope="module")
def databases() -> Iterator[tuple[Database, Database]]:
    with two_databases() as both:
        yield both


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running() as found:
        yield found


def system(database: Database) -> str:
    with psycopg.connect(host=str(database.server.directory), port=database.port, user="postgres", dbname="shop") as connection:
        return str(connection.execute("select system_identifier from pg_control_system()").fetchone()[0])


class Project:
    def __init__(self, place: Path, engine: Engine, database: Database) -> None:
        self.place, self.engine, port = place, engine, free_port()
        self.health = f"http://{HERE}:{port}/"
        self.file = place / ".env"
        quoted = urllib.parse.quote(PASSWORD, safe="")
        self.file.write_text(f"# the shop\nDATABASE_URL=postgresql://shop:{quoted}@{HERE}:{database.port}/shop\nOTHER=1\n")
        (place / "web.py").write_text(WEB)
        psql = database.server.binaries / "psql"
        (place / "docker-compose.yml").write_text(PROJECT.format(image=IMAGE, place=place, port=port, psql=psql))
        self.settings = {
            "project_directory": str(place),
            "services": ["web", "worker"],
            "health_url": self.health,
            "docker_host": engine.host,
        }
        self.provider = Compose("shop", self.settings)
        self.part = Part(self.provider, self.settings)

    def compose(self, *words: str) -> None:
        self.provider._compose(*words, seconds=120)

    def answer(self) -> dict[str, object]:
        return dict(health(self.health)["body"])


@pytest.fixture
def project(engine, databases) -> Iterator[Project]:
    place = Path(tempfile.mkdtemp(prefix="relevo-compose-"))
    found = Project(place, engine, databases[0])
    found.compose("up", "--detach", "--no-build")
    until("it answers from the old primary", lambda: found.answer().get("port") == databases[0].port)
    until("the worker is connected", lambda: found.provider.verify([databases[0].place])["sessions_on_old"] >= 1)
    yield found
    found.file.write_text(found.file.read_text())
    subprocess.run(
        ["docker-compose", "--host", engine.host, "down", "--timeout", "1"],
        cwd=place,
        check=False,
        capture_output=True,
        timeout=120,
    )
    shutil.rmtree(place)


def test_services_are_pointed_at_the_new_primary_and_hold_nothing_of_the_old_one(project, databases):
    old, new = databases
    seen = project.part.check([{"host": "b-db1", "name": HERE, "port": new.port}])
    assert (seen["active"], seen["address"], seen["wrong"]) == (True, f"{HERE}:{old.port}", [])
    assert seen["databases"]["b-db1"]["ok"], seen["databases"]
    target = Target(HERE, new.port, system(new), (old.place,))
    done = project.part.cutover(target, Deadline(120))
    assert done.changed
    assert done.more["sessions_on_old"] == 0
    assert project.answer()["port"] == new.port
    assert urllib.parse.unquote(project.provider._file.url().password) == urllib.parse.unquote(PASSWORD)
    assert project.file.read_text().endswith("\nOTHER=1\n")
    until("the worker is on the new one", lambda: project.provider.verify([new.place])["sessions_on_old"] >= 1)
    assert not project.part.cutover(target, Deadline(60)).changed


def test_every_container_of_a_service_is_looked_at_and_one_beside_it_is_not(project, databases):
    project.compose("up", "--detach", "--no-build", "--scale", "worker=2", "worker")
    # As `docker-compose run` leaves it; that of release 1 cannot do it in the host's network.
    labels = {"project.working_dir": project.place, "service": "worker", "oneoff": "True"}
    words = [word for name, value in labels.items() for word in ("--label", f"com.docker.compose.{name}={value}")]
    project.engine.docker("run", "--network", "host", "--volume", "/usr:/usr:ro", *words, IMAGE, "/bin/true")
    assert [runs for _, runs in project.provider._containers()["worker"]] == [True, True]
    until("both are connected", lambda: project.provider.verify([databases[0].place])["sessions_on_old"] >= 2)


def test_a_project_is_found_through_a_link(project, tmp_path):
    (tmp_path / "current").symlink_to(project.place)
    settings = {**project.settings, "project_directory": str(tmp_path / "current")}
    linked = Compose("shop", settings)
    assert linked._containers() == project.provider._containers()
    assert linked.check([])["active"]
    assert linked.quiesce(Deadline(60), leaves=True).changed
    assert project.provider._containers() == {}


def test_what_leaves_is_gone_and_does_not_come_back_with_the_engine(project, databases):
    project.part.quiesce(Deadline(60), leaves=True)
    assert project.answer() == {}
    assert project.engine.docker("ps", "--all", "--quiet").split() == []
    assert not project.part.quiesce(Deadline(60), leaves=True).changed
    assert project.part.revert(Deadline(120)).changed
    assert project.answer()["port"] == databases[0].port


def test_a_cutover_that_died_after_the_file_was_written_is_finished_by_the_next(project, databases):
    new = databases[1]
    project.provider._file.point_at(HERE, new.port)
    assert project.answer()["port"] == databases[0].port
    done = project.part.cutover(Target(HERE, new.port, system(new), (databases[0].place,)), Deadline(120))
    assert done.changed
    assert project.answer()["port"] == new.port


def test_a_file_that_does_not_hand_the_url_on_is_noticed(project, databases):
    """Health is fine, and the old address is built in: only what the containers really have shows it."""
    compose = project.place / "docker-compose.yml"
    url = project.provider._file.url().text.replace("$", "$$")
    compose.write_text(compose.read_text().replace("${DATABASE_URL}", url))
    target = Target(HERE, databases[1].port, system(databases[1]), (databases[0].place,))
    with pytest.raises(ApplicationError, match=r"expected|does the compose file hand it on") as refused:
        project.part.cutover(target, Deadline(60))
    assert urllib.parse.quote(PASSWORD, safe="") not in str(refused.value)


def test_what_is_wrong_is_seen_before(project):
    settings = {**project.settings, "services": ["web", "cron"]}
    wrong = Part(Compose("shop", settings), settings).check([])["wrong"]
    assert wrong == ["the project has no service cron"]
    compose = project.place / "docker-compose.yml"
    compose.write_text(compose.read_text().replace(IMAGE, "relevo-none:1"))
    [wrong] = project.part.check([])["wrong"]
    assert wrong.startswith("the image relevo-none:1 of web, worker is not seen here")
    (project.place / "docker-compose.yml").write_text("services: [")
    with pytest.raises(ApplicationError, match="config failed"):
        project.part.check([])
