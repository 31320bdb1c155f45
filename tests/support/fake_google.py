"""A strict stand-in for the Google APIs that `dropline cloud check` reads.

Paths, parameters and documents are those of Google's published client types: google-cloud-resource-manager (v3),
google-cloud-service-usage (v1), google-cloud-billing (v1), google-cloud-quotas (v1), google-cloud-org-policy (v2),
google-cloud-artifact-registry (v1), google.cloud.location of googleapis-common-protos (Cloud Tasks v2), and the
JSON API of google-cloud-storage (v1). As in their JSON, a 64-bit number is a string, and a value that is the
default (0, false, an empty list) is left out. An unknown path, method, parameter or permission is refused. Each
host is the first part of the path.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from operations.cloud_check.needs import GPU_QUOTA, PERMISSIONS, SERVICES, TASKS_REGIONS
from tests.support.http_stand_in import JsonHandler, StandInServer

NUMBER = "123456789012"
PROJECT = "my-project"
#: Locations on a page of a list; a server may give fewer than are asked for.
_PAGE = 10
_CONSTRAINT = r"[a-z]+\.[A-Za-z]+"
#: Path → method of the stand-in, with the parts of the path as arguments.
_ROUTES = {
    r"cloudresourcemanager.googleapis.com/v3/projects/([^/:]+)": "project",
    r"cloudresourcemanager.googleapis.com/v3/projects/([^/:]+):testIamPermissions": "permissions",
    r"cloudbilling.googleapis.com/v1/projects/([^/:]+)/billingInfo": "billing",
    r"serviceusage.googleapis.com/v1/projects/([^/:]+)/services:batchGet": "services",
    r"cloudquotas.googleapis.com/v1/projects/([^/:]+)/locations/global/services/([^/]+)/quotaInfos/(\w+)": "quota",
    r"storage.googleapis.com/storage/v1/b/([^/:]+)": "bucket",
    r"artifactregistry.googleapis.com/v1/projects/([^/:]+)/locations/([^/:]+)/repositories/([^/:]+)": "registry",
    r"cloudtasks.googleapis.com/v2/projects/([^/:]+)/locations": "tasks_locations",
    rf"orgpolicy.googleapis.com/v2/projects/([^/:]+)/policies/([a-z.]*{_CONSTRAINT}):getEffectivePolicy": "policy",
}
#: Hosts of client-based APIs. Without the header with the project that a request is counted for, they refuse it in
#: Google's words for a person's login (issues golang/oauth2 702, terraform-google-org-policy 94 and
#: terraform-provider-google 18337).
CLIENT_BASED = frozenset({"cloudquotas.googleapis.com", "orgpolicy.googleapis.com"})


class _Refusal(Exception):
    def __init__(self, status: int, message: str, reason: str = "", consumer: str = NUMBER) -> None:
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason
        self.metadata = {"consumer": f"projects/{consumer}"}


@dataclass
class FakeGoogle:
    """Handle on a running stand-in, with the state of one project that is ready for the deployment."""

    url: str
    state: str = "ACTIVE"
    billing: bool = True
    enabled: set[str] = field(default_factory=lambda: set(SERVICES))
    held: set[str] = field(default_factory=lambda: set(PERMISSIONS))
    #: GPUs by region.
    gpus: dict[str, int] = field(default_factory=lambda: {"europe-west4": 3, "europe-west1": 0})
    #: Regions with Cloud Tasks.
    tasks_regions: tuple[str, ...] = TASKS_REGIONS
    #: Owner's number by bucket.
    buckets: dict[str, str] = field(default_factory=dict)
    #: Format by name of the registry.
    registries: dict[str, str] = field(default_factory=dict)
    #: Rules by constraint.
    policies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Statuses by host, before any other answer; 0 closes the connection.
    failures: dict[str, int] = field(default_factory=dict)
    #: Hosts whose API is disabled.
    disabled: set[str] = field(default_factory=set)
    disabled_text: str = "has not been used in this project before or it is disabled"
    #: Hosts that count every request for no project of the caller.
    without_project: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    #: Host and named project of each request.
    consumers: list[tuple[str, str]] = field(default_factory=list)

    def project(self, name: str) -> dict[str, Any]:
        """`Project`. Google hides whether a project exists from those who may not see it."""
        if name != PROJECT:
            raise _Refusal(HTTPStatus.FORBIDDEN, "The caller does not have permission", "IAM_PERMISSION_DENIED")
        return {"name": f"projects/{NUMBER}", "projectId": PROJECT, "state": self.state, "displayName": "Drops"}

    def permissions(self, name: str, *, body: dict[str, Any]) -> dict[str, Any]:
        """`TestIamPermissionsResponse`, for at most 100 known permissions."""
        self.project(name)
        asked = body.pop("permissions")
        if body or len(asked) > 100 or not set(asked) <= set(PERMISSIONS):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "Permission is not valid for this resource")
        held = [each for each in asked if each in self.held]
        return {"permissions": held} if held else {}

    def billing_info(self, name: str) -> dict[str, Any]:
        """`ProjectBillingInfo`."""
        info: dict[str, Any] = {"name": f"projects/{name}/billingInfo", "projectId": name}
        return info | (
            {"billingAccountName": "billingAccounts/0-1", "billingEnabled": True} if self.billing else {}
        )

    def services(self, name: str, *, names: list[str]) -> dict[str, Any]:
        """`BatchGetServicesResponse`, for at most 30 names of this project; it names the project by its number."""
        prefix = f"projects/{name}/services/"
        if not 0 < len(names) <= 30 or not all(each.startswith(prefix) for each in names):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "names must be 1 to 30 services of the parent")
        return {"services": [self._service(each.removeprefix(prefix)) for each in names]}

    def _service(self, service: str) -> dict[str, Any]:
        return {
            "name": f"projects/{NUMBER}/services/{service}",
            "parent": f"projects/{NUMBER}",
            "config": {"name": service},
            "state": "ENABLED" if service in self.enabled else "DISABLED",
        }

    def quota(self, name: str, service: str, quota: str) -> dict[str, Any]:
        """`QuotaInfo`."""
        if (service, quota) != ("run.googleapis.com", GPU_QUOTA):
            raise _Refusal(HTTPStatus.NOT_FOUND, f"no quota {quota}")
        infos = [
            {
                "dimensions": {"region": region},
                "details": {"value": str(value)} if value else {},
                "applicableLocations": [region],
            }
            for region, value in self.gpus.items()
        ]
        return {"name": f"projects/{NUMBER}/…", "quotaId": quota, "service": service, "dimensionsInfos": infos}

    def tasks_locations(
        self,
        name: str,
        *,
        pageSize: list[str],  # noqa: N803 - the parameter's name
        pageToken: list[str] | None = None,  # noqa: N803 - the parameter's name
    ) -> dict[str, Any]:
        """`ListLocationsResponse`, in pages."""
        begin = int(pageToken[0]) if pageToken else 0
        end = begin + min(_PAGE, int(pageSize[0]))
        places = [
            {
                "name": f"projects/{name}/locations/{region}",
                "locationId": region,
                "labels": {"cloud.googleapis.com/region": region},
            }
            for region in self.tasks_regions[begin:end]
        ]
        more = {"nextPageToken": str(end)} if end < len(self.tasks_regions) else {}
        return ({"locations": places} if places else {}) | more

    def bucket(self, name: str, *, projection: list[str]) -> dict[str, Any]:
        """Bucket resource of the JSON API."""
        if projection != ["noAcl"]:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "invalid projection")
        owner = self.buckets.get(name)
        if owner is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, "The specified bucket does not exist.")
        if not owner:
            raise _Refusal(HTTPStatus.FORBIDDEN, "the caller does not have storage.buckets.get access")
        return {"kind": "storage#bucket", "name": name, "projectNumber": owner, "location": "EUROPE-WEST4"}

    def registry(self, project: str, region: str, name: str) -> dict[str, Any]:
        """`Repository`."""
        path = f"projects/{project}/locations/{region}/repositories/{name}"
        if name not in self.registries:
            raise _Refusal(HTTPStatus.NOT_FOUND, "Requested entity was not found.")
        return {"name": path, "format": self.registries[name], "mode": "STANDARD_REPOSITORY"}

    def policy(self, project: str, constraint: str) -> dict[str, Any]:
        """`Policy`: the one in effect."""
        spec = {"rules": self.policies[constraint]} if constraint in self.policies else {}
        return {"name": f"projects/{NUMBER}/policies/{constraint}", "spec": spec}


@contextlib.contextmanager
def serve() -> Iterator[FakeGoogle]:
    """A stand-in on a free port while the block lasts."""
    server = _Server(_Handler)
    server.google = FakeGoogle(server.url)
    with server.serving():
        yield server.google


class _Server(StandInServer):
    google: FakeGoogle


class _Handler(JsonHandler):
    server: _Server

    def do_GET(self) -> None:  # noqa: N802 - called by the base class
        self._respond("GET", {})

    def do_POST(self) -> None:  # noqa: N802 - called by the base class
        self._respond("POST", {"body": json.loads(self.read_body())})

    def _respond(self, method: str, body: dict[str, Any]) -> None:
        google, address = self.server.google, urlsplit(self.path)
        google.requests.append((method, address.path))
        host = address.path.split("/")[1]
        if google.failures.get(host) == 0:
            self.close_connection = True
            return
        project = self.headers.get("x-goog-user-project", "")
        google.consumers.append((host, project))
        try:
            _check_consumer(google, host, project)
            self.answer(
                HTTPStatus.OK, _document(google, host, address.path[1:], {**parse_qs(address.query), **body})
            )
        except _Refusal as refusal:
            details = [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": refusal.reason,
                    "domain": "googleapis.com",
                    "metadata": refusal.metadata,
                }
            ]
            error = {
                "code": refusal.status,
                "message": refusal.message,
                "details": details if refusal.reason else [],
            }
            self.answer(refusal.status, {"error": error})


def _check_consumer(google: FakeGoogle, host: str, project: str) -> None:
    """The request is counted for a project that the caller may use."""
    if host in google.without_project or (host in CLIENT_BASED and not project):
        raise _Refusal(
            HTTPStatus.FORBIDDEN,
            "Your application is authenticating by using local Application Default Credentials. The "
            f"{host} API requires a quota project, which is not set by default. To learn how to set your quota "
            "project, see https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds .",
            "SERVICE_DISABLED",
            "764086051850",
        )
    if project and (project != PROJECT or "serviceusage.services.use" not in google.held):
        raise _Refusal(
            HTTPStatus.FORBIDDEN,
            f"Caller does not have required permission to use project {project}. Grant the caller the "
            "roles/serviceusage.serviceUsageConsumer role",
            "USER_PROJECT_DENIED",
            project,
        )


def _document(google: FakeGoogle, host: str, path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if host in google.failures:
        raise _Refusal(google.failures[host], "told to fail")
    if host in google.disabled:
        raise _Refusal(HTTPStatus.FORBIDDEN, f"{host} {google.disabled_text}", "SERVICE_DISABLED")
    for pattern, name in _ROUTES.items():
        if found := re.fullmatch(pattern, path):
            method = getattr(google, "billing_info" if name == "billing" else name)
            try:
                document: dict[str, Any] = method(*found.groups(), **arguments)
            except (TypeError, KeyError):
                raise _Refusal(HTTPStatus.BAD_REQUEST, f"Invalid arguments: {sorted(arguments)}") from None
            return document
    raise _Refusal(HTTPStatus.NOT_FOUND, f"no method at {path}")
