"""Parameters in a file of our own: what is written, what is adopted, what needs a restart, what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import settings_file
from ansible_collections.relevo.dr.plugins.module_utils.settings_file import Configured, Running, Setting
from hypothesis import given
from hypothesis import strategies as st

OURS = "/etc/postgresql/17/main/conf.d/60-relevo.conf"
MAIN = "/etc/postgresql/17/main/postgresql.conf"
AUTO = "/var/lib/postgresql/17/main/postgresql.auto.conf"

TIMEOUT = Setting("archive_timeout", "900")
MODE = Setting("archive_mode", "on", "adopt", ("on", "always"), ("off",))
COMMAND = Setting(
    "archive_command", "pgbackrest push", "adopt", (r"(\S*/)?pgbackrest\s.*--stanza=x\s.*",), ("", r"\(disabled\)", "true")
)
CONNECTIONS = Setting("max_connections", "100", "minimum")

ROWS = {
    "archive_timeout": Running("0", "integer", "s"),
    "archive_mode": Running("off", "enum", None, "postmaster"),
    "archive_command": Running("(disabled)"),
    "max_connections": Running("60", "integer", None, "postmaster"),
}


def plan(setting, ours=None, configured=None, running=None):
    rows = {name: Running(**{**vars(row), "setting": (running or {}).get(name, row.setting)}) for name, row in ROWS.items()}
    return settings_file.plan([setting], ours or {}, OURS, configured or {}, rows)


def test_without_a_server_every_line_is_written():
    planned = settings_file.plan([TIMEOUT, MODE, COMMAND, CONNECTIONS], {}, OURS, {}, {})
    assert planned.lines == {
        "archive_timeout": "900",
        "archive_mode": "on",
        "archive_command": "pgbackrest push",
        "max_connections": "100",
    }
    assert not planned.restart


def test_a_value_that_differs_is_written_and_named():
    planned = plan(TIMEOUT)
    assert planned.lines == {"archive_timeout": "900"}
    assert [(change.current, change.wanted) for change in planned.changes] == [("0", "900")]
    assert not planned.restart


def test_a_value_that_another_file_says_is_left_to_it():
    planned = plan(TIMEOUT, configured={"archive_timeout": Configured("15min", MAIN)}, running={"archive_timeout": "900"})
    assert (planned.lines, planned.changes) == ({}, [])


def test_nothing_to_do_the_second_time():
    ours = {"archive_timeout": "900"}
    planned = plan(TIMEOUT, ours, {"archive_timeout": Configured("900", OURS)}, {"archive_timeout": "900"})
    assert (planned.lines, planned.changes, planned.restart) == (ours, [], ())


def test_a_line_changed_by_hand_is_repaired():
    planned = plan(TIMEOUT, {"archive_timeout": "10"}, {"archive_timeout": Configured("10", OURS)}, {"archive_timeout": "10"})
    assert planned.lines == {"archive_timeout": "900"}
    assert planned.changes


def test_a_line_that_is_not_ours_is_removed():
    planned = plan(TIMEOUT, {"archive_timeout": "900", "fsync": "off"}, running={"archive_timeout": "900"})
    assert [change.item for change in planned.changes] == ["parameter fsync"]


def test_alter_system_that_hides_our_file_is_reset():
    planned = plan(TIMEOUT, {"archive_timeout": "900"}, {"archive_timeout": Configured("0", AUTO)})
    assert planned.resets == ("archive_timeout",)
    assert "ALTER SYSTEM" in planned.changes[0].current


def test_alter_system_that_agrees_is_left_alone():
    planned = plan(TIMEOUT, {"archive_timeout": "900"}, {"archive_timeout": Configured("15min", AUTO)}, {"archive_timeout": "900"})
    assert (planned.resets, planned.changes) == ((), [])


def test_a_parameter_of_the_postmaster_needs_a_restart():
    planned = plan(MODE)
    assert planned.restart == ("archive_mode",)
    assert [(change.current, change.wanted) for change in planned.changes] == [("off", "on")]


def test_a_restart_that_is_still_due_is_seen():
    planned = plan(MODE, configured={"archive_mode": Configured("on", MAIN)})
    assert planned.lines == {}
    assert planned.restart == ("archive_mode",)
    assert "as configured" in planned.changes[0].wanted


@pytest.mark.parametrize("present", ["always", "on"])
def test_a_good_value_is_adopted(present):
    planned = plan(MODE, configured={"archive_mode": Configured(present, MAIN)}, running={"archive_mode": present})
    assert (planned.lines, planned.changes, planned.restart) == ({}, [], ())


@pytest.mark.parametrize("present", ["", "(disabled)", "true"])
def test_a_command_that_only_pretends_is_replaced(present):
    assert plan(COMMAND, running={"archive_command": present}).lines == {"archive_command": "pgbackrest push"}


def test_a_command_that_already_archives_this_stanza_stays():
    command = "pgbackrest --config=/etc/other.conf --stanza=x archive-push %p"
    assert plan(COMMAND, running={"archive_command": command}).lines == {}


@pytest.mark.parametrize("present", ["wal-g wal-push %p", "cp %p /mnt", "pgbackrest --stanza=y archive-push %p"])
def test_another_tool_is_refused_and_not_switched_off(present):
    planned = plan(COMMAND, running={"archive_command": present})
    assert [refusal.current for refusal in planned.refusals] == [present]


def test_but_in_our_own_file_it_is_drift():
    planned = plan(COMMAND, {"archive_command": "cp %p /mnt"}, running={"archive_command": "cp %p /mnt"})
    assert planned.lines == {"archive_command": "pgbackrest push"}
    assert not planned.refusals


def test_a_value_whose_entry_is_gone_does_not_count():
    rows = {"archive_command": Running("pgbackrest --stanza=x push", source="configuration file", boot_val="")}
    planned = settings_file.plan([COMMAND], {}, OURS, {}, rows)
    assert planned.lines == {"archive_command": "pgbackrest push"}


@pytest.mark.parametrize(
    ("ours", "elsewhere", "running", "line", "restart"),
    [
        (None, None, "100", None, False),
        (None, None, "200", None, False),
        (None, None, "60", "100", True),
        ("150", None, "150", "150", False),
        ("50", None, "150", "100", True),
        (None, "300", "300", None, False),
    ],
)
def test_a_minimum_never_lowers_what_is_there(ours, elsewhere, running, line, restart):
    configured = {"max_connections": Configured(elsewhere, MAIN)} if elsewhere else {}
    planned = plan(CONNECTIONS, {"max_connections": ours} if ours else {}, configured, {"max_connections": running})
    assert planned.lines.get("max_connections") == line
    assert bool(planned.restart) == restart


@pytest.mark.parametrize(
    ("value", "row", "canonical"),
    [
        ("15min", Running("", "integer", "s"), "900"),
        ("900", Running("", "integer", "s"), "900"),
        ("8GB", Running("", "integer", "MB"), "8192"),
        ("64MB", Running("", "integer", "8kB"), "8192"),
        ("true", Running("", "bool"), "on"),
        ("0", Running("", "bool"), "off"),
        ("Replica", Running("", "enum"), "replica"),
        ("Some Text", Running("", "string"), "Some Text"),
    ],
)
def test_values_are_compared_as_the_server_means_them(value, row, canonical):
    assert settings_file.canonical(value, row) == canonical


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\x85"), max_size=40)


@given(st.dictionaries(NAMES, VALUES))
def test_what_is_written_is_what_is_read(lines):
    assert settings_file.parse(settings_file.render("header", lines)) == lines


def test_lines_that_people_write_are_read():
    text = "# comment\nport 5433\nshared_buffers=64MB # small\nlisten_addresses = '*'\nlisten_addresses = 'it''s' # last one wins\n#fsync = off\n"
    assert settings_file.parse(text) == {"port": "5433", "shared_buffers": "64MB", "listen_addresses": "it's"}


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("include_dir = 'conf.d'", False),
        ("include_dir 'conf.d/'", False),
        ("include_if_exists = 'conf.d/60-relevo.conf'", False),
        ("#include_dir = 'conf.d'", True),
        ("include_dir = 'other.d'", True),
    ],
)
def test_postgresql_conf_is_made_to_read_our_file_once(line, added):
    main = "port = 5432\n%s\n" % line
    changed = settings_file.with_include(main, "conf.d", "60-relevo.conf")
    assert (changed != main) == added
    assert settings_file.with_include(changed, "conf.d", "60-relevo.conf") == changed
