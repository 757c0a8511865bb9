"""Whether the newest escape pack would still be the right one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from relevo import packs, period
from relevo.clock import parse_utc
from relevo.entries import Entry
from relevo.packs import Now
from relevo.policy import EscapePack

POLICY = EscapePack(fresh_for=period.parse_period("1 month"), clusters_in_clear=False)
MADE = Entry(
    "e1", packs.KIND, "20261101T000000Z-1f3a9c20", packs.MADE, "2026-11-01T00:00:00.000000Z", "ana", "ctl-a",
    packs.said("0" * 64, "a" * 40, "inventory", ["shop"], secrets=True),
)  # fmt: skip
NOW = Now(parse_utc("2026-11-28T00:00:00Z"), "shop", "a" * 40, "inventory")


def stand(*entries: Entry, now: Now = NOW, same: bool | None = None) -> packs.Standing:
    return packs.stand(entries, POLICY, now, lambda _one, _other: same)


def test_a_pack_of_this_commit_and_inventory_is_right_until_it_is_too_old() -> None:
    assert stand(MADE).wrong == ()
    assert stand(MADE).sentence == "20261101T000000Z-1f3a9c20, made 2026-11-01 00:00:00 UTC"
    late = stand(MADE, now=replace(NOW, at=NOW.at + timedelta(days=4)))
    assert late.sentence.endswith("UTC: older than 1 month")


def test_another_commit_inventory_or_missing_secrets_are_said() -> None:
    other = replace(NOW, commit="b" * 40, inventory="another")
    assert stand(MADE, now=other).wrong == (
        f"of commit {'a' * 12}, and now it is {'b' * 12}",
        "of another inventory than it is now",
    )
    # Two commits with the same playbooks, roles and modules are the same to a pack; what nobody can compare is not.
    assert stand(MADE, now=replace(NOW, commit="b" * 40), same=True).wrong == ()
    assert stand(MADE, now=replace(NOW, commit="b" * 40), same=False).wrong
    assert stand(MADE, now=replace(NOW, commit=None)).wrong == (f"of commit {'a' * 12}, and now it is not known",)
    bare = replace(MADE, said={**MADE.said, "secrets": False})
    assert stand(bare).wrong == ("without the secrets",)


def test_only_the_newest_pack_of_this_cluster_counts() -> None:
    assert stand().sentence == "no pack was ever made from this controller"
    assert stand(replace(MADE, said={**MADE.said, "clusters": ["other"]})).pack_id is None
    newer = replace(MADE, subject="newer", said={**MADE.said, "commit": "c" * 40})
    assert stand(MADE, newer).pack_id == "newer" and stand(MADE, newer).wrong
    assert not stand(newer, MADE).wrong
