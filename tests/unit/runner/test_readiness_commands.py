"""`relevo readiness` and `relevo checklist` over a real store: forms, exits, the kept verification, and a mail through a real server."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relevo import entries, keyring, signature, verified
from relevo.paths import find_place
from relevo.record import canonical
from relevo.store import Store
from tests.unit.runner import year
from tests.unit.runner.sheets import paper_text
from tests.unit.runner.test_mail import Post, post  # noqa: F401 - a fixture
from tests.unit.runner.test_policy_commands import Command, relevo  # noqa: F401 - a fixture

POLICY = ["--policy", "inventories/example/policy.yml"]
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")  # its TLS begins with the first byte, which it does not count


@pytest.fixture
def past(relevo: Command) -> Command:  # noqa: F811
    """A failover three weeks ago, and the last two nights."""
    now = datetime.now(UTC)
    place = find_place(os.environ)
    key, store = signature.ready_key(place.keys), Store(place)
    key.allowed_signers.write_text(keyring.text([keyring.Signer(signature.public(key.path))]), encoding="ascii")
    basis = next(year.plan("minimarket", now)).basis
    planned = [
        year.Planned(now - timedelta(days=21), "minimarket", "failover", scope="site", operator="ana", basis=basis),
        year.Planned(now - timedelta(days=8), "minimarket", "restore_test", basis=basis),
        year.Planned(now - timedelta(days=2), "minimarket", "verify_backup", basis=basis),
        year.Planned(now - timedelta(days=1), "minimarket", "verify_backup", "failed", basis=basis),
    ]
    for one in planned:
        record = year.replay(one, key.fingerprint)
        document = canonical(record.document())
        store.add(record, document, signature.sign(key, document))
    return relevo


def test_a_store_without_a_run_is_said_to_be_so(relevo: Command) -> None:  # noqa: F811
    assert "No cluster" in relevo("readiness")
    assert relevo("checklist", "--json")["clusters"] == []
    relevo("readiness", "--require", "ready", code=1)
    assert "'shop'" in relevo("readiness", "--cluster", "shop", code=4)
    assert "not past" in relevo("readiness", "--since", "2999-01-01", code=4)
    assert "expected a length" in relevo("readiness", "--since", "lately", code=4)


def test_the_verdict_its_reasons_and_how_it_exits(past: Command) -> None:
    words = past("readiness", *POLICY)
    assert words.startswith("NOT READY  minimarket")
    assert "47 of 48 periods with a usable backup" in " ".join(words.split())
    (found,) = past("readiness", "--json", *POLICY, "--cluster", "minimarket")["clusters"]
    assert (found["verdict"], found["backups"]["success_rate"]) == ("not ready", 47 / 48)
    assert past("readiness", "--json", "--since", "12 weeks")["clusters"][0]["metrics"]["failover_tests_completed"] == 1
    past("readiness", "--require", "doubts", code=1)
    listed = past("checklist", *POLICY)
    assert "Status: NOT READY: " in listed and "SOC 2 A1.3" in listed
    past("checklist", "--require", "ready", code=1)


def test_every_form_is_written(past: Command, tmp_path: Path) -> None:
    for kind in ("readiness", "checklist"):
        for form, begin in (("html", b"<!doctype html>"), ("pdf", b"%PDF"), ("markdown", b"# "), ("json", b"{")):
            past(kind, "--format", form, "-o", str(tmp_path / f"{kind}.{form}"), *POLICY)
            assert (tmp_path / f"{kind}.{form}").read_bytes().startswith(begin)
        assert json.loads((tmp_path / f"{kind}.json").read_text())["policy"]["source"].endswith("example/policy.yml")


def records_line(tree: Any) -> tuple[str, str]:
    found = next(one for one in tree["clusters"][0]["lines"] if one["line"] == "Test results documented")
    return found["state"], found["proofs"][0]["sentence"]


def test_a_verification_is_kept_and_a_chain_that_was_changed_since_is_noticed(past: Command) -> None:
    state, said = records_line(past("checklist", "--json"))
    assert (state, said.partition(";")[0]) == ("unproven", "nobody has verified the records yet")
    state, said = records_line(past("checklist", "--json", "--verify"))
    assert state == "proven" and said.startswith("4 records verified ") and said.endswith(" ago, 0 came since")
    place = find_place(os.environ)
    kept = entries.read(Store(place), verified.KIND)
    assert [entries.problems(one, signature.Checker(signature.believed(place.keys))) for one in kept] == [[]]
    last = entries.parse(kept[0].document).said["last"]
    with sqlite3.connect(place.state / "relevo.db") as database:
        database.execute("UPDATE chain SET document = CAST(document || ' ' AS BLOB) WHERE sequence = ?", (last,))
    state, said = records_line(past("checklist", "--json"))
    assert (state, f"no longer has its entry {last}" in said) == ("failed", True)
    state, said = records_line(past("checklist", "--json", "--verify"))
    assert (state, f"entry {last}" in said) == ("failed", True)


def test_it_goes_by_mail_to_those_whom_the_policy_names(past: Command, post: Post, tmp_path: Path) -> None:  # noqa: F811
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    assert "notify_urls" in past("readiness", "--notify", str(secrets), code=4)
    (secrets / "notify_urls").write_text(f"{post.url}\n")
    (secrets / "notify_urls").chmod(0o600)
    past("readiness", "--notify", str(secrets), *POLICY)
    (message,) = post.taken
    assert message["Subject"].startswith("NOT READY: minimarket - ")
    (paper,) = [part for part in message.walk() if part.get_content_type() == "application/pdf"]
    assert str(paper.get_filename()).startswith("readiness-minimarket-")
    assert "Readiness of minimarket" in paper_text(bytes(paper.get_payload(decode=True) or b""))
    past("checklist", "--notify", str(secrets / "notify_urls"))
    assert post.taken[1]["Subject"].startswith("NOT READY: minimarket - ")
    (secrets / "notify_urls").write_text("mailtos://ops:x@127.0.0.1:1?mode=ssl&from=a@example.org&to=b@example.org\n")
    assert "Not delivered: line 1 of notify_urls (mailtos)" in past("readiness", "--notify", str(secrets), code=1)
