"""`dropline caption` with real Postgres, Redis and Cloud Storage; a hook after the upload is the function."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr
from sqlalchemy import text
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import app
from db import attempts
from db.session import Database
from dropline.contract import FilterReason, ObjectVersion, TaskPrompt
from dropline.demo_model import DEMO_NOTICE
from dropline.fetch import connections
from dropline.fetch.addresses import why_refused
from dropline.settings import BrokerSettings, Settings
from local_emulators.gcs import GcsServer
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from tests.support import fake_cloud_run
from tests.support.fake_cloud_run import POOL
from tests.support.rows import IMAGE, OTHER_TASK, a_caption, caption_object, drop, fail_object, filter_object, take
from tests.support.shell import BUCKET, HOSTILE, SHOWN, AfterUpload, act_after_creation, run
from tests.support.web import ok, redirect, serving
from tests.support.worker_rig import Rig, open_rig, png
from worker.celery_app import make_celery

TEXTS = {
    task: "<loc_1><loc_2><loc_500><loc_600>" if task.takes_region else "a red circle"
    for task in TaskPrompt
    if task.takes_region or task.takes_text
}


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """The rest of the variables of the stack's `env` file."""
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.setenv("DROPLINE_EVENTS__BUCKETS", json.dumps([BUCKET]))


@pytest.fixture
def alive(redis_url: str) -> Iterator[None]:
    """A connection to Redis as that of a worker."""
    settings = Settings(broker=BrokerSettings(url=SecretStr(redis_url)))
    with make_celery(settings) as celery, celery.connection_for_read() as connection:
        connection.connect()
        yield


@pytest.fixture
def after_creation(monkeypatch: pytest.MonkeyPatch) -> Callable[[AfterUpload], None]:
    """Sets a callback for each object right after the upload."""
    return partial(act_after_creation, monkeypatch)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of one colour."""
    path = tmp_path / "a.png"
    path.write_bytes(png((1, 2, 3)))
    return path


def objects(rig: Rig) -> list[str]:
    return [blob.name for blob in rig.gcs.list_blobs(rig.bucket)]


@pytest.fixture
def stack(
    database_url: str,
    redis_url: str,
    gcs_server: GcsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after_creation: Callable[[AfterUpload], None],
) -> Iterator[Rig]:
    """A real worker with the engine's stub, a new bucket, and the function's part after each upload."""
    bucket = f"caption-{os.getpid()}"
    monkeypatch.setenv("DROPLINE_BUCKET", bucket)
    monkeypatch.setenv("DROPLINE_EVENTS__BUCKETS", json.dumps([bucket]))
    with Supervisor(tmp_path / "logs") as supervisor:
        rig = Rig(database_url, redis_url, gcs_server.url, bucket, tmp_path, supervisor, module="worker")
        with open_rig(rig):
            rig.worker(DROPLINE_ENGINE__STUB="true")

            def finalize(version: ObjectVersion) -> None:
                task = rig.metadata(version).get("caption-task", "<CAPTION>")
                rig.enqueue(rig.register(version, task))

            after_creation(finalize)
            yield rig


def assert_every_task(image: str) -> None:
    """The stub answers each task of the image with the task and its text."""
    for task in TaskPrompt:
        words = ["--text", TEXTS[task]] if task in TEXTS else []
        result = run("caption", image, "--task", task.name.lower(), *words)
        answer = f"stub {task}{TEXTS.get(task, '')}\n"
        assert (result.exit_code, result.stdout) == (ExitCode.OK, answer), result.stderr


def test_every_task_is_answered_and_the_object_keeps_its_own_caption(
    stack: Rig, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 15 tasks of one object, by its URI, and of an address; and a path and standard input, as fresh drops."""
    version = stack.upload("cat.png", image.read_bytes())
    stack.enqueue(stack.register(version))
    stack.wait_settled([1])
    metadata = stack.metadata(version)
    assert_every_task(f"gs://{stack.bucket}/cat.png")
    assert metadata["caption-prompt"] == "<CAPTION>"
    assert stack.metadata(version) == metadata
    with stack.database.transaction() as connection:
        written = connection.execute(text("SELECT task FROM captions WHERE metadata_written_at IS NOT NULL"))
        assert written.scalars().all() == ["<CAPTION>"]
        assert connection.execute(text("SELECT count(*) FROM captions")).scalar() == len(TaskPrompt)
    assert run("caption", image, "--task", "od").stdout == "stub <OD>\n"
    piped = CliRunner().invoke(app, ["caption", "-", "--json"], input=image.read_bytes())
    (document,) = json.loads(piped.stdout)
    assert (document["input"], document["caption"], document["write_back"]) == ("-", "stub <CAPTION>", True)
    with serving("127.0.0.1") as web:
        web.answers["/photos/fetched.png"] = ok(image.read_bytes())
        monkeypatch.setenv("DROPLINE_FETCH__ALLOW_PRIVATE", "true")
        assert_every_task(web.url("/photos/fetched.png"))
    assert sum(name.endswith("/fetched.png") for name in objects(stack)) == len(TaskPrompt)
    several = run("caption", image, f"gs://{stack.bucket}/cat.png", image, "--json")
    assert [each["input"] for each in json.loads(several.stdout)] == [
        str(image),
        f"gs://{stack.bucket}/cat.png",
        str(image),
    ]
    assert {each["caption"] for each in json.loads(several.stdout)} == {"stub <CAPTION>"}
    assert sum(name.endswith("/a.png") for name in objects(stack)) == 3


@pytest.mark.usefixtures("alive")
def test_an_address_that_leads_to_a_private_place_is_refused_and_the_others_go_on(
    image: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    after_creation: Callable[[AfterUpload], None],
) -> None:
    """By its name, its IP address or a redirect; no connection is made, and other inputs are captioned."""

    def rule(address: str, *, allow_private: bool = False) -> str | None:
        return None if address == "127.0.0.2" else why_refused(address, allow_private=allow_private)

    monkeypatch.setattr(connections, "why_refused", rule)
    after_creation(lambda version: caption_object(database, version))
    with serving("127.0.0.2") as public, serving("127.0.0.1") as private:
        public.answers["/to-private"] = redirect(private.url("/secret"))
        inputs = [private.url(), private.url(host="localhost"), public.url("/to-private"), image]
        result = run("caption", *inputs, "--json", "--timeout", 120)
        assert (public.connections, private.connections) == (1, 0)
    assert result.exit_code == ExitCode.USAGE
    *refused, captioned = json.loads(result.stdout)
    assert [each["error_code"] for each in refused] == ["address_refused"] * 3
    assert captioned["caption"] == "a red circle"


@pytest.mark.usefixtures("alive")
def test_the_picture_is_written_with_its_boxes(
    tmp_path: Path, database: Database, after_creation: Callable[[AfterUpload], None]
) -> None:
    """Upright, at the places of the answer; without regions, or without its object, nothing is written."""
    upright = Image.new("RGB", (800, 400), "white")
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown after a turn by 90 degrees, clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    results: list[dict[str, Any] | None] = [{"bboxes": [[500, 100, 700, 300]], "labels": ["sky"]}, None]

    def answer(version: ObjectVersion) -> None:
        with database.transaction() as connection:
            claim = take(connection, drop(connection, version))
            attempts.record_caption(
                connection, claim, a_caption("sky", results.pop(0)), IMAGE, size_bytes=99, write_back_lease_s=None
            )

    after_creation(answer)
    drawn = tmp_path / "drawn.png"
    result = run("caption", turned, "--task", "od", "--annotate", drawn, "--timeout", 120)
    assert (result.exit_code, result.stdout) == (ExitCode.OK, "sky\n"), result.stderr
    with Image.open(drawn) as picture:
        assert picture.size == (800, 400)
        colours = picture.convert("RGB").crop((0, 0, 400, 400)).getcolors()
        assert colours == [(160_000, (255, 255, 255))]
        assert len(set(picture.convert("RGB").crop((480, 80, 720, 320)).tobytes())) > 1
    plain = run("caption", turned, "--task", "od", "--annotate", tmp_path / "none.png", "--timeout", 120)
    assert plain.exit_code == ExitCode.USAGE
    assert "has no boxes or polygons to draw" in plain.stderr
    assert not (tmp_path / "none.png").exists()


@pytest.mark.usefixtures("alive")
def test_one_input_prints_its_caption_alone(
    image: Path, database: Database, after_creation: Callable[[AfterUpload], None]
) -> None:
    """For `$(dropline caption …)`; control characters are escaped, and the demo model is named."""
    after_creation(lambda version: caption_object(database, version, HOSTILE))
    result = run("caption", image, "--timeout", 120)
    assert (result.exit_code, result.stdout) == (ExitCode.OK, f"{SHOWN}\n")
    assert result.stderr == f"{DEMO_NOTICE}\n"


@pytest.mark.usefixtures("alive")
def test_a_caption_of_identical_bytes_is_told(
    image: Path, database: Database, after_creation: Callable[[AfterUpload], None]
) -> None:
    """On standard error: the caption alone is the output; the JSON has the column."""

    def act(version: ObjectVersion) -> None:
        row_id = caption_object(database, version)
        with database.transaction() as connection:
            connection.execute(text("UPDATE captions SET copied_from = 77 WHERE id = :id"), {"id": row_id})

    after_creation(act)
    result = run("caption", image, "--timeout", 120)
    assert (result.exit_code, result.stdout) == (ExitCode.OK, "a red circle\n")
    assert "the caption is that of the row 77" in result.stderr
    (found,) = json.loads(run("caption", image, "--timeout", 120, "--json").stdout)
    assert found["copied_from"] == 77


@pytest.mark.usefixtures("alive")
def test_several_inputs_are_a_table_in_their_order(
    image: Path, tmp_path: Path, database: Database, after_creation: Callable[[AfterUpload], None]
) -> None:
    """Each input has its own outcome; the exit code is that of the failed image."""
    names = ("b.png", "failed.png", "filtered.png", "unreadable.png", "empty.png")
    for name in names:
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"\x89PNG")
    (tmp_path / "unreadable.png").unlink()
    (tmp_path / "unreadable.png").symlink_to("/proc/self/mem")

    def act(version: ObjectVersion) -> None:
        if version.name.endswith("failed.png"):
            fail_object(database, version, "truncated_image", "ends at byte 7")
        elif version.name.endswith("filtered.png"):
            filter_object(database, version, FilterReason.EXCLUDED)
        else:
            caption_object(database, version, f"caption of {version.name.rpartition('/')[2]}")

    after_creation(act)
    inputs = [tmp_path / name for name in names]
    result = run("caption", *inputs, "--timeout", 120, "--json")
    assert result.exit_code == ExitCode.FAILED
    found = json.loads(result.stdout)
    assert [Path(each["input"]).name for each in found] == list(names)
    assert [each.get("status") for each in found[:3]] == ["captioned", "failed", "filtered"]
    assert [each["error_code"] for each in found[3:]] == ["unreadable", "empty_object"]
    shown = run("caption", *inputs, "--timeout", 120)
    assert "caption of b.png" in shown.stdout
    assert "truncated_image: ends at byte 7" in shown.stdout
    assert shown.stderr.count("error:") == 3
    assert run("caption", inputs[2], "--timeout", 120).exit_code == ExitCode.FILTERED
    failed = run("caption", inputs[1], "--timeout", 120)
    assert (failed.exit_code, failed.stdout) == (ExitCode.FAILED, "")
    assert failed.stderr.startswith(
        f"error: {inputs[1]} is failed (truncated_image: ends at byte 7); uploaded as gs://"
    )
    assert shown.stderr.count(f"error: {tmp_path}/") == 3


@pytest.mark.usefixtures("alive")
def test_a_missing_path_does_not_stop_the_others(
    image: Path, tmp_path: Path, database: Database, after_creation: Callable[[AfterUpload], None]
) -> None:
    """As a missing object does not; the exit code is that of the missing one."""
    after_creation(lambda version: caption_object(database, version))
    missing = [tmp_path / "no.png", tmp_path, f"gs://{BUCKET}/no.png"]
    result = run("caption", missing[0], image, *missing[1:], "--json", "--timeout", 120)
    assert result.exit_code == ExitCode.USAGE
    found = json.loads(result.stdout)
    assert [each.get("caption") for each in found] == [None, "a red circle", None, None]
    assert [each["error_code"] for each in found if "caption" not in each] == [
        "client",
        "client",
        "object_missing",
    ]
    assert result.stderr.count("error:") == 3


def test_without_a_worker_the_command_ends_at_once(image: Path, gcs_server: GcsServer, database: Database) -> None:
    """Nothing is uploaded; the row of an object is made and answered later; a captioned one is answered now."""
    result = run("caption", image)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr.startswith("error: no worker is alive: start one with `dropline up`")
    assert result.stderr.endswith("; nothing was uploaded\n")
    uri = run("drop", image, "--prefix", "here/").stdout.strip()
    asked = run("caption", uri, "--task", "od")
    assert asked.exit_code == ExitCode.UNAVAILABLE
    told = "(no worker is alive: start one with `dropline up` or `python -m worker`)"
    assert asked.stderr == f"error: no answer for {uri} {told}; `dropline wait '{uri}'` waits for it\n"
    with database.transaction() as connection:
        assert connection.execute(text("SELECT task, status FROM captions")).all() == [("<OD>", "queued")]
    bucket, name = uri.removeprefix("gs://").partition("#")[0].split("/", 1)
    caption_object(database, ObjectVersion(bucket, name, int(uri.rpartition("#")[2])))
    assert run("caption", uri).stdout == "a red circle\n"


def test_a_sleeping_pool_is_woken_by_a_request(
    image: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    """The command says that the pool is waking, and waits."""
    with fake_cloud_run.serve() as pool:
        monkeypatch.setenv("DROPLINE_POOL__NAME", POOL)
        monkeypatch.setenv("DROPLINE_POOL__API", pool.url)
        uri = run("drop", image).stdout.strip()
        result = run("caption", uri, "--timeout", 0.2)
        assert pool.instances == 1
    assert result.exit_code == ExitCode.TIMED_OUT
    waking, error = result.stderr.splitlines()
    assert waking == "waking: no worker is alive yet, and the image wakes the worker pool"
    assert error.startswith(f"error: no answer for {uri} after 0.2 s (no worker is alive yet: the worker pool is")


@pytest.mark.usefixtures("alive")
def test_another_row_of_the_object_is_not_the_answer(image: Path, database: Database) -> None:
    """The wait is for the row of the task, not for all rows of the object version."""
    uri = run("drop", image).stdout.strip()
    version = ObjectVersion(BUCKET, "a.png", int(uri.rpartition("#")[2]))
    with database.transaction() as connection:
        drop(connection, version, OTHER_TASK)
    caption_object(database, version)
    assert run("caption", uri, "--task", "caption").stdout == "a red circle\n"
    assert run("caption", uri, "--task", "od", "--timeout", 0.2).exit_code == ExitCode.TIMED_OUT


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["no.png"], ExitCode.USAGE, "no.png is not there"),
        (["."], ExitCode.USAGE, "`dropline drop . --wait` captions all images in it"),
        (["-", "-"], ExitCode.USAGE, "give `-` once"),
        (["gs://b"], ExitCode.USAGE, "is not the URI of an object"),
        (["ftp://host/a.png"], ExitCode.USAGE, "no address that can be captioned"),
        (["http://127.0.0.1/a.png"], ExitCode.USAGE, "DROPLINE_FETCH__ALLOW_PRIVATE"),
        (["-", "--annotate", "a.gif"], ExitCode.USAGE, "must end with .png"),
        (["-", "--annotate", "no/a.png"], ExitCode.USAGE, "no is not a directory"),
        (["-", "--annotate", "a.png", "--task", "ocr"], ExitCode.USAGE, "--task od, for example, asks for boxes"),
        (["-", "--annotate", "a.png"], ExitCode.USAGE, "<CAPTION> has no boxes or polygons"),
        (["-", "/dev/null", "--annotate", "a.png"], ExitCode.USAGE, "give one image"),
        ([f"gs://{BUCKET}/no.png"], ExitCode.USAGE, "is not there"),
        (
            ["gs://others/a.png"],
            ExitCode.USAGE,
            f"gs://others/a.png: the bucket others is not one of DROPLINE_EVENTS__BUCKETS ({BUCKET})",
        ),
        (["/dev/null"], ExitCode.FAILED, "error: /dev/null: there are no bytes"),
        (["-", "--text", "a cat"], ExitCode.USAGE, "--text needs --task"),
        (["-", "--task", "poem"], ExitCode.USAGE, "is not a task of Florence-2"),
        (["-", "--task", "od", "--text", "a cat"], ExitCode.USAGE, "takes no text"),
        (["-", "--task", "open_vocabulary_detection"], ExitCode.USAGE, "needs words: add --text 'a cat'"),
        (["-", "--task", "region-to-ocr"], ExitCode.USAGE, "add --text '<loc_100>"),
        (["-", "--task", "<OPEN_VOCABULARY_DETECTION>"], ExitCode.USAGE, "add --text"),
        (["-", "--task", "<OPEN_VOCABULARY_DETECTION>a dog", "--text", "a cat"], ExitCode.USAGE, "once"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], code: ExitCode, told: str) -> None:
    """The mistake is named, and nothing is uploaded."""
    result = run("caption", *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.stderr
    assert told in result.stderr


def test_without_redis_in_the_settings_the_command_waits_all_the_same(
    image: Path, database: Database, monkeypatch: pytest.MonkeyPatch, after_creation: Callable[[AfterUpload], None]
) -> None:
    """A login that only reads, and an upload: whether a worker is alive is not known."""
    monkeypatch.delenv("DROPLINE_BROKER__URL")
    monkeypatch.setenv("DATABASE_URL", os.environ["DROPLINE_DATABASE__URL"])
    monkeypatch.delenv("DROPLINE_DATABASE__URL")
    after_creation(lambda version: caption_object(database, version))
    result = run("caption", image)
    assert (result.exit_code, result.stdout) == (ExitCode.OK, "a red circle\n")
    assert "not known whether a worker is alive" in result.stderr


def test_services_that_are_away(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4 without an endless wait."""
    monkeypatch.setenv("DROPLINE_BROKER__URL", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    assert run("caption", image).exit_code == ExitCode.UNAVAILABLE
