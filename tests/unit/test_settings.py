"""Settings: read once, refused at start if wrong, with the variable in each error."""

import os

import pytest
from pydantic import ValidationError

from dropline.errors import SettingsError
from dropline.settings import PREFIX, Settings, load_settings, require, variables


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the developer's shell."""
    ours = {name for name, _, _ in variables()}
    for name in list(os.environ):
        if name.upper().startswith(PREFIX) or name in ours:
            monkeypatch.delenv(name)


def test_defaults_stand_where_nothing_is_set() -> None:
    """An empty environment gives the documented defaults."""
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("DROPLINE_BUCKET", "drops", "bucket"),
        ("GOOGLE_CLOUD_PROJECT", "a-project", "project"),
        ("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1", "storage_emulator_host"),
        ("PUBSUB_EMULATOR_HOST", "127.0.0.1:2", "pubsub_emulator_host"),
        ("DROPLINE_ENGINE__CHECKPOINT", "demo", "engine.checkpoint"),
    ],
)
def test_a_variable_reaches_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str, path: str) -> None:
    """Dropline's variables have the prefix `DROPLINE_`; shared variables keep the usual names."""
    monkeypatch.setenv(name, value)
    found: object = load_settings()
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_lists_and_maps_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is a JSON array, a map is a JSON object, and the tasks of a map get the canonical spelling."""
    monkeypatch.setenv("DROPLINE_EVENTS__BUCKETS", '["a", "b"]')
    monkeypatch.setenv("DROPLINE_EVENTS__TASK_BY_PREFIX", '{"signs/": "ocr"}')
    events = load_settings().events
    assert events.buckets == ("a", "b")
    assert events.task_by_prefix == {"signs/": "<OCR>"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DROPLINE_EVENTS__BUCKETS", "drops"),
        ("DROPLINE_EVENTS__BUCKETS", ""),
        ("DROPLINE_EVENTS__BUCKETS", "{}"),
        ("DROPLINE_EVENTS__TASK_BY_PREFIX", "a/=<OD>"),
        ("DROPLINE_EVENTS__TASK_BY_PREFIX", '{"a/": "<NOPE>"}'),
        ("DROPLINE_EVENTS__DEFAULT_TASK", "<NOPE>"),
        ("DROPLINE_DATABASE__POOL_SIZE", "many"),
        ("DROPLINE_DATABASE__POOL_SIZE", "0"),
        ("DROPLINE_LOG__LEVEL", "LOUD"),
        ("DROPLINE_IMAGES__CHILD_MEMORY_BYTES", str(10**20)),
        ("DROPLINE_IMAGES__IMAGES_PER_DECODER", str(10**20)),
        ("DROPLINE_IMAGES__DECODE_TIMEOUT_S", "inf"),
        ("DROPLINE_ENGINE__NUM_BEAMS", "11"),
        ("DROPLINE_METADATA__MAX_VALUE_BYTES", "5000"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """For any wrong value the error is SettingsError, with the whole name of the variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}\\b"):
        load_settings()


def test_a_misspelt_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake is an error with the nearest name, and no silent default."""
    monkeypatch.setenv("DROPLINE_DATABSE__URL", "postgresql://x")
    with pytest.raises(SettingsError, match=r"DROPLINE_DATABSE__URL .* did you mean DROPLINE_DATABASE__URL\?"):
        load_settings()


def test_an_unknown_variable_without_a_neighbour_points_to_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable unlike any setting is refused too, with the page of all settings."""
    monkeypatch.setenv("DROPLINE_XYZZYQUUXPLUGH", "1")
    with pytest.raises(SettingsError, match=r"docs/settings\.md"):
        load_settings()


def test_a_visibility_timeout_shorter_than_a_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shorter visibility timeout is refused: Redis would deliver the message again during the task."""
    monkeypatch.setenv("DROPLINE_WORKER__TIME_LIMIT_S", "170")
    monkeypatch.setenv("DROPLINE_BROKER__VISIBILITY_TIMEOUT_S", "200")
    with pytest.raises(SettingsError, match=r"VISIBILITY_TIMEOUT_S is 200.*200"):
        load_settings()
    monkeypatch.setenv("DROPLINE_BROKER__VISIBILITY_TIMEOUT_S", "201")
    assert load_settings().lease_s == 200


def test_a_decoding_as_long_as_a_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit of a decoder ends first: otherwise a slow image would be taken for a slow model."""
    monkeypatch.setenv("DROPLINE_IMAGES__DECODE_TIMEOUT_S", "20")
    monkeypatch.setenv("DROPLINE_WORKER__SOFT_TIME_LIMIT_S", "20")
    with pytest.raises(SettingsError, match="DROPLINE_IMAGES__DECODE_TIMEOUT_S is 20"):
        load_settings()


def test_settings_do_not_change() -> None:
    """The settings and all groups are frozen."""
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.bucket = "other"
    with pytest.raises(ValidationError):
        settings.worker.concurrency = 1


def test_passwords_stay_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs with passwords are neither in the text of the settings nor in an error about another variable."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("DROPLINE_BROKER__URL", "redis://:hunter2@h/0")
    assert "hunter2" not in repr(load_settings())
    monkeypatch.setenv("DROPLINE_LOG__LEVEL", "LOUD")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_what_is_needed_and_missing_is_named() -> None:
    """`require` gives the value, or an error with the variable."""
    assert require("value", "DROPLINE_BUCKET") == "value"
    with pytest.raises(SettingsError, match="DROPLINE_BUCKET is not set"):
        require("", "DROPLINE_BUCKET")
    with pytest.raises(SettingsError, match="DROPLINE_DATABASE__URL is not set"):
        require(Settings().database.url, "DROPLINE_DATABASE__URL")
