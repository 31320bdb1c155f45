"""The part of the Google provider's schema that `terraform/` uses, parsed from CDK bindings.

pip download --no-deps cdktn-provider-google==21.1.0
python -m tools.provider_schema cdktn_provider_google-21.1.0-py3-none-any.whl > tests/terraform/schema/google.json

The same for `cdktn-provider-google-beta` 21.1.0 and `cdktn-provider-time` 14.0.2, into `google-beta.json` and
`time.json`.

The bindings are generated from the provider, so names, types, required / optional / computed and the nesting of
blocks are the provider's own. Enums, conflicts, formats, defaults and the rules of Google's APIs are missing.
"""

import argparse
import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The resources and data sources of `terraform/`, which are all that the stub provider accepts, and
#: `service_account_key`, so that a test can require the absence of keys.
RESOURCES = (
    "billing_budget",
    "cloud_run_v2_job",
    "cloud_run_v2_service",
    "cloud_run_v2_service_iam_member",
    "cloud_run_v2_worker_pool",
    "cloud_run_v2_worker_pool_iam_member",
    "cloud_tasks_queue",
    "cloud_tasks_queue_iam_member",
    "compute_global_address",
    "compute_network",
    "compute_subnetwork",
    "iap_web_cloud_run_service_iam_member",
    "logging_metric",
    "monitoring_alert_policy",
    "monitoring_dashboard",
    "monitoring_notification_channel",
    "project_iam_custom_role",
    "project_iam_member",
    "project_service",
    "pubsub_subscription",
    "pubsub_subscription_iam_member",
    "pubsub_topic",
    "pubsub_topic_iam_member",
    "redis_instance",
    "secret_manager_secret",
    "secret_manager_secret_iam_member",
    "secret_manager_secret_version",
    "service_account",
    "service_account_iam_member",
    "service_account_key",
    "service_networking_connection",
    "sql_database",
    "sql_database_instance",
    "sql_user",
    "storage_bucket",
    "storage_bucket_iam_member",
    "storage_notification",
)
DATA_SOURCES = ("artifact_registry_docker_image", "project", "storage_project_service_account")
#: The same of the two smaller providers, by the name of the directory in their bindings.
SMALL = {
    "google-beta": {"google-project-service-identity": "google_project_service_identity"},
    "time": {"sleep": "time_sleep"},
}
#: The provider's own arguments; the bindings have no getters with the types.
_PROVIDER: dict[str, Any] = {
    "billing_project": "string",
    "default_labels": ["map", "string"],
    "project": "string",
    "region": "string",
    "user_project_override": "bool",
}
#: Sensitive attributes, which the bindings do not mark.
_SENSITIVE = {
    "google_redis_instance": ("auth_string",),
    "google_secret_manager_secret_version": ("secret_data",),
    "google_sql_user": ("password",),
}

_CLASS = re.compile(r"^class (\w+) extends ", re.MULTILINE)
_FIELD = re.compile(
    r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n(.*?)(?=\n    // |\Z)", re.DOTALL
)
_NESTED = re.compile(r'= new (?!cdktn\.)(\w+)\(this, "\w+"(?:, (true|false))?\)')
_SIMPLE = re.compile(r"get(String|Number|Boolean|StringMap|NumberMap|BooleanMap|List|NumberList)Attribute\(")
_COMPUTED_MAP = re.compile(r"new cdktn\.(String|Number|Boolean)Map\(")
_TABLE_ENTRY = re.compile(r'\n\s+(\w+): \{\s+value: .*?,\s+isBlock: (\w+),\s+type: "(\w+)",', re.DOTALL)
_TYPES = {"String": "string", "Number": "number", "Boolean": "bool"}

#: `["list", "string"]` and the like, in Terraform's own notation.
Type = str | list[Any]


@dataclass(frozen=True)
class Binding:
    """The JavaScript of one resource, by class."""

    #: Source of each class, by name.
    classes: Mapping[str, str]
    #: For each class, the nesting of its fields: `name -> (is a block, list | set | struct | …)`.
    tables: Mapping[str, Mapping[str, tuple[bool, str]]]

    @classmethod
    def parse(cls, source: str) -> "Binding":
        """Parse the text of an `index.js`."""
        parts = _CLASS.split(source)
        classes = dict(zip(parts[1::2], parts[2::2], strict=True))
        return cls(classes, {name: _table(source, name, body) for name, body in classes.items()})

    def block(self, name: str) -> dict[str, Any]:
        """Attributes and nested blocks of one class, in the schema's compact form."""
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for field, flags, body in _fields(self.classes[name]):
            is_block, nesting = self.tables[name].get(field, (False, ""))
            nested = _NESTED.search(body)
            if nested and is_block:
                blocks[field] = self._nested_block(nested, nesting, required="r" in flags)
            else:
                attributes[field] = [self._type(nested, nesting, body), flags]
        return {"attributes": attributes} | ({"blocks": blocks} if blocks else {})

    def _nested_block(self, nested: re.Match[str], nesting: str, *, required: bool) -> dict[str, Any]:
        # A list has a class of its own; without such a class there is at most one block.
        many = nested[1].endswith("List")
        found = self.block(_element(nested[1]))
        mode = "single" if nesting == "struct" else nesting
        bounds = ({"min": 1} if required else {}) | ({"max": 1} if not many and mode != "single" else {})
        return {"nesting": mode} | bounds | found

    def _type(self, nested: re.Match[str] | None, nesting: str, body: str) -> Type:
        if nested:
            inner = self.block(_element(nested[1]))["attributes"]
            of_object = ["object", {name: attribute[0] for name, attribute in inner.items()}]
            return ["set" if nested[2] == "true" else "list", of_object]
        if found := _COMPUTED_MAP.search(body):
            return ["map", _TYPES[found[1]]]
        found = _SIMPLE.search(body)
        if found is None:
            return "dynamic"
        kind = found[1]
        if kind.endswith("List"):
            return ["set" if "tolist" in body or nesting == "set" else "list", _TYPES.get(kind[:-4], "string")]
        return ["map", _TYPES[kind[:-3]]] if kind.endswith("Map") else _TYPES[kind]


def schema(wheel: Path) -> dict[str, Any]:
    """The whole document: the provider's version, and compact schemas of `RESOURCES` and `DATA_SOURCES`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(name))) as package:
            texts = _texts(package)
    if "storage-bucket" not in texts:
        return _small(texts)
    return {
        "version": _version(texts["storage-bucket"])[1],
        "provider": _PROVIDER_BLOCK,
        "resources": {f"google_{name}": _resource(texts, name) for name in RESOURCES},
        "data_sources": {f"google_{name}": _top(texts[f"data-google-{_dashed(name)}"]) for name in DATA_SOURCES},
    }


def _small(texts: Mapping[str, str]) -> dict[str, Any]:
    provider, version = _version(next(iter(texts.values())))
    return {
        "version": version,
        "provider": {"attributes": {}} if provider == "time" else _PROVIDER_BLOCK,
        "resources": {kind: _top(texts[directory]) for directory, kind in SMALL[provider].items()},
        "data_sources": {},
    }


def _version(source: str) -> tuple[str, str]:
    """The provider's name and version, from a link to its documentation."""
    found = re.search(r"providers/hashicorp/([a-z-]+)/([\d.]+)/docs", source)
    if found is None:
        raise SystemExit("the bindings do not say which provider they were made from; use cdktn-provider-google")
    return found[1], found[2]


def _texts(package: tarfile.TarFile) -> dict[str, str]:
    found = {}
    for member in package:
        path = Path(member.name)
        file = package.extractfile(member) if path.name == "index.js" else None
        if file is not None and path.parent.name in _WANTED | _WANTED_SMALL:
            found[path.parent.name] = file.read().decode().partition("//# sourceMappingURL")[0]
    small = {name: text for name, text in found.items() if name in _WANTED_SMALL}
    if small:
        return small
    if missing := _WANTED - found.keys():
        raise SystemExit(
            f"the bindings have no {', '.join(sorted(missing))}; correct RESOURCES or take another version"
        )
    return found


def _resource(texts: Mapping[str, str], name: str) -> dict[str, Any]:
    found = _top(texts[_dashed(name)])
    for attribute in _SENSITIVE.get(f"google_{name}", ()):
        found["attributes"][attribute][1] += "s"
    return found


def _top(source: str) -> dict[str, Any]:
    binding = Binding.parse(source)
    return binding.block(
        next(name for name, body in binding.classes.items() if "synthesizeHclAttributes()" in body)
    )


def _fields(body: str) -> Iterator[tuple[str, str, str]]:
    for match in _FIELD.finditer(body):
        flags = "".join(letter for letter, flag in zip("cor", match.groups()[1:4], strict=True) if flag == "true")
        yield match[1], flags, match[5]


def _table(source: str, name: str, body: str) -> dict[str, tuple[bool, str]]:
    if "synthesizeHclAttributes()" in body:
        text = body.partition("synthesizeHclAttributes()")[2]
    else:
        plain = name.removesuffix("OutputReference")
        function = f"function {plain[0].lower()}{plain[1:]}ToHclTerraform("
        text = source.partition(function)[2].partition("\n}")[0]
    return {match[1]: (match[2] == "true", match[3]) for match in _TABLE_ENTRY.finditer(text)}


def _element(name: str) -> str:
    return name if name.endswith("OutputReference") else f"{name.removesuffix('List')}OutputReference"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


_WANTED = {*map(_dashed, RESOURCES), *(f"data-google-{_dashed(name)}" for name in DATA_SOURCES)}
_WANTED_SMALL = {directory for each in SMALL.values() for directory in each}
_PROVIDER_BLOCK = {"attributes": {name: [kind, "o"] for name, kind in _PROVIDER.items()}}


def main() -> None:
    """Print one resource per line, for a readable difference between versions of the provider."""
    parser = argparse.ArgumentParser(description="Reads the Google provider's schema out of its CDK bindings.")
    parser.add_argument("wheel", type=Path, help="cdktn_provider_google-….whl")
    found = schema(parser.parse_args().wheel)
    lines = [f'"version": {json.dumps(found["version"])}', f'"provider": {_compact(found["provider"])}']
    for kind in ("resources", "data_sources"):
        each = (f"{json.dumps(name)}: {_compact(block)}" for name, block in found[kind].items())
        lines.append(f'"{kind}": {{\n' + ",\n".join(each) + "\n}")
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


if __name__ == "__main__":
    main()
