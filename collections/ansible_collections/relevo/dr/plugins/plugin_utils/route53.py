# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A record in Amazon Route 53 that stands for the serving site. The controller changes it and reads it back; caches are waited for later."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from ansible.errors import AnsibleActionFail
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.app_components import Component, options_of
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError, Deadline, Done
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_ANSWER_SECONDS = 5
# Until every server of the zone has a change; AWS says a minute.
_LOOK_SECONDS = 0.5


def of(component: Component, secrets_directory: str) -> Route53:
    """The provider of a component, with its credentials from the controller's files; without such names, the controller's own. Raises ApplicationError."""
    settings = {key: option.default for key, option in options_of("route53").items()} | dict(component.settings[""])
    names = [str(settings[key]) for key in ("key_id_secret", "key_secret") if settings[key]]
    try:
        return Route53(component.name, settings, read_secrets(secrets_directory, names, check_mode=False))
    except AnsibleActionFail as error:
        raise ApplicationError(str(error)) from None


class Route53:
    """zone_id, record, type: which. values: by site. ttl_max_seconds: how long somebody may keep an old answer."""

    def __init__(self, name: str, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        self.name, self._settings = name, settings
        self._record = str(settings["record"]).rstrip(".") + "."
        keys = {}
        if settings["key_id_secret"]:
            keys = {
                "aws_access_key_id": secrets[str(settings["key_id_secret"])],
                "aws_secret_access_key": secrets[str(settings["key_secret"])],
            }
        authorities = settings["ca_file"]
        self._client = boto3.client(
            "route53",
            region_name=settings["region"],
            endpoint_url=settings["endpoint"] or None,
            verify=authorities if authorities and os.path.exists(authorities) else None,
            config=Config(connect_timeout=_ANSWER_SECONDS, read_timeout=_ANSWER_SECONDS, retries={"total_max_attempts": 3}),
            **keys,
        )

    def values(self, site: str) -> list[str]:
        """What the record holds when a site serves. Raises ApplicationError."""
        wanted = self._settings["values"].get(site)
        if not isinstance(wanted, list) or not wanted:
            raise ApplicationError("%s has no values for the site %s" % (self.name, site))
        return sorted(str(value) for value in wanted)

    def check(self, site: str) -> dict[str, Any]:
        """Look: {address, ttl_seconds, serves, wrong}. serves: whether it stands for that site already."""
        found: dict[str, Any] = {"address": None, "ttl_seconds": None, "serves": None, "wrong": []}
        try:
            wanted = self.values(site)
            held = self._held()
            found.update(address=", ".join(held["values"]), ttl_seconds=held["ttl_seconds"], serves=held["values"] == wanted)
        except ApplicationError as error:
            found["wrong"].append(str(error))
            return found
        limit = int(self._settings["ttl_max_seconds"])
        if held["ttl_seconds"] > limit:
            said = "%s may be kept for %d s, more than %d: lower its TTL, and wait that long" % (
                self._record,
                held["ttl_seconds"],
                limit,
            )
            found["wrong"].append(said)
        return found

    def cutover(self, site: str, seconds: float) -> Done:
        """Change it, and wait until every server of the zone says so. Raises ApplicationError."""
        deadline, wanted, held = Deadline(seconds), self.values(site), self._held()
        more = {"record": self._record.rstrip("."), "values": wanted, "ttl_seconds": held["ttl_seconds"]}
        if held["values"] == wanted:
            return Done(False, "%s stands for site %s already" % (self._record, site), more)
        record = {"Name": self._record, "Type": self._settings["type"], "TTL": held["ttl_seconds"]}
        record["ResourceRecords"] = [{"Value": value} for value in wanted]
        batch = {"Comment": "relevo", "Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
        with _told(self.name):
            change = self._client.change_resource_record_sets(HostedZoneId=self._settings["zone_id"], ChangeBatch=batch)[
                "ChangeInfo"
            ]
        changed_at, began = clock.utc_now(), time.monotonic()
        deadline.wait(
            lambda: self._in_sync(change["Id"]),
            lambda: "the change %s is not on every server of the zone after %g s" % (change["Id"], seconds),
            _LOOK_SECONDS,
        )
        if self._held()["values"] != wanted:
            raise ApplicationError("%s holds other values than were written a moment ago" % self._record)
        more.update(changed_at=changed_at, in_sync_seconds=round(time.monotonic() - began, 3))
        return Done(True, "%s now stands for site %s" % (self._record, site), more)

    def _in_sync(self, change: str) -> bool:
        with _told(self.name):
            return bool(self._client.get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC")

    def _held(self) -> dict[str, Any]:
        """What the record holds: {values, ttl_seconds}. Raises ApplicationError for one that is not there, or is an alias."""
        with _told(self.name):
            answer = self._client.list_resource_record_sets(
                HostedZoneId=self._settings["zone_id"],
                StartRecordName=self._record,
                StartRecordType=self._settings["type"],
                MaxItems="10",
            )
        for one in answer["ResourceRecordSets"]:
            if one["Name"].rstrip(".").lower() != self._record.rstrip(".").lower() or one["Type"] != self._settings["type"]:
                continue
            if one.get("SetIdentifier") or "ResourceRecords" not in one:
                raise ApplicationError(
                    "%s is an alias or one of several weighted records: Relevo changes plain ones only" % self._record
                )
            return {"values": sorted(value["Value"] for value in one["ResourceRecords"]), "ttl_seconds": int(one["TTL"])}
        raise ApplicationError(
            "zone %s has no record %s of type %s" % (self._settings["zone_id"], self._record, self._settings["type"])
        )


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What the service answers, as a sentence; never a key."""
    try:
        yield
    except ClientError as error:
        raise ApplicationError("%s: Route 53 says %s" % (name, error.response["Error"]["Code"])) from None
    except (BotoCoreError, OSError) as error:
        raise ApplicationError("%s: Route 53 cannot be asked: %s" % (name, type(error).__name__)) from None
