"""A Route 53 that is served over real HTTPS: the record stands for the site that serves, and what hinders that is seen before."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from ansible_collections.relevo.dr.plugins.module_utils.app_components import Component
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError
from ansible_collections.relevo.dr.plugins.plugin_utils import route53
from botocore.exceptions import BotoCoreError

from .ministack import ROOT_KEY, serving_here

pytestmark = pytest.mark.full

RECORD = "shop.example.org"
SITES = {"a": ["192.0.2.10"], "b": ["192.0.2.20", "192.0.2.21"]}


@dataclass(frozen=True)
class Zone:
    client: Any
    zone: str
    endpoint: str
    authority: str
    secrets: str
    clients: list[Any]

    def provider(self, **changed: Any) -> route53.Route53:
        settings = {
            "zone_id": self.zone,
            "record": RECORD,
            "type": "A",
            "values": SITES,
            "endpoint": self.endpoint,
            "ca_file": self.authority,
            "key_id_secret": "dns_key_id",
            "key_secret": "dns_key",
        }
        found = route53.of(Component("dns", "route53", (), (), {"": {**settings, **changed}}), self.secrets)
        self.clients.append(found._client)
        return found

    def hold(self, *values: str, ttl: int = 60, record: str = RECORD) -> None:
        rows = {"Name": record, "Type": "A", "TTL": ttl, "ResourceRecords": [{"Value": value} for value in values]}
        changes = [{"Action": "UPSERT", "ResourceRecordSet": rows}]
        self.client.change_resource_record_sets(HostedZoneId=self.zone, ChangeBatch={"Changes": changes})

    def held(self) -> tuple[set[str], int]:
        answer = self.client.list_resource_record_sets(HostedZoneId=self.zone)["ResourceRecordSets"]
        [row] = [one for one in answer if one["Name"] == f"{RECORD}." and one["Type"] == "A"]
        return {value["Value"] for value in row["ResourceRecords"]}, row["TTL"]


def started(client: Any) -> str:
    """A zone, as soon as it listens."""
    for _ in range(300):
        with suppress(BotoCoreError):
            return str(client.create_hosted_zone(Name="example.org", CallerReference="relevo")["HostedZone"]["Id"])
        time.sleep(0.2)
    pytest.fail("it does not serve")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    place = tmp_path_factory.mktemp("names")
    for name, value in zip(("dns_key_id", "dns_key"), ROOT_KEY, strict=True):
        (place / name).write_text(value + "\n")
    with serving_here(place) as here:
        endpoint = f"https://localhost:{here.port}"
        client = boto3.client(
            "route53",
            region_name="us-east-1",
            endpoint_url=endpoint,
            verify=str(here.certificate),
            aws_access_key_id=ROOT_KEY[0],
            aws_secret_access_key=ROOT_KEY[1],
        )
        zone = started(client)
        found = Zone(client, zone, endpoint, str(here.certificate), str(place), [client])
        yield found
        # It does not end before its clients do.
        for one in found.clients:
            one.close()


@pytest.fixture
def zone(served):
    served.hold(*SITES["a"])
    return served


def test_the_record_stands_for_the_site_that_serves(zone):
    provider = zone.provider()
    assert provider.check("b") == {"address": "192.0.2.10", "ttl_seconds": 60, "serves": False, "wrong": []}
    zone.hold("192.0.2.99", record="shop2.example.org")
    done = provider.cutover("b", 30)
    assert done.changed
    assert done.more["ttl_seconds"] == 60
    assert zone.held() == (set(SITES["b"]), 60)
    assert provider.check("b")["serves"] is True
    again = provider.cutover("b", 30)
    assert not again.changed
    assert provider.cutover("a", 30).changed
    assert zone.held() == (set(SITES["a"]), 60)


def test_a_record_that_others_may_keep_for_too_long_is_seen_before(zone):
    zone.hold(*SITES["a"], ttl=86400)
    assert "may be kept for 86400 s, more than 300" in zone.provider().check("b")["wrong"][0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"record": "nowhere.example.org"}, "has no record"),
        ({"type": "CNAME"}, "has no record"),
        ({"zone_id": "ZNOSUCHZONE"}, "Route 53 says NoSuchHostedZone"),
        ({"endpoint": "https://localhost:1"}, "cannot be asked: EndpointConnectionError"),
        ({"ca_file": ""}, "cannot be asked: SSLError"),
        ({"values": {"a": ["192.0.2.10"]}}, "no values for the site b"),
    ],
)
def test_what_hinders_a_change_is_named_and_changes_nothing(zone, changed, words):
    provider = zone.provider(**changed)
    seen = provider.check("b")
    assert words in seen["wrong"][0]
    assert seen["serves"] is None
    with pytest.raises(ApplicationError, match=words):
        provider.cutover("b", 5)
    assert zone.held() == (set(SITES["a"]), 60)


def test_a_secret_that_is_not_there_is_a_sentence(zone):
    with pytest.raises(ApplicationError, match="dns_other does not exist on the controller"):
        zone.provider(key_secret="dns_other")
