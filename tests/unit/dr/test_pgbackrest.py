"""What pgBackRest says, turned into gates and sentences: whose stanza, how good its backups, why a store cannot be used."""

from __future__ import annotations

import json
import stat
import subprocess
import time

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import archive_proof, pgbackrest, stanza
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

OURS, THEIRS = "7711716702515425405", "7480000000000000000"
REPOSITORY = {"id": 1, "bucket": "relevo-b", "endpoint": "b-store1", "port": 443}


def backup(label="20261124-124500F", stop=1000, size=30_000_000, **more):
    return {
        "label": label,
        "type": "full",
        "timestamp": {"start": stop - 5, "stop": stop},
        "info": {"size": size},
        "error": False,
        "database": {"id": 1, "repo-key": 1},
        **more,
    }


def info(system=OURS, version="17", code=0, message="ok", backups=()):
    databases = [{"id": 1, "repo-key": 1, "system-id": int(system), "version": version}] if system else []
    return {
        "name": "minimarket",
        "db": databases,
        "backup": list(backups),
        "repo": [{"key": 1, "status": {"code": code, "message": message}}],
    }


def plan(answer):
    return stanza.plan(answer, "minimarket", OURS, "17", "a-db1")


def test_a_stanza_that_is_missing_is_made():
    for code in (1, 3):
        assert [change.current for change in plan(info(system=None, code=code))] == ["absent"]


@pytest.mark.parametrize("code", [0, 2])
def test_a_stanza_of_this_cluster_is_adopted_with_or_without_backups(code):
    assert plan(info(code=code)) == []


def test_bytes_that_a_wrong_passphrase_makes_reach_nobody():
    """They once made the host's answer unreadable, and another host answered for it."""
    said = "ERROR: [FormatError]: key/value found outside of section at line 1: \x02\ufffd\x1b[31m\u0430 unable to flush"
    error = pgbackrest.explained(said)
    assert "passphrase" in error.observed
    assert error.observed.isascii() and error.observed.isprintable()


def test_a_stanza_of_another_cluster_is_refused_with_both_identifiers():
    with pytest.raises(Refusal) as refused:
        plan(info(system=THEIRS))
    assert OURS in str(refused.value)
    assert THEIRS in str(refused.value)
    assert "never deleted" in str(refused.value)


def test_a_stanza_of_another_major_version_is_refused():
    with pytest.raises(Refusal, match="stanza-upgrade"):
        plan(info(version="16"))


def test_the_newest_entry_of_a_repository_says_whose_it_is():
    upgraded = info()
    upgraded["db"].insert(0, {"id": 1, "repo-key": 1, "system-id": int(THEIRS), "version": "16"})
    assert plan(upgraded) == []


@pytest.mark.parametrize(
    ("backups", "verdict", "words"),
    [
        ([backup(stop=1000)], "pass", "20261124-124500F"),
        ([], "fail", "no backup"),
        ([backup(stop=-90000)], "fail", "too old"),
        ([backup(size=0)], "fail", "empty"),
        ([backup(error=True)], "fail", "page checksum errors"),
        ([backup(label="old", stop=-90000), backup()], "pass", "20261124-124500F"),
    ],
)
def test_the_newest_backup_as_a_gate(backups, verdict, words):
    gate = stanza.backup_gate(info(backups=backups), "a-db1", 2000.0, 86400)
    assert (gate["id"], gate["verdict"]) == ("G05", verdict)
    assert words in gate["observed"]


SAID = {
    "403": ("ERROR: [039]: HTTP request failed with 403 (Forbidden):\n*** Path/Query ***:\nGET /relevo-b", "403", "key_secret"),
    "unknown authority": (
        "[CryptoError] unable to verify certificate presented by 'b-store1:443': [20] unable to get local issuer certificate",
        "not signed by a CA",
        "verification stays on",
    ),
    "expired": (
        "unable to verify certificate presented by 'b-store1:443': [10] certificate has expired",
        "has expired",
        "verification stays on",
    ),
    "silent": ("ERROR: [049]: timeout connecting to 'b-store1:443'", "does not answer", "drops packets"),
    "refused": (
        "[HostConnectError] unable to connect to 'b-store1:443': [111] Connection refused",
        "does not answer",
        "store runs",
    ),
    "no bucket": ("HTTP request failed with 404 (Not Found): NoSuchBucket", "no such bucket", "make the bucket"),
    "passphrase": ("[CryptoError] cipher header invalid\nHINT: is or was the repo encrypted?", "passphrase", "passphrase file"),
    "clock": ("403 Forbidden ... RequestTimeTooSkewed", "clock", "set the clock"),
    "locked": (
        "ERROR: [050]: unable to acquire lock on file '/tmp/pgbackrest/minimarket-backup.lock'",
        "another pgBackRest",
        "wait",
    ),
}


@pytest.mark.parametrize(("output", "observed", "next_action"), SAID.values(), ids=SAID)
def test_errors_become_sentences(output, observed, next_action):
    error = pgbackrest.explained(output)
    assert observed in error.observed
    assert next_action in error.next_action


def test_an_error_nobody_knows_is_shown_as_it_is():
    assert "something new" in pgbackrest.explained("ERROR: [099]: something new").observed


def test_an_unusable_repository_is_named():
    answer = info(system=None, code=99, message="[ProtocolError] HTTP request failed with 403 (Forbidden)")

    class Command:
        def info(self, _repository):
            return answer

    with pytest.raises(Refusal) as refused:
        stanza.read(Command(), "a-db1", [REPOSITORY])
    assert "repository 1 (bucket relevo-b at b-store1:443)" in str(refused.value)
    assert "403" in str(refused.value)


def test_versions():
    assert pgbackrest.parse_version("pgBackRest 2.45\n") == (2, 45)
    assert pgbackrest.parse_version("pgBackRest 2.55.1\n") == (2, 55, 1)
    with pytest.raises(ValueError, match="not a version"):
        pgbackrest.parse_version("command not found")


@pytest.fixture
def program(tmp_path):
    """A stand-in for pgbackrest."""

    def make(script):
        path = tmp_path / "pgbackrest"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


def command(binary, **kwargs):
    owner = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    return pgbackrest.Pgbackrest("/etc/pgbackrest.conf", "minimarket", owner, binary, **kwargs)


def test_a_store_that_swallows_packets_costs_bounded_time(program):
    began = time.monotonic()
    with pytest.raises(pgbackrest.PgbackrestError, match=r"no result within 0\.5 s"):
        command(program("exec sleep 60"), timeout=0.5).run("info")
    assert time.monotonic() - began < 5


def test_options_go_before_the_command_and_secrets_nowhere(program, tmp_path):
    binary = program('printf "%s\\n" "$@" > ' + str(tmp_path / "words"))
    command(binary).run("archive-get", "--repo=1", "SEGMENT", "/target")
    words = (tmp_path / "words").read_text().split()
    assert words[words.index("archive-get") :] == ["archive-get", "SEGMENT", "/target"]
    assert "--repo=1" in words[: words.index("archive-get")]
    assert "--io-timeout=3" in words


def test_info_of_a_stanza_that_is_not_there(program):
    assert command(program("echo '[]'")).info()["status"]["code"] == 1
    assert command(program("echo '%s'" % json.dumps([info()]))).info()["db"]


def test_a_missing_program_is_a_sentence():
    with pytest.raises(pgbackrest.PgbackrestError) as missing:
        command("/nowhere/pgbackrest").run("info")
    assert "install the package" in missing.value.next_action


def proof(**changes):
    return archive_proof.Proof(
        **{"segment": "000000010000000000000006", "seconds": 0.7, "limit_seconds": 60.0, "at": "now", **changes}
    )


def test_the_archive_as_a_gate():
    assert archive_proof.gate(proof(), "a-db1")["verdict"] == "pass"
    assert archive_proof.gate(None, "a-db1")["verdict"] == "unknown"
    failed = archive_proof.gate(
        proof(missing={"repository 1": "not in the archive"}, said="; archive_command is true and does not fail"), "a-db1"
    )
    assert failed["verdict"] == "fail"
    assert "000000010000000000000006" in failed["observed"]
    assert "archive_command is true" in failed["observed"]


def busy_for(tmp_path, times, then=0):
    """A pgBackRest whose stanza is locked so many times, as it is by an archiver that began before there was a stanza."""
    binary = tmp_path / "pgbackrest"
    count = tmp_path / "count"
    count.write_text("0")
    binary.write_text(
        f"#!/bin/sh\nn=$(cat {count}); echo $((n+1)) > {count}\n"
        f'if [ $n -lt {times} ]; then echo "ERROR: [050]: unable to acquire lock on file" >&2; exit 50; fi\nexit {then}\n'
    )
    binary.chmod(0o755)
    return pgbackrest.Pgbackrest("/none", "minimarket", owner="root", binary=str(binary)), count


def test_a_stanza_is_made_when_the_archiver_that_came_first_lets_go(tmp_path):
    command, count = busy_for(tmp_path, 2)
    command.run_when_free("stanza-create", 30)
    assert count.read_text().strip() == "3"


def test_a_lock_that_stays_and_any_other_error_are_said(tmp_path):
    command, count = busy_for(tmp_path, 99)
    with pytest.raises(pgbackrest.PgbackrestError, match="at work on this stanza"):
        command.run_when_free("stanza-create", 0.1)
    command, count = busy_for(tmp_path, 0, then=1)
    with pytest.raises(pgbackrest.PgbackrestError):
        command.run_when_free("stanza-create", 30)
    assert count.read_text().strip() == "1"


def test_backups_of_the_cluster_before_an_upgrade_are_not_those_of_today():
    databases = [{"id": number, "repo-key": key, "version": str(16 + number)} for number, key in ((1, 1), (2, 1), (1, 2))]
    places = [("old", 1, 1), ("new", 2, 1), ("other", 1, 2)]
    known = [backup(label, database={"id": number, "repo-key": key}) for label, number, key in places]
    # Each repository counts by itself: the other one was made anew.
    assert [one["label"] for one in stanza.current_backups({"db": databases, "backup": known})] == ["new", "other"]
    assert stanza.backup_gate({"db": databases[:2], "backup": known[:1]}, "a-db1", 1000, 60)["observed"] == "no backup"
    assert [stanza.archive_id({"db": databases[:2]}, number) for number in (1, 2, None)] == ["17-1", "18-2", "18-2"]
    assert stanza.archive_id({}) == ""
