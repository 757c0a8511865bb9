"""Verification of real backups: what is broken on purpose is named, and green again after repair."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from .conftest import DRILL, INVENTORY, ROOT, Bench, Run

STORE, READER, PRIMARY = "b-store1", "b-db1", "a-db1"
BUCKET = "/srv/store/relevo-b/minimarket"
CONFIG = "/etc/pgbackrest/pgbackrest.conf"
# Two of the store's directory cache; see roles/lab_store.
CACHE_SECONDS = 11
BOUND_SECONDS = 150


def pgbackrest(bench: Bench, *words: str) -> str:
    return bench.inside(PRIMARY, "runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=minimarket", *words)


def backup(bench: Bench, kind: str = "incr", repository: int = 1) -> None:
    pgbackrest(bench, f"--repo={repository}", f"--type={kind}", "backup")


def begin_anew(bench: Bench) -> None:
    """Two new full backups in each repository, and nothing older: the way out of what cannot be repaired."""
    for number in (1, 2):
        for _ in range(2):
            backup(bench, "full", number)
        pgbackrest(
            bench, f"--repo={number}", f"--repo{number}-retention-full-type=count", f"--repo{number}-retention-full=2", "expire"
        )
    time.sleep(CACHE_SECONDS)


def inventory(directory: Path, **variables: object) -> Path:
    """The laboratory's inventory with other wishes for its backups."""
    copy = directory / "lab"
    shutil.copytree(INVENTORY, copy, dirs_exist_ok=True)
    path = copy / "group_vars/all.yml"
    text = path.read_text().replace("{{ inventory_dir }}/../..", str(ROOT))
    path.write_text(text + "".join(f"\n{name}: {json.dumps(value)}\n" for name, value in variables.items()))
    return copy


@pytest.fixture(scope="module")
def stored(protected: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A cluster with a full backup, two incremental ones, and WAL between them; every backup of the last day counts."""
    protected.verb("reset", "protected")
    protected.wait_until_serving()
    # The snapshot's own backup may be older than is allowed by now.
    backup(protected, "full", 2)
    for _ in range(2):
        protected.sql(
            PRIMARY,
            "create table if not exists public.load (t text); insert into public.load select md5(g::text) from generate_series(1, 20000) g",
        )
        backup(protected)
        protected.sql(PRIMARY, "select pg_switch_wal()")
    backup(protected, "full")
    # Coverage has a test of its own.
    return protected.with_inventory(inventory(tmp_path_factory.mktemp("verify"), dr_backup_periods=0))


def verify(bench: Bench, *, full: bool = False) -> Run:
    began = time.monotonic()
    run = bench.run("verify_backup", **({"dr_backup_full": "true"} if full else {}))
    assert time.monotonic() - began < BOUND_SECONDS
    assert "Traceback" not in run.output
    return run


def green(bench: Bench) -> dict:
    run = verify(bench, full=True)
    assert run.code == 0, run.output[-4000:]
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    return run.record


def red(bench: Bench, gate: str, *says: str, full: bool = True) -> None:
    run = verify(bench, full=full)
    assert run.code != 0, run.output[-3000:]
    assert run.record["verdict"] == "failed"
    failing = {entry["id"]: entry for entry in run.record["gates"] if entry["verdict"] == "fail"}
    assert gate in failing, failing
    for words in says:
        assert words in failing[gate]["observed"], failing[gate]["observed"]
    assert failing[gate]["next_action"]
    assert f"{gate} on " in run.output


@dataclass(frozen=True)
class Fault:
    """What is done to the store by a shell on it (FILE is what `find` finds), the gate that must fail, and what it must say."""

    find: str
    harm: str
    heal: str
    gate: str


FLIP = """python3 - FILE <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(0, 2); middle = file.tell() // 2
    file.seek(middle); byte = file.read(1)
    file.seek(middle); file.write(bytes([byte[0] ^ 1]))
END"""
SEGMENTS = "archive -name '0000*-*.zst' | sort"
FAULTS = {
    "a segment deleted": Fault(f"{SEGMENTS} | sed -n 4p", "mv FILE /tmp/kept", "mv /tmp/kept FILE", "G04"),
    "a segment truncated": Fault(
        f"{SEGMENTS} | sed -n 4p", "cp -p FILE /tmp/kept; truncate -s 300 FILE", "mv /tmp/kept FILE", "WAL"
    ),
    "a segment with the content of another": Fault(
        f"{SEGMENTS} | sed -n 4p",
        f"cp -p FILE /tmp/kept; cat $(find {SEGMENTS} | sed -n 5p) > FILE",
        "mv /tmp/kept FILE",
        "WAL",
    ),
    "a byte flipped in a segment": Fault(f"{SEGMENTS} | sed -n 4p", FLIP, FLIP, "WAL"),
    "a byte flipped in a bundle": Fault("backup -path '*F/bundle/1' | head -n 1", FLIP, FLIP, "CONTENT"),
    "a byte flipped in a file": Fault("backup -name 'backup_label*' | head -n 1", FLIP, FLIP, "CONTENT"),
    "a bundle deleted": Fault("backup -path '*F/bundle/1' | head -n 1", "mv FILE /tmp/kept", "mv /tmp/kept FILE", "OBJECTS"),
    "a backup directory deleted": Fault(
        "backup -maxdepth 2 -name '*I' | head -n 1", "mv FILE /tmp/kept", "mv /tmp/kept FILE", "OBJECTS"
    ),
    "a manifest deleted": Fault("backup -path '*F/backup.manifest'", "mv FILE /tmp/kept", "mv /tmp/kept FILE", "OBJECTS"),
    "one info file deleted": Fault("backup -name backup.info", "mv FILE /tmp/kept", "mv /tmp/kept FILE", "INFO"),
}


def in_bucket(bench: Bench, script: str) -> str:
    return bench.inside(STORE, "bash", "-ec", f"cd {BUCKET}\n{script}")


@pytest.mark.smoke
def test_backups_that_are_whole_pass_and_an_unchanged_repository_is_not_read_again(stored):
    first = green(stored)["measures"]["backup_verification"]["1"]
    assert first["backups"] >= 4
    assert first["objects_read"] == first["objects"] > first["segments"] > 4
    assert first["restorable_until"]
    run = verify(stored)
    files = {(gate["id"], gate["host"].split(",")[0]) for gate in run.record["gates"] if gate["verdict"] == "pass"}
    for host in ("a-db1", "b-db1", "a-app1", "b-app1"):
        assert {("FILESAGE", host), ("FILESSIZE", host), ("FILESDATA", host)} <= files
    assert run.code == 0, run.output[-3000:]
    second = run.record["measures"]["backup_verification"]["1"]
    # The probe of the archive wrote a segment or two.
    assert second["objects_read"] <= second["objects"] - first["objects"] + 2
    assert second["bytes_read"] < first["bytes_read"] / 10


# The others cost more than they say about a change.
QUICK = ("a byte flipped in a bundle",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.smoke if name in QUICK else pytest.mark.full) for name in FAULTS]
)
def test_damage_is_named_and_green_after_repair(stored, name):
    fault = FAULTS[name]
    file = in_bucket(stored, f"find {fault.find}").splitlines()[0]
    assert file, "there is nothing to break"
    before = in_bucket(stored, f"find {file} -type f | sort | xargs sha1sum")
    in_bucket(stored, fault.harm.replace("FILE", file))
    try:
        assert in_bucket(stored, f"find {file} -type f 2>/dev/null | sort | xargs -r sha1sum") != before, "the fault did not bite"
        time.sleep(CACHE_SECONDS)
        named = file.rsplit("/", 1)[-1].split("-")[0] if fault.gate in ("G04", "WAL") else file.split("minimarket/", 1)[-1]
        red(stored, fault.gate, named)
    finally:
        in_bucket(stored, fault.heal.replace("FILE", file))
        time.sleep(CACHE_SECONDS)
    green(stored)


def block_part(bench: Bench) -> tuple[str, str, int]:
    """The largest file that an incremental backup keeps block by block: its bundle in the bucket, its name, and the middle of its bytes there."""
    found = []
    for entry in json.loads(pgbackrest(bench, "--repo=1", "--output=json", "info"))[0]["backup"]:
        if entry["type"] != "incr":
            continue
        manifest = pgbackrest(bench, "--repo=1", "repo-get", f"backup/minimarket/{entry['label']}/backup.manifest")
        for line in manifest.partition("[target:file]\n")[2].partition("\n[")[0].splitlines():
            name, _, value = line.partition("={")
            about = json.loads("{" + value) if value else {}
            if "bni" in about and about.get("repo-size") and "reference" not in about:
                bundle = f"backup/minimarket/{entry['label']}/bundle/{about['bni']}"
                found.append(("bi" in about, about["repo-size"], bundle, name, about.get("bno", 0)))
    by_block, size, bundle, name, offset = max(found)
    # Up to this release whole files are all that there is.
    assert by_block or "2.45" in bench.inside(PRIMARY, "pgbackrest", "version")
    return bundle, name, offset + size // 2


FLIP_AT = """python3 - FILE OFFSET <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2])); byte = file.read(1)
    file.seek(int(sys.argv[2])); file.write(bytes([byte[0] ^ 1]))
END"""


@pytest.mark.full
def test_a_byte_of_a_block_incremental_is_named_with_its_file(stored):
    bundle, name, offset = block_part(stored)
    flip = FLIP_AT.replace("FILE", bundle).replace("OFFSET", str(offset))
    in_bucket(stored, flip)
    try:
        time.sleep(CACHE_SECONDS)
        red(stored, "CONTENT", bundle.partition("minimarket/")[2], f"wrong checksum of {name}")
    finally:
        in_bucket(stored, flip)
        time.sleep(CACHE_SECONDS)
    green(stored)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["segment", "bundle"])
def test_a_nightly_run_reads_what_is_new_and_stays_red_until_it_is_whole(stored, kind):
    """Without being asked to read everything, which all of it was read before."""
    green(stored)
    if kind == "segment":
        stored.sql(PRIMARY, "insert into public.load values ('new')")
        segment = stored.sql(PRIMARY, "select pg_walfile_name(pg_switch_wal())")
        find = f"find archive -name '{segment}-*'"
        stored.wait(f"{segment} is stored", lambda: in_bucket(stored, find) != "")
        gate, named = "WAL", segment
    else:
        backup(stored)
        label = json.loads(pgbackrest(stored, "--repo=1", "--output=json", "info"))[0]["backup"][-1]["label"]
        find = f"find backup -path '*/{label}/bundle/1'"
        gate, named = "CONTENT", f"{label}/bundle/1"
    file = in_bucket(stored, find)
    assert file, "there is nothing new to break"
    in_bucket(stored, FLIP.replace("FILE", file))
    try:
        time.sleep(CACHE_SECONDS)
        for _night in range(2):
            red(stored, gate, named, full=False)
    finally:
        in_bucket(stored, FLIP.replace("FILE", file))
        time.sleep(CACHE_SECONDS)
    whole = verify(stored)
    assert whole.code == 0, whole.output[-3000:]
    green(stored)


@pytest.mark.full
@pytest.mark.parametrize(("what", "check"), [("archive", "REPOSITORY"), ("backup", "INFO")])
def test_both_copies_of_an_info_file_deleted(stored, what, check):
    """Without archive.info pgBackRest reads nothing at all; without backup.info it knows of no backup."""
    in_bucket(stored, f"mkdir /tmp/info; mv {what}/minimarket/{what}.info* /tmp/info")
    try:
        time.sleep(CACHE_SECONDS)
        red(stored, check, f"{what}.info", full=False)
    finally:
        in_bucket(stored, f"mv /tmp/info/* {what}/minimarket; rmdir /tmp/info")
        time.sleep(CACHE_SECONDS)
    green(stored)


@pytest.mark.full
def test_the_newest_segment_deleted_is_missed_because_the_probe_writes_one_after_it(stored):
    green(stored)
    newest = in_bucket(stored, f"find {SEGMENTS} | tail -n 1")
    in_bucket(stored, f"mv {newest} /tmp/kept")
    try:
        time.sleep(CACHE_SECONDS)
        red(stored, "G04", newest.rsplit("/", 1)[-1].split("-")[0])
    finally:
        in_bucket(stored, f"mv /tmp/kept {newest}")
        time.sleep(CACHE_SECONDS)
    green(stored)


@pytest.mark.full
def test_a_backup_that_is_too_old(stored, tmp_path):
    old = stored.with_inventory(inventory(tmp_path, dr_backup_periods=0, dr_backup_age_max_seconds=1))
    red(old, "G05", "too old")


def emptied(text: str) -> tuple[str, str]:
    """backup.info with a newest backup of no bytes, and its label. The file's last line is its checksum, as pgBackRest makes it."""
    sections: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line[1:-1], {})
        elif "=" in line:
            name, _, value = line.partition("=")
            section[name] = value
    sections["backrest"].pop("backrest-checksum")
    newest = max(sections["backup:current"])
    described = sections["backup:current"][newest]
    sections["backup:current"][newest] = re.sub(r'("backup-info-size(?:-delta)?":)\d+', r"\g<1>0", described)
    parts = ('"%s":{%s}' % (name, ",".join(f'"{key}":{value}' for key, value in keys.items())) for name, keys in sections.items())
    digest = hashlib.sha1(("{" + ",".join(parts) + "}").encode(), usedforsecurity=False).hexdigest()
    lines = [
        line for name, keys in sections.items() for line in (f"[{name}]", *(f"{key}={value}" for key, value in keys.items()), "")
    ]
    return "\n".join([*lines, "[backrest]", f'backrest-checksum="{digest}"', ""]), newest


@pytest.mark.full
def test_a_backup_that_is_empty(stored):
    places = ["backup/minimarket/backup.info", "backup/minimarket/backup.info.copy"]
    text, label = emptied(pgbackrest(stored, "--repo=1", "repo-get", places[0]))
    in_bucket(stored, "mkdir /tmp/info; cp -p backup/minimarket/backup.info* /tmp/info")
    try:
        for place in places:
            words = ["runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=minimarket", "--repo=1", "repo-put", place]
            stored.inside(PRIMARY, *words, text=text)
        time.sleep(CACHE_SECONDS)
        red(stored, "G05", label, "empty")
    finally:
        in_bucket(stored, "cp -p /tmp/info/* backup/minimarket; rm -r /tmp/info")
        time.sleep(CACHE_SECONDS)
    green(stored)


@pytest.mark.full
def test_an_archive_command_that_only_pretends(stored):
    stored.sql(PRIMARY, "alter system set archive_command = '/bin/true'", "postgres")
    stored.sql(PRIMARY, "select pg_reload_conf()", "postgres")
    try:
        run = verify(stored)
        assert run.code != 0
        gates = {gate["id"]: gate for gate in run.record["gates"]}
        assert gates["G03"]["verdict"] == "fail"
        assert "archive_command is /bin/true" in gates["G03"]["observed"]
        assert gates["WINDOW"]["verdict"] == "unknown"
    finally:
        stored.sql(PRIMARY, "alter system reset archive_command", "postgres")
        stored.sql(PRIMARY, "select pg_reload_conf()", "postgres")
    # What was never archived is a hole that no repair closes; a new full backup begins after it, and the older ones go.
    begin_anew(stored)
    green(stored)


@pytest.mark.full
def test_a_page_that_was_damaged_before_the_backup(stored):
    stored.sql(PRIMARY, "create table public.harmed as select md5(g::text) from generate_series(1, 5000) g")
    stored.sql(PRIMARY, "checkpoint", "postgres")
    place = stored.sql(PRIMARY, "select current_setting('data_directory') || '/' || pg_relation_filepath('public.harmed')")
    # Only the first block's payload: the server never reads it again, a backup does.
    stored.inside(PRIMARY, "bash", "-ec", f"printf 'damaged' | dd of={place} bs=1 seek=8000 conv=notrunc status=none")
    try:
        backup(stored, "full")
        red(stored, "PAGES", place.rsplit("/", 1)[-1])
    finally:
        stored.sql(PRIMARY, "drop table public.harmed")
        stored.sql(PRIMARY, "checkpoint", "postgres")
    begin_anew(stored)
    green(stored)


# -- the files of the hosts, in the same record --


@pytest.mark.full
def test_damaged_files_are_named_beside_whole_backups_and_a_silent_application_host_keeps_nobody_from_looking(stored):
    place = "/srv/store/relevo-b/files/b-app1/data"
    pack = stored.inside(STORE, "bash", "-c", f"ls -S {place}/*/* | head -n 1").strip()
    stored.inside(STORE, "bash", "-ec", FLIP.replace("FILE", pack))
    stored.verb("power-off", "a-app1")
    try:
        time.sleep(CACHE_SECONDS)
        run = verify(stored, full=True)
        assert run.code != 0
        gates = run.record["gates"]
        assert {
            gate["host"].split(",")[0]: gate["verdict"]
            for gate in gates
            if gate["id"] == "FILESDATA" and "repository 1" in gate["host"]
        } == {
            "a-db1": "pass",
            "b-db1": "pass",
            "b-app1": "fail",
        }
        assert [gate["verdict"] for gate in gates if gate["id"] == "FILESREPO" and gate["host"] == "a-app1"] == ["unknown"]
        assert {gate["verdict"] for gate in gates if gate["id"] in ("G04", "OBJECTS", "CONTENT", "WAL")} == {"pass"}
        assert f"pack {pack.rsplit('/', 1)[-1]}" in " ".join(run.output.split())
        assert run.record["verdict"] == "failed"
    finally:
        stored.inside(STORE, "bash", "-ec", FLIP.replace("FILE", pack))
        stored.verb("power-on", "a-app1")
        time.sleep(CACHE_SECONDS)
    stored.wait_until_serving()
    green(stored)


# -- Debian's check_pgbackrest, an oracle of continuity that shares no line with us --


def oracle(bench: Bench, host: str = PRIMARY, repository: int = 1) -> dict[str, str]:
    """What it says of a repository: its verdict, and the first and last segment that is missing, if any."""
    words = ["check_pgbackrest", "--service=archives", "--stanza=minimarket", f"--repo={repository}", "--output=json"]
    answer = json.loads(bench.inside(host, "runuser", "-u", "postgres", "--", *words, check=False))[0]
    found = re.search(r"wrong sequence, (\d+) missing file\(s\) \((\w+) / (\w+)\)", answer["message"])
    if not found and answer["status"]["code"]:
        found = re.search(r"(min) WAL not found: ((\w+))", answer["message"])
    return {
        "verdict": answer["status"]["message"],
        "missing": f"{found.group(2)} {found.group(3)}" if found else "",
        "oldest": answer.get("long_message", {}).get("oldest_archive", ""),
        "newest": answer.get("long_message", {}).get("latest_archive", ""),
        "said": json.dumps(answer),
    }


def continuity(run: Run, repository: int = 1) -> dict[str, str]:
    """What our own verification says of the same."""
    return [gate for gate in run.record["gates"] if gate["id"] == "G04"][repository - 1]


def both_miss(bench: Bench, files: list[str], *, host: str = PRIMARY) -> None:
    """With these segments gone both say so, and name the same ones; with them back both are content."""
    names = sorted(file.rsplit("/", 1)[-1].split("-")[0] for file in files)
    in_bucket(bench, "mkdir /tmp/held; " + " ".join(f"mv {file} /tmp/held;" for file in files))
    try:
        time.sleep(CACHE_SECONDS)
        theirs, ours = oracle(bench, host), continuity(verify(bench))
        assert theirs["verdict"] in ("WARNING", "CRITICAL"), theirs["said"]
        assert theirs["missing"] == f"{names[0]} {names[-1]}", theirs["said"]
        assert ours["verdict"] == "fail"
        assert re.findall(r"\b[0-9A-F]{24}\b", ours["observed"]) == names
    finally:
        in_bucket(bench, " ".join(f"mv /tmp/held/{file.rsplit('/', 1)[-1]} {file};" for file in files) + "rmdir /tmp/held")
        time.sleep(CACHE_SECONDS)
    assert oracle(bench, host)["verdict"] == "OK"


def three_segments(bench: Bench) -> None:
    for _ in range(3):
        bench.sql(PRIMARY, "insert into public.load values ('a segment of its own')")
        bench.sql(PRIMARY, "select pg_switch_wal()")


@pytest.mark.full
def test_the_oracle_and_our_verification_say_the_same_of_the_wal(stored):
    three_segments(stored)
    backup(stored)
    three_segments(stored)
    time.sleep(CACHE_SECONDS)
    ours = continuity(verify(stored))
    theirs = oracle(stored)
    assert (theirs["verdict"], theirs["missing"], ours["verdict"]) == ("OK", "", "pass"), theirs["said"]

    backups = json.loads(pgbackrest(stored, "--repo=1", "--output=json", "info"))[0]["backup"]
    files = in_bucket(stored, f"find {SEGMENTS}").splitlines()
    by_name = {file.rsplit("/", 1)[-1].split("-")[0]: file for file in files}
    # Nothing is between them but what both see: the oldest that a backup needs, and the newest that there is.
    assert (theirs["oldest"], theirs["newest"]) == (backups[0]["archive"]["start"], max(by_name))
    # The oracle takes a backup's history file, which bears the name of the segment that it begins in, for that segment.
    histories = {name.rsplit("/", 1)[-1].split(".")[0] for name in in_bucket(stored, "find archive -name '*.backup'").split()}
    seen_by_both = [name for name in sorted(by_name) if name > backups[0]["archive"]["stop"] and name not in histories]
    between = by_name[next(name for name in seen_by_both if name < backups[-1]["archive"]["start"])]
    after_the_newest = by_name[next(name for name in seen_by_both if name > backups[-1]["archive"]["stop"])]
    for gone in ([between], [after_the_newest], [between, after_the_newest]):
        both_miss(stored, gone)
    green(stored)


@pytest.mark.full
def test_the_oracle_and_our_verification_say_the_same_across_a_failover(bench, tmp_path):
    moved = bench.with_inventory(inventory(tmp_path, dr_backup_periods=0))
    run = moved.run("failover", **DRILL, dr_accept_loss_seconds="5")
    assert run.code == 0, run.output[-3000:]
    for _ in range(2):
        moved.sql("b-db1", "select pg_logical_emit_message(true, 'test', 'x')")
        moved.sql("b-db1", "select pg_switch_wal()")
    time.sleep(CACHE_SECONDS)
    ours, theirs = continuity(verify(moved)), oracle(moved, "b-db1")
    assert (theirs["verdict"], theirs["missing"], ours["verdict"]) == ("OK", "", "pass"), theirs["said"]
    assert ours["observed"].endswith("on timelines 1, 2")
    by_name = {file.rsplit("/", 1)[-1].split("-")[0]: file for file in in_bucket(moved, f"find {SEGMENTS}").splitlines()}
    first_of_child = min(name for name in by_name if name.startswith("00000002"))
    last_of_parent = max(name for name in by_name if name.startswith("00000001") and name[8:] < first_of_child[8:])
    for gone in ([by_name[last_of_parent]], [by_name[first_of_child]]):
        both_miss(moved, gone, host="b-db1")


# -- a repository that cannot be used: red, in bounded time, with a sentence --


def unusable(bench: Bench, *says: str) -> None:
    run = verify(bench)
    assert run.code != 0, run.output[-3000:]
    assert run.record["verdict"] == "failed"
    gate = next(entry for entry in run.record["gates"] if entry["id"] == "REPOSITORY")
    assert gate["verdict"] == "fail"
    for words in says:
        assert words in gate["observed"] + gate["next_action"], gate


@pytest.fixture
def changed_configuration(stored: Bench) -> Iterator[Bench]:
    """The reader's configuration, put back afterwards."""
    stored.inside(READER, "cp", "-p", CONFIG, "/root/kept.conf")
    yield stored
    stored.inside(READER, "mv", "/root/kept.conf", CONFIG)
    green(stored)


@pytest.mark.full
def test_a_wrong_passphrase(changed_configuration):
    changed_configuration.inside(READER, "sed", "-i", "s/^repo1-cipher-pass=.*/repo1-cipher-pass=not-the-one/", CONFIG)
    unusable(changed_configuration, "passphrase")


@pytest.mark.full
def test_a_store_that_answers_403(changed_configuration):
    changed_configuration.inside(READER, "sed", "-i", "s/^repo1-s3-key-secret=.*/repo1-s3-key-secret=not-the-one/", CONFIG)
    unusable(changed_configuration, "403", "key_secret")


@pytest.fixture
def stopped_store(stored: Bench) -> Iterator[Bench]:
    stored.inside(STORE, "systemctl", "stop", "relevo-lab-store")
    yield stored
    stored.inside(STORE, "systemctl", "start", "relevo-lab-store")
    stored.wait("the store answers", lambda: bool(stored.inside(READER, "pgbackrest", "info", "--stanza=minimarket", check=False)))
    green(stored)


@pytest.mark.full
def test_a_store_that_is_down(stopped_store):
    unusable(stopped_store, "does not answer")


BUSY = """
import http.server, ssl
class Busy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.send_response(503); self.send_header("Content-Length", "0"); self.end_headers()
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/ssl/relevo-lab/host.pem", "/etc/ssl/relevo-lab/host.key")
server = http.server.ThreadingHTTPServer(("", 443), Busy)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.mark.full
def test_a_store_that_answers_503(stopped_store):
    stopped_store.inside(STORE, "install", "/dev/stdin", "/root/busy.py", text=BUSY)
    stopped_store.inside(STORE, "systemd-run", "--quiet", "--unit=busy", "python3", "/root/busy.py")
    try:
        stopped_store.wait("503", lambda: "503" in stopped_store.inside(READER, "curl", "-skI", "https://b-store1/", check=False))
        unusable(stopped_store, "503")
    finally:
        stopped_store.inside(STORE, "systemctl", "stop", "busy")


# In front of the store itself: everything goes through as it is, but the time that the store tells.
LATE = """
import email.utils, http.client, http.server, ssl, time
class Late(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        behind = http.client.HTTPSConnection("127.0.0.1", 8443, context=ssl._create_unverified_context())
        behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            behind.putheader(name, value)
        behind.endheaders(body)
        reply = behind.getresponse()
        content = reply.read()
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in ("date", "connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Date", email.utils.formatdate(time.time() - 1200, usegmt=True))
        self.send_header("Content-Length", reply.getheader("Content-Length") or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/ssl/relevo-lab/host.pem", "/etc/ssl/relevo-lab/host.key")
server = http.server.ThreadingHTTPServer(("", 443), Late)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
BEHIND = """
sed 's/--addr :443/--addr 127.0.0.1:8443/' /etc/systemd/system/relevo-lab-store.service > /run/systemd/system/behind.service
systemctl daemon-reload
systemctl start behind
"""


@pytest.mark.full
def test_a_store_whose_clock_is_20_minutes_off(stopped_store):
    stopped_store.inside(STORE, "bash", "-ec", BEHIND)
    stopped_store.inside(STORE, "install", "/dev/stdin", "/root/late.py", text=LATE)
    stopped_store.inside(STORE, "systemd-run", "--quiet", "--unit=late", "python3", "/root/late.py")
    try:
        ask = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://b-store1/")
        # Who does not sign gets some error, as long as it is there.
        stopped_store.wait("the store answers", lambda: stopped_store.inside(READER, *ask, check=False) not in ("", "000"))
        run = verify(stopped_store)
        assert run.code != 0
        failing = {gate["id"]: gate for gate in run.record["gates"] if gate["verdict"] == "fail"}
        assert list(failing) == ["G17"], failing
        assert "s behind this host's" in failing["G17"]["observed"]
        assert "repository 1" in failing["G17"]["host"]
        assert "set the clock" in failing["G17"]["next_action"]
    finally:
        stopped_store.inside(STORE, "systemctl", "stop", "late", "behind")


@pytest.mark.full
def test_a_store_that_says_nothing_at_all(stored):
    stored.verb("cut", READER, STORE)
    try:
        unusable(stored, "does not answer", "drops packets")
    finally:
        stored.verb("heal-all")
    green(stored)


@pytest.mark.full
def test_a_store_whose_certificate_has_expired(stored):
    place = stored.lab.state / "tls"
    authority = x509.load_pem_x509_certificate((place / "ca.pem").read_bytes())
    key_file = next(path for path in (stored.lab.state / "secrets/ca.key", place / "ca.key") if path.exists())
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    shown = x509.load_pem_x509_certificate(stored.inside(STORE, "cat", "/etc/ssl/relevo-lab/host.pem").encode())
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(authority.subject, shown.subject, shown.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=9)).not_valid_after(now - datetime.timedelta(days=1))
    for extension in shown.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    expired = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    stored.inside(
        STORE,
        "bash",
        "-ec",
        "cp -p /etc/ssl/relevo-lab/host.pem /root/kept.pem; cat > /etc/ssl/relevo-lab/host.pem; systemctl restart relevo-lab-store",
        text=expired,
    )
    try:
        unusable(stored, "expired", "notAfter=", "verification stays on")
    finally:
        stored.inside(STORE, "bash", "-ec", "cp -p /root/kept.pem /etc/ssl/relevo-lab/host.pem; systemctl restart relevo-lab-store")
    green(stored)


# -- coverage --

PERIOD_SECONDS, PERIODS = 20, 24


def keep_backing_up(bench: Bench, enough: threading.Event) -> int:
    """One in the middle of each period, so that none begins at its very edge. How many were taken."""
    taken = 0
    while not enough.is_set():
        began = time.time()
        backup(bench)
        taken += 1
        enough.wait(max(0.0, (began // PERIOD_SECONDS + 1.5) * PERIOD_SECONDS - time.time()))
    return taken


@pytest.mark.full
def test_coverage_of_26_backups_and_then_one_is_gone(bench, tmp_path):
    asked = bench.with_inventory(inventory(tmp_path, dr_backup_period_seconds=PERIOD_SECONDS, dr_backup_periods=PERIODS))
    enough = threading.Event()
    with ThreadPoolExecutor() as pool:
        taken = pool.submit(keep_backing_up, bench, enough)
        try:
            # They go on while it looks: the newest period that is over has one too.
            enough.wait((PERIODS + 2) * PERIOD_SECONDS)
            run = verify(asked)
        finally:
            enough.set()
    assert taken.result() >= PERIODS + 2
    assert run.record["measures"]["backup_verification"]["1"]["coverage"] == f"{PERIODS}/{PERIODS}", run.output[-4000:]
    # The other repository, in which nobody took them, is judged by itself.
    failing = [(gate["id"], gate["host"][:12]) for gate in run.record["gates"] if gate["verdict"] == "fail"]
    assert failing == [("COVERAGE", "repository 2")]
    info = json.loads(
        bench.inside(
            PRIMARY, "runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=minimarket", "--repo=1", "--output=json", "info"
        )
    )
    gone = info[0]["backup"][-1]["label"]
    began = info[0]["backup"][-1]["timestamp"]["start"]
    time.sleep(PERIOD_SECONDS)
    bench.inside(
        PRIMARY, "runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=minimarket", "--repo=1", f"--set={gone}", "expire"
    )
    time.sleep(CACHE_SECONDS)
    run = verify(asked)
    measured = run.record["measures"]["backup_verification"]["1"]
    begin = datetime.datetime.fromtimestamp(began // PERIOD_SECONDS * PERIOD_SECONDS, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert any(period.startswith(begin) for period in measured["missing_periods"]), measured
    gate = next(entry for entry in run.record["gates"] if entry["id"] == "COVERAGE")
    assert gate["verdict"] == "fail"
    assert begin in gate["observed"]
