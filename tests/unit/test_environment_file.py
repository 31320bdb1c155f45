"""The contents of the `env` file and of gsutil's configuration, and the values read back by a shell."""

import configparser
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.settings import PREFIX, variables
from local_emulators.application import ServiceEnvironment
from local_emulators.directory import Addresses, Passwords, boto_lines, export_lines, shell_variables
from local_emulators.model import engine_variables
from local_emulators.options import BUCKET
from local_emulators.process import process_environment

ADDRESSES = Addresses(
    reader_url="postgresql://dropline_reader:r@127.0.0.1:18400/dropline",
    ingest_url="postgresql://dropline_ingest:i@127.0.0.1:18400/dropline",
    broker_url="redis://:p@127.0.0.1:18401/0",
    storage_url="http://127.0.0.1:18402",
    storage_https_port=18403,
    gallery_url="http://127.0.0.1:18406",
    pubsub_host="127.0.0.1:18404",
)


def test_the_file_has_the_variables_of_every_client() -> None:
    """psql, client libraries, gsutil, gcloud and Dropline each find the stack's addresses."""
    found = shell_variables(ADDRESSES, Path("/stack"))
    assert found["DATABASE_URL"] == ADDRESSES.reader_url
    assert found["STORAGE_EMULATOR_HOST"] == "http://127.0.0.1:18402"
    assert found["PUBSUB_EMULATOR_HOST"] == "127.0.0.1:18404"
    assert found["BOTO_CONFIG"] == "/stack/boto"
    assert found["CLOUDSDK_CONFIG"] == "/stack/gcloud"
    assert found["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"] == "http://127.0.0.1:18402/"
    assert found["DROPLINE_BUCKET"] == BUCKET


def test_the_file_has_the_rules_of_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell selects objects as the function does: by the settings of `up` and of the caller's code."""
    monkeypatch.setenv("DROPLINE_EVENTS__EXCLUDE", '["private/**"]')
    monkeypatch.setenv("DROPLINE_EVENTS__BUCKETS", '["other"]')
    monkeypatch.setenv("DROPLINE_WORKER__CONCURRENCY", "1")
    shared = ServiceEnvironment("", "", {"DROPLINE_EVENTS__INCLUDE": '["**/*.jpg"]'})
    assert shared.rules() == {
        "DROPLINE_EVENTS__BUCKETS": json.dumps([BUCKET]),
        "DROPLINE_EVENTS__EXCLUDE": '["private/**"]',
        "DROPLINE_EVENTS__INCLUDE": '["**/*.jpg"]',
    }


def test_every_dropline_variable_is_a_setting() -> None:
    """Dropline refuses unknown variables, so the file must have none."""
    known = {name for name, _, _ in variables()}
    exported = shell_variables(ADDRESSES, Path("/stack"))
    assert {name for name in exported if name.startswith(PREFIX)} <= known
    assert {*engine_variables("stub"), *engine_variables("a/checkpoint")} <= known


def test_psql_uses_the_role_without_write_access() -> None:
    """`DATABASE_URL`, for psql, has the reader's role."""
    assert "dropline_reader" in shell_variables(ADDRESSES, Path("/stack"))["DATABASE_URL"]


@given(
    st.dictionaries(st.from_regex(r"[A-Z_]{1,20}", fullmatch=True), st.text(alphabet=st.characters(codec="utf-8")))
)
def test_a_shell_reads_back_the_written_values(values: dict[str, str]) -> None:
    """For any values the words of the file are `export` and `NAME=value` in turn."""
    words = shlex.split(export_lines(values))
    assert words[::2] == ["export"] * len(values)
    assert dict(word.split("=", 1) for word in words[1::2]) == values


def test_gsutil_uses_the_https_port() -> None:
    """gsutil's file parses, has host and HTTPS port, and a state directory inside the stack's directory."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(boto_lines(ADDRESSES, Path("/stack")))
    assert parsed["Credentials"]["gs_json_host"] == "127.0.0.1"
    assert parsed["Credentials"]["gs_json_port"] == "18403"
    assert parsed["Boto"]["https_validate_certificates"] == "False"
    assert parsed["GSUtil"]["state_dir"] == "/stack/gsutil"


def test_services_do_not_inherit_another_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services get no address of another cloud, all settings of Dropline, and no proxy for local addresses."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")
    monkeypatch.setenv("DROPLINE_LOG__LEVEL", "DEBUG")
    monkeypatch.setenv("NO_PROXY", "example.org")
    found = process_environment(STORAGE_EMULATOR_HOST="http://here")
    assert not {"DATABASE_URL", "PGHOST", "GOOGLE_APPLICATION_CREDENTIALS"} & found.keys()
    assert found["DROPLINE_LOG__LEVEL"] == "DEBUG"
    assert found["NO_PROXY"] == found["no_proxy"] == "example.org,127.0.0.1,localhost"
    assert found["STORAGE_EMULATOR_HOST"] == "http://here"


def test_the_directory_of_an_older_release_gets_the_new_passwords(tmp_path: Path) -> None:
    """The passwords of the stored data stay; the login of a later release gets a password that stays too."""
    path = tmp_path / "passwords.json"
    made = Passwords.load_or_make(path)
    older = {name: word for name, word in json.loads(path.read_text()).items() if name != "gallery"}
    path.write_text(json.dumps(older))
    upgraded = Passwords.load_or_make(path)
    assert upgraded.gallery
    assert {**older, "gallery": upgraded.gallery} == json.loads(path.read_text())
    assert upgraded == Passwords.load_or_make(path)
    assert (upgraded.postgres, path.stat().st_mode & 0o777) == (made.postgres, 0o600)
