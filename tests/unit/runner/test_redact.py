from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from relevo.redact import REDACTED, Redactor, known_secrets

CANARY = "canary7Xq9vT2mZ4"


def test_known_values_are_hidden_wherever_they_are() -> None:
    redactor = Redactor(frozenset({CANARY}))
    tree = {"msg": f"tried {CANARY}!", "list": [CANARY, {"deep": f"x{CANARY}"}]}
    assert CANARY not in str(redactor.tree(tree))


def test_values_of_keys_that_name_secrets_are_hidden() -> None:
    assert Redactor().tree({"password": "pw", "api_key": "k", "tokens": 3, "name": "a"}) == {
        "password": REDACTED,
        "api_key": REDACTED,
        "tokens": 3,
        "name": "a",
    }


def test_forms_of_secrets_are_hidden() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----"
    for text, kept in (
        ("postgresql://app:hunter2@a-db1/app", "postgresql://app:"),
        (f"it said {key} and went on", "and went on"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD="),
        ("password: hunter2, host a", ", host a"),
        ("AGE-SECRET-KEY-1QQQQ", ""),
    ):
        shown = Redactor().text(text)
        assert kept in shown
        assert "hunter2" not in shown
        assert "abc" not in shown
        assert "1QQQQ" not in shown


def test_sentences_about_tokens_stay_readable() -> None:
    sentence = "PROMOTE on b-db1: observed no token; expected a token of this run. Next: run it again"
    assert Redactor().text(sentence) == sentence


def test_secrets_are_found_in_the_inventory_and_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "app").write_text(f"{CANARY}\n")
    (tmp_path / "secrets" / "pgpass").write_text("db:5432:app:app:pgpassValue77x\n")
    (tmp_path / "secrets" / "user").write_text("minimarket\n")
    known = known_secrets([str(tmp_path)], {"PGPASSWORD": "envValue-12345", "HOME": "/root/long/path/1"})
    assert {CANARY, "pgpassValue77x", "envValue-12345"} <= known
    assert "minimarket" not in known, "a plain word would spoil the record"


@given(st.text(min_size=1), st.text(), st.text())
def test_a_known_value_never_survives(secret: str, before: str, after: str) -> None:
    redactor = Redactor(frozenset({f"<{secret}>"}))
    assert f"<{secret}>" not in redactor.text(f"{before}<{secret}>{after}").replace(REDACTED, "")
