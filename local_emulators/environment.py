"""What a person's shell needs to use the stack. Pure: addresses in, text out."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local_emulators.options import BUCKET, PROJECT


@dataclass(frozen=True)
class Addresses:
    """Where a running stack can be reached."""

    #: Postgres as psql takes it: the role that reads captions.
    reader_url: str
    #: Postgres as psql takes it: the role of the function, for programs that put work in.
    ingest_url: str
    broker_url: str
    #: Storage over plain HTTP, as a URL without a path.
    storage_url: str
    #: Storage over HTTPS, for gsutil.
    storage_https_port: int
    #: Pub/Sub as host:port.
    pubsub_host: str


def shell_variables(addresses: Addresses, directory: Path) -> dict[str, str]:
    """The variables of the `env` file; `directory` is absolute."""
    return {
        "DATABASE_URL": addresses.reader_url,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "STORAGE_EMULATOR_HOST": addresses.storage_url,
        "PUBSUB_EMULATOR_HOST": addresses.pubsub_host,
        "BOTO_CONFIG": str(directory / "boto"),
        "CLOUDSDK_CONFIG": str(directory / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "True",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{addresses.storage_url}/",
        "DROPLINE_BUCKET": BUCKET,
        "DROPLINE_DATABASE__URL": addresses.ingest_url,
        "DROPLINE_BROKER__URL": addresses.broker_url,
        "DROPLINE_EVENTS__BUCKETS": json.dumps([BUCKET]),
    }


def export_lines(variables: Mapping[str, str]) -> str:
    """The text of the `env` file: one export per line, quoted for any POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def boto_lines(addresses: Addresses, directory: Path) -> str:
    """The text of gsutil's configuration. gsutil speaks HTTPS only, here to a certificate nobody signed."""
    return (
        "[Credentials]\n"
        f"gs_json_host = {urlsplit(addresses.storage_url).hostname}\n"
        f"gs_json_port = {addresses.storage_https_port}\n"
        "[Boto]\n"
        "https_validate_certificates = False\n"
        "num_retries = 1\n"
        "[GSUtil]\n"
        "prefer_api = json\n"
        f"default_project_id = {PROJECT}\n"
        "software_update_check_period = 0\n"
        f"state_dir = {directory / 'gsutil'}\n"
    )
