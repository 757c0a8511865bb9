"""A schedule as data: what is refused, what the units say, and what of somebody else's is recognised."""

from __future__ import annotations

import configparser

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import backup_schedule as schedule
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

HOURLY = {"name": "hourly-full", "type": "full", "calendar": "*-*-* *:05:00", "jitter_seconds": 120}


def entry(**changes):
    return schedule.entries([{**HOURLY, **changes}], [1, 2], "a-db1")[0]


def refused(elements):
    with pytest.raises(Refusal) as caught:
        schedule.entries(elements, [1, 2], "a-db1")
    assert caught.value.gate["id"] == "SCHEDULE"
    return str(caught.value)


def test_an_entry_is_for_every_repository_and_from_the_primary_unless_it_says_otherwise():
    assert (entry().repositories, entry().source) == ((1, 2), "primary")
    assert (entry(repositories=[2], **{"from": "standby"}).repositories, entry(**{"from": "standby"}).source) == ((2,), "standby")


def test_names_that_are_double_and_repositories_that_nobody_described_are_refused():
    assert "two entries of the name hourly-full" in refused([HOURLY, HOURLY])
    assert "repository 3; expected one of the repositories of dr_pgbackrest_repositories: 1, 2" in refused(
        [{**HOURLY, "repositories": [1, 3]}]
    )
    assert "jitter_seconds -1" in refused([{**HOURLY, "jitter_seconds": -1}])


@pytest.mark.parametrize("name", ["", "../x", "a b", "Hourly", "x\n", "a" * 50, "1st", "a.b", "a%i"])
def test_a_name_that_is_no_units_name_is_refused(name):
    assert "small letters" in refused([{**HOURLY, "name": name}])


def parsed(text):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string(text)
    return parser


def test_the_units_say_what_the_entry_says():
    units = schedule.units(entry(repositories=[2], **{"from": "standby"}), "postgres", 86400)
    timer, service = parsed(units["relevo-backup-hourly-full.timer"]), parsed(units["relevo-backup-hourly-full.service"])
    assert dict(timer["Timer"]) == {
        "OnCalendar": "*-*-* *:05:00",
        "RandomizedDelaySec": "120",
        "AccuracySec": "1",
        "Persistent": "true",
        "Unit": "relevo-backup-hourly-full.service",
    }
    assert service["Service"]["ExecStart"].endswith("/relevo-backup --name=hourly-full --type=full --repository=2 --standby")
    assert service["Service"]["User"] == "postgres"
    assert service["Service"]["NoNewPrivileges"] == "yes"
    # pgBackRest's own lock is in /tmp: with a /tmp of its own it would lock out nobody.
    assert "PrivateTmp" not in service["Service"]


def test_only_units_of_a_schedule_are_taken_for_ours():
    names = [
        "relevo-backup-x.timer",
        "relevo-backup-x.service",
        "relevo-backup@.service",
        "relevo-ledger.service",
        "pgbackrest.timer",
    ]
    assert schedule.ours(names) == ["relevo-backup-x.service", "relevo-backup-x.timer"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("30 1 * * * postgres pgbackrest --stanza=minimarket --type=full backup", True),
        ("@daily postgres /usr/bin/pgbackrest --stanza=minimarket backup --type=incr", True),
        ("0 * * * * root su postgres -c 'pgbackrest --stanza minimarket backup'", True),
        ("0 * * * * postgres pgbackrest --type=full backup", True),
        ("0 * * * * postgres pgbackrest --stanza='minimarket' backup", True),
        ("0 * * * * postgres /usr/local/bin/nightly", True),
        ("0 * * * * postgres pgbackrest --stanza=other backup", False),
        ("# 0 * * * * postgres pgbackrest --stanza=minimarket backup", False),
        ("0 * * * * postgres pgbackrest --stanza=minimarket check", False),
        ("0 * * * * postgres pgbackrest --stanza=minimarket --backup-standby info", False),
        ("0 * * * * postgres pgbackrest --stanza=minimarket verify-backup", False),
        ("MAILTO=pgbackrest backup", False),
        ("0 * * * * postgres /usr/bin/true", False),
    ],
)
def test_a_crontab_that_backs_up_is_recognised(line, found):
    scripts = {
        "/usr/local/bin/nightly": "#!/bin/sh\n# pgbackrest\npgbackrest --stanza=minimarket \\\n  --type=diff backup\n",
        "/usr/bin/true": "",
    }
    text = "SHELL=/bin/sh\n%s\n" % line
    assert [(one.where, one.line) for one in schedule.cron_lines("/etc/cron.d/x", text, "minimarket", scripts)] == (
        [("/etc/cron.d/x", 2)] if found else []
    )


def test_a_replaced_line_is_a_comment_and_no_longer_found():
    text = "SHELL=/bin/sh\n0 * * * * postgres pgbackrest --stanza=minimarket backup\n"
    after = schedule.without_line(text, schedule.cron_lines("x", text, "minimarket", {})[0])
    assert after == "SHELL=/bin/sh\n# replaced by Relevo's timers: 0 * * * * postgres pgbackrest --stanza=minimarket backup\n"
    assert schedule.cron_lines("x", after, "minimarket", {}) == []


def test_what_a_service_would_run_is_read_as_systemd_expanded_it():
    shown = (
        "Id=backup@minimarket.service\n"
        "ExecStart={ path=/usr/bin/pgbackrest ; argv[]=/usr/bin/pgbackrest --stanza=minimarket backup ; ignore_errors=no ; pid=0 }\n"
        "\nId=empty.service\n"
    )
    found = schedule.service_commands(shown)
    assert found == {"backup@minimarket.service": ["/usr/bin/pgbackrest --stanza=minimarket backup"], "empty.service": []}
    assert schedule.runs_backup(found["backup@minimarket.service"][0], "minimarket", {})
    assert not schedule.runs_backup(found["backup@minimarket.service"][0], "other", {})
