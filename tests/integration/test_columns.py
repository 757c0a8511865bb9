"""Columns that pgcrypto encrypted, under two generations of a key, on a real server: decrypted, compared, and the key in no log."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from ansible_collections.relevo.dr.plugins.action.restore_decrypt import judged
from ansible_collections.relevo.dr.plugins.module_utils import column_proof
from ansible_collections.relevo.dr.plugins.module_utils.column_proof import ColumnsError, compared, digests
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import Psql

from .database_server import Server, serving

ROOT = Path(__file__).parents[2]
# What a person could choose, and COPY and SQL take as something else.
KEYS = {"1": b"old\\key'\t$;\\.\n", "2": 'canary-9a7 ñ"{{ x }}'.encode()}
SQL = "select user_id, public.pgp_sym_decrypt(mail, @key@) from public.users where generation = {} order by user_id;"
COLUMNS = [
    {"name": f"mail {generation}", "key": "shop", "generation": generation, "sql": SQL.format(generation)} for generation in KEYS
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as here:
        here.database("shop")
        with psycopg.connect(host=str(here.directory), user="postgres", dbname="shop", autocommit=True) as connection:
            connection.execute("create extension pgcrypto")
            connection.execute("create table users (user_id int primary key, generation int, mail bytea)")
            for user in range(1, 9):
                generation = "1" if user <= 4 else "2"
                key = KEYS[generation].rstrip(b"\r\n").decode()
                values = (user, int(generation), f"user{user}@example.org", key)
                connection.execute("insert into users values (%s, %s, pgp_sym_encrypt(%s, %s))", values)
            for setting, value in (
                ("log_statement", "all"),
                ("log_min_duration_statement", "0"),
                ("log_min_error_statement", "error"),
            ):
                connection.execute(f"alter system set {setting} = '{value}'")  # type: ignore[call-overload]
            connection.execute("select pg_reload_conf()")
        yield here


def session(server: Server) -> Psql:
    return Psql(str(server.binaries), 5432, f"host={server.directory} dbname=shop", "postgres", 60)


def found(server: Server, column: dict, key: bytes) -> list[list[str]]:
    with session(server) as open_session:
        return digests(open_session, column, key)


def test_each_generation_decrypts_with_its_own_key_and_gives_the_same_digests_again(server: Server) -> None:
    for column in COLUMNS:
        rows = found(server, column, KEYS[column["generation"]])
        assert len(rows) == 4
        assert found(server, column, KEYS[column["generation"]].rstrip(b"\n") + b"\r\n") == rows
        assert compared(rows, rows) == (4, 0, 0)
        assert not any("example" in digest for _, digest in rows)
    other = [found(server, {**COLUMNS[0], "name": "another"}, KEYS["1"]), found(server, COLUMNS[0], KEYS["1"])]
    assert other[0] != other[1]


def test_another_generations_key_is_a_wrong_key_and_is_not_shown(server: Server) -> None:
    with pytest.raises(ColumnsError, match="wrong key or corrupt data") as caught:
        found(server, COLUMNS[0], KEYS["2"])
    assert "canary" not in str(caught.value)
    for key, word in ((b"", "not there"), (b"a\0b", "zero byte"), (b"\xff\xfe", "no text")):
        with pytest.raises(ColumnsError, match=word):
            found(server, COLUMNS[0], key)
    with pytest.raises(ColumnsError, match="does not exist"):
        found(server, {**COLUMNS[1], "sql": "select 1, @key@ from public.nothing"}, KEYS["2"])
    with pytest.raises(ColumnsError, match="finds no row"):
        found(server, {**COLUMNS[1], "sql": COLUMNS[1]["sql"].replace("= 2", "= 3")}, KEYS["2"])
    with pytest.raises(ColumnsError, match="does not use @key@"):
        column_proof.script("select 1, 2", "x")


def test_a_changed_row_is_another_and_a_deleted_one_is_missing(server: Server) -> None:
    before = found(server, COLUMNS[1], KEYS["2"])
    with psycopg.connect(host=str(server.directory), user="postgres", dbname="shop") as connection:
        connection.execute("update users set mail = pgp_sym_encrypt('changed', %s) where user_id = 5", (KEYS["2"].decode(),))
        connection.execute("delete from users where user_id = 6")
        connection.commit()
        after = found(server, COLUMNS[1], KEYS["2"])
    assert compared(before, after) == (2, 1, 1)


def test_the_server_s_log_never_holds_a_key_and_the_database_is_as_it_was(server: Server) -> None:
    (server.directory / "log").chmod(0o644)
    start = (server.directory / "log").stat().st_size
    found(server, COLUMNS[1], KEYS["2"])
    with pytest.raises(ColumnsError):
        found(server, {**COLUMNS[1], "sql": "select 1, @key@ from public.nothing"}, KEYS["2"])
    with pytest.raises(ColumnsError):
        found(server, COLUMNS[0], KEYS["2"])
    said = (server.directory / "log").read_bytes()[start:]
    assert b"begin" in said, "the log shows nothing at all, so it proves nothing"
    assert b"canary" not in said
    with session(server) as open_session:
        assert open_session.query("select relname from pg_class where relname like 'relevo%'") == []


def test_a_copy_is_started_decrypted_and_stopped_by_the_module(server: Server) -> None:
    expected = {column["name"]: {**column, "rows": found(server, column, KEYS[column["generation"]])} for column in COLUMNS}
    server.control("stop", "-m", "fast")
    base = server.directory / "restore"
    try:
        (base / "1/run").mkdir(parents=True)
        shutil.copytree(server.directory / "data", base / "1/data")
        subprocess.run(["chown", "-R", "postgres:postgres", base], check=True)
        (base / "1/data/postgresql.auto.conf").write_text("")
        mark = {"run_id": "run", "state": "restored"}
        (base / "relevo-restore.json").write_text(json.dumps(mark))
        arguments = {
            "columns": COLUMNS,
            "keys": {f"keys/shop/{generation}": base64.b64encode(key).decode() for generation, key in KEYS.items()},
            "directory": str(base),
            "bin_directory": str(server.binaries),
            "port": 5432,
            "database": "shop",
            "run_id": "run",
            "host_name": "b-scratch",
            "replay_timeout": 120,
        }
        answer = module(arguments)
        wrong = module({**arguments, "keys": {**arguments["keys"], "keys/shop/1": arguments["keys"]["keys/shop/2"]}})
    finally:
        server.control("start")
    assert answer.get("wrong") == {}, answer
    recovered = {"keys/shop/1", "keys/shop/2"}
    verdicts = [gate["verdict"] for gate in judged("safe", "b-scratch", expected, answer["columns"], answer["wrong"], recovered)]
    assert verdicts == ["pass", "pass"]
    assert wrong["wrong"] == {"mail 1": "mail 1: the key does not decrypt the column (wrong key or corrupt data)"}
    failed = judged("safe", "b-scratch", expected, wrong["columns"], wrong["wrong"], {*recovered, "keys/shop/0"})
    assert [gate["verdict"] for gate in failed] == ["fail", "pass", "unknown"]
    assert "canary" not in json.dumps([answer, wrong, failed])


def module(arguments: dict) -> dict:
    program = (
        "import json, sys\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.relevo.dr.plugins.modules import restore_decrypt\n"
        "with patch_module_args(json.load(sys.stdin)): restore_decrypt.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(arguments),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    found_in: dict = json.loads(done.stdout.splitlines()[-1])
    return found_in
