"""A provider with the real names and types, but no cloud and no waiting. Runs in a separate environment.

Its argument names the provider: `google`, `google-beta` or `time`. Names, types, nesting, required, optional and
computed come from `schema/`. Values known only to Google
are unknown in a plan, as with the real provider. With STUB_KNOWN=1 the plan already has made-up values, so that
policies can read the values. An apply makes the values up too, and appends a line to the file STUB_LOG for each
created or deleted resource, and for each data source that is read. STUB_RESERVED is a file with the names that
Google keeps after a deletion; they cannot be created again. STUB_MOVED names an image whose tag
has moved to another digest.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from msgpack import ExtType
from tf import provider, runner, schema
from tf.gen import tfplugin_pb2 as pb
from tf.types import Unknown
from tf.utils import read_dynamic_value, to_dynamic_value

PROVIDER = sys.argv[1]
SCHEMA = json.loads((Path(__file__).parent / "schema" / f"{PROVIDER}.json").read_text())
#: Names of these types cannot be used again for days or weeks: the type, and the attribute with the name.
_RESERVED_BY_GOOGLE = {
    "google_cloud_tasks_queue": "name",
    "google_project_iam_custom_role": "role_id",
    "google_sql_database_instance": "name",
}
_MODES = {
    "list": pb.Schema.NestedBlock.NestingMode.LIST,
    "set": pb.Schema.NestedBlock.NestingMode.SET,
    "single": pb.Schema.NestedBlock.NestingMode.SINGLE,
}
#: Made-up values of attributes that other resources or tests read. The resource's own values fill the braces.
_MADE_UP: dict[tuple[str, str], Any] = {
    ("google_cloud_run_v2_service", "uri"): "https://{name}-stub.a.run.app",
    ("google_project", "number"): "123456789012",
    ("google_project_service_identity", "member"): (
        "serviceAccount:service-123456789012@gcp-sa-{short_service}.iam.gserviceaccount.com"
    ),
    ("google_pubsub_subscription", "id"): "projects/{project}/subscriptions/{name}",
    ("google_pubsub_topic", "id"): "projects/{project}/topics/{name}",
    ("google_redis_instance", "auth_string"): "stub-auth",
    ("google_redis_instance", "host"): "10.9.8.7",
    ("google_redis_instance", "port"): 6378,
    ("google_redis_instance", "server_ca_certs"): [{"cert": "stub certificate authority"}],
    ("google_service_account", "email"): "{account_id}@{project}.iam.gserviceaccount.com",
    ("google_service_account", "member"): "serviceAccount:{account_id}@{project}.iam.gserviceaccount.com",
    (
        "google_service_account",
        "name",
    ): "projects/{project}/serviceAccounts/{account_id}@{project}.iam.gserviceaccount.com",
    ("google_sql_database_instance", "connection_name"): "{project}:{region}:{name}",
    (
        "google_storage_project_service_account",
        "email_address",
    ): "service-1@gs-project-accounts.iam.gserviceaccount.com",
    ("google_storage_project_service_account", "member"): (
        "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com"
    ),
}


def image_digest(known: dict[str, Any]) -> str:
    """The digest behind `NAME:TAG`; another digest if STUB_MOVED names the image."""
    image = known["image_name"]
    moved = os.environ.get("STUB_MOVED") == image
    return hashlib.sha256(f"{image}{' moved' if moved else ''}".encode()).hexdigest()


class Kind:
    """A type in Terraform's own notation; values pass through unchanged."""

    def __init__(self, notation: Any) -> None:
        self.notation = notation

    def tf_type(self) -> bytes:
        return json.dumps(self.notation).encode()

    def encode(self, value: Any) -> Any:
        return value

    def decode(self, value: Any) -> Any:
        return value

    def semantically_equal(self, one: Any, other: Any) -> bool:
        return one == other


class NestedBlock(Kind):
    """A block within a block; `tf` itself knows sets only."""

    def __init__(self, name: str, found: dict[str, Any]) -> None:
        super().__init__(None)
        self.type_name = name
        self._found = found

    def to_pb(self) -> pb.Schema.NestedBlock:
        return pb.Schema.NestedBlock(
            type_name=self.type_name,
            block=schema.Block(attributes(self._found), blocks(self._found)).to_pb(),
            nesting=_MODES[self._found["nesting"]],
            min_items=self._found.get("min"),
            max_items=self._found.get("max"),
        )


def attributes(found: dict[str, Any]) -> list[schema.Attribute]:
    return [
        schema.Attribute(
            name,
            Kind(kind),
            required="r" in flags,
            optional="o" in flags,
            computed="c" in flags,
            sensitive="s" in flags,
        )
        for name, (kind, flags) in found["attributes"].items()
    ]


def blocks(found: dict[str, Any]) -> list[NestedBlock]:
    return [NestedBlock(name, block) for name, block in found.get("blocks", {}).items()]


def made_up(type_name: str, attribute: str, kind: Any, flags: str, known: dict[str, Any]) -> Any:
    """A made-up value for an attribute known only to Google; None for a provider's default: schemas lack those."""
    if (type_name, attribute) == ("google_artifact_registry_docker_image", "self_link"):
        name, _, _ = known["image_name"].partition(":")
        place = f"{known['location']}-docker.pkg.dev/{known['project']}/{known['repository_id']}"
        return f"{place}/{name}@sha256:{image_digest(known)}"
    value = _MADE_UP.get((type_name, attribute))
    if value is None and attribute != "id" and "o" in flags:
        return None
    if isinstance(value, str):
        return value.format(**{key: each for key, each in known.items() if isinstance(each, str)})
    if isinstance(value, list):
        empty = dict.fromkeys(kind[1][1])
        return [empty | each for each in value]
    if value is not None:
        return value
    if isinstance(kind, list):
        return {} if kind[0] == "map" else []
    return {"string": f"stub-{attribute}", "number": 1, "bool": False}[kind]


def filled(type_name: str, found: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """`state` with all values known; a resource without a project gets the provider's project."""
    known = {key: value for key, value in state.items() if not unknown(value)}
    known["project"] = known.get("project") or known.get("project_id") or Google.project
    known["short_service"] = known.get("service", "").partition(".")[0]
    return state | {
        name: known["project"] if name == "project" else made_up(type_name, name, kind, flags, known)
        for name, (kind, flags) in found["attributes"].items()
        if "c" in flags and (unknown(state.get(name)) or state.get(name) is None)
    }


def unknown(value: Any) -> bool:
    return value is Unknown or isinstance(value, ExtType)


class Stub:
    """Any resource or data source; a subclass names the type."""

    type_name: str
    found: dict[str, Any]

    def __init__(self, google: Any) -> None:
        del google

    @classmethod
    def get_name(cls) -> str:
        return cls.type_name.partition("_")[2]

    @classmethod
    def get_schema(cls) -> schema.Schema:
        return schema.Schema(attributes=attributes(cls.found), block_types=blocks(cls.found), version=0)

    def validate(self, diagnostics: Any, name: str, config: dict[str, Any]) -> None:
        for attribute, (_, flags) in self.found["attributes"].items():
            if flags.strip("s") == "c" and (config or {}).get(attribute) is not None:
                diagnostics.add_error(f"{name}.{attribute} is read-only and cannot be set", path=[attribute])

    def plan(self, context: Any, current: Any, planned: Any) -> Any:
        del context, current
        return planned

    def read(self, context: Any, current: Any) -> Any:
        # For a data source, `current` is the configuration.
        del context
        if self.type_name in SCHEMA["data_sources"]:
            note("read", self.type_name, current)
        return filled(self.type_name, self.found, current)

    def create(self, context: Any, planned: Any) -> Any:
        if is_reserved(self.type_name, planned):
            context.diagnostics.add_error(f"{self.type_name}: the name of a deleted resource cannot be used yet")
            return None
        made = filled(self.type_name, self.found, planned)
        note("create", self.type_name, made)
        return made

    def update(self, context: Any, current: Any, planned: Any) -> Any:
        del context, current
        return filled(self.type_name, self.found, planned)

    def delete(self, context: Any, current: Any) -> None:
        del context
        note("delete", self.type_name, current)
        reserve(self.type_name, current)

    def upgrade(self, context: Any, version: int, old: Any) -> Any:
        del context, version
        return old


def stubs(kind: str) -> list[type]:
    """A class for each resource or data source of the schema, as `tf` expects."""
    return [type(name, (Stub,), {"type_name": name, "found": found}) for name, found in SCHEMA[kind].items()]


def name_of(type_name: str, state: dict[str, Any]) -> str | None:
    """`TYPE NAME` if Google keeps the name after a deletion."""
    attribute = _RESERVED_BY_GOOGLE.get(type_name)
    return None if attribute is None else f"{type_name} {state[attribute]}"


def is_reserved(type_name: str, state: dict[str, Any]) -> bool:
    path = Path(os.environ.get("STUB_RESERVED", ""))
    return path.is_file() and name_of(type_name, state) in path.read_text().splitlines()


def reserve(type_name: str, state: dict[str, Any]) -> None:
    name = name_of(type_name, state)
    if name is not None and "STUB_RESERVED" in os.environ:
        with Path(os.environ["STUB_RESERVED"]).open("a", encoding="utf-8") as names:
            names.write(f"{name}\n")


def note(action: str, type_name: str, state: dict[str, Any]) -> None:
    path = os.environ.get("STUB_LOG")
    if path:
        shown = {
            key: value for key, value in (state | (state.get("triggers") or {})).items() if isinstance(value, str)
        }
        with Path(path).open("a", encoding="utf-8") as log:
            log.write(json.dumps({"action": action, "type": type_name, "state": shown}) + "\n")


class Google:
    """The provider."""

    project = "stub-project"

    def get_model_prefix(self) -> str:
        return f"{PROVIDER.partition('-')[0]}_"

    def full_name(self) -> str:
        return f"registry.terraform.io/hashicorp/{PROVIDER}"

    def get_provider_schema(self, diagnostics: Any) -> schema.Schema:
        del diagnostics
        return schema.Schema(attributes=attributes(SCHEMA["provider"]))

    def validate_config(self, diagnostics: Any, config: Any) -> None:
        del diagnostics, config

    def configure_provider(self, diagnostics: Any, config: dict[str, Any]) -> None:
        del diagnostics
        Google.project = config.get("project") or Google.project

    def get_data_sources(self) -> list[type]:
        return stubs("data_sources")

    def get_resources(self) -> list[type]:
        return stubs("resources")

    def get_functions(self) -> list[type]:
        return []

    def new_resource(self, kind: type) -> Any:
        return kind(self)

    new_data_source = new_resource


class KnowingServicer(provider.ProviderServicer):
    """Plans as `tf` does, and then makes up the unknown values."""

    def PlanResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        answer = super().PlanResourceChange(request, context)
        state = read_dynamic_value(answer.planned_state)
        if state is not None:
            known = filled(request.type_name, SCHEMA["resources"][request.type_name], state)
            answer.planned_state.CopyFrom(to_dynamic_value(known))
        return answer


if __name__ == "__main__":
    if os.environ.get("STUB_KNOWN"):
        provider.ProviderServicer = KnowingServicer
    runner.run_provider(Google())
