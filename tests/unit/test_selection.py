"""Which objects are captioned, and with which task."""

from typing import Any

import pytest

from dropline.contract import FilterReason, ObjectFacts, ObjectVersion, TaskPrompt, TaskRequest
from dropline.errors import ForeignBucket, SettingsError
from dropline.selection import Accept, Filtered, Reject, Selection, Verdict
from dropline.settings import EventSettings
from trigger_fn.events import EventKind, ObjectEvent

JPEG = ObjectFacts("image/jpeg", 1000)


def event(
    name: str = "cat.jpg", facts: ObjectFacts = JPEG, task: str | None = None, bucket: str = "drops"
) -> ObjectEvent:
    return ObjectEvent(EventKind.FINALIZED, ObjectVersion(bucket, name, 1), facts, task, "1")


def judge(given: ObjectEvent, **settings: Any) -> Verdict:
    return Selection(EventSettings(buckets=("drops",), **settings)).judge(given.version, given.facts, given.task)


def test_an_image_is_accepted_with_the_default_task() -> None:
    """Without a task in the metadata and a matching prefix, an image gets the default task."""
    assert judge(event()) == Accept((TaskRequest(TaskPrompt.CAPTION),))


@pytest.mark.parametrize("buckets", [(), ("other",), ("drop",), ("Drops",)])
def test_a_foreign_bucket_is_refused(buckets: tuple[str, ...]) -> None:
    """A bucket outside the list is refused; an empty list refuses every bucket."""
    with pytest.raises(ForeignBucket, match="DROPLINE_EVENTS__BUCKETS"):
        Selection(EventSettings(buckets=buckets)).require_ours(event().version)


def test_our_bucket_is_ours() -> None:
    """A bucket in the list is accepted."""
    Selection(EventSettings(buckets=("other", "drops"))).require_ours(event().version)


@pytest.mark.parametrize(
    "name",
    [
        "gsutil/tmp/parallel_composite_uploads/for_details_see/gsutil_help_cp/abc_0",
        "/gsutil/tmp/parallel_composite_uploads/for_details_see/gsutil_help_cp/abc_0",
        "photos/gsutil/tmp/parallel_composite_uploads/abc_0",
        "gcloud/tmp/parallel_composite_uploads/see_gcloud_storage_cp_help_for_details/x_0001",
    ],
)
def test_parts_of_composite_uploads_are_left_out(name: str) -> None:
    """Parts of gsutil's and gcloud's parallel uploads are skipped; the composed object has a separate event."""
    assert judge(event(name)) == Filtered(FilterReason.EXCLUDED)


def test_include_and_exclude() -> None:
    """A name must match an include and no exclude; an exclude is stronger."""
    settings: dict[str, Any] = {"include": ("photos/**", "scans/*.png"), "exclude": ("**/private/**",)}
    assert isinstance(judge(event("photos/a/b.jpg"), **settings), Accept)
    assert isinstance(judge(event("scans/x.png"), **settings), Accept)
    assert judge(event("scans/deep/x.png"), **settings) == Filtered(FilterReason.NOT_INCLUDED)
    assert judge(event("cat.jpg"), **settings) == Filtered(FilterReason.NOT_INCLUDED)
    assert judge(event("photos/private/x.jpg"), **settings) == Filtered(FilterReason.EXCLUDED)


@pytest.mark.parametrize(
    "content_type",
    [
        *("image/png", "IMAGE/JPEG", "image/heic; charset=binary", "image/jpg", "image/x-canon-cr2", "image/*"),
        *("application/octet-stream", "Binary/Octet-Stream", "application/x-octet-stream", "binary/data"),
        *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/force-download"),
        *("application/unknown", "application/x-unknown", "application/x-unknown-content-type", "unknown/unknown"),
        *("content/unknown", "*/*", "application/*", "application/x-binary", "inode/x-empty"),
        *(
            "application/jpg",
            "application/x-jpg",
            "APPLICATION/PNG; q=1",
            "application/heic",
            "img/jpeg",
            "jpg/image",
        ),
        *("", "  ", "; charset=utf-8", "image", "jpg", "null", "undefined", "[object Object]", "image/", "/jpeg"),
        *("image/jpeg, image/jpeg", '"image/jpeg"', "image jpeg", "image/jpeg\x00", "bild/jpeg/x", "日本/語"),
        None,
    ],
)
def test_types_that_may_be_images_pass(content_type: str | None) -> None:
    """A type of images, a type that means "unknown", and a text that is no type pass: the bytes decide."""
    assert isinstance(judge(event(facts=ObjectFacts(content_type, 1000))), Accept)


@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "TEXT/HTML; charset=utf-8", "video/mp4", "application/pdf", "imagex/png", "text/uri-list"),
        *(
            "application/json",
            "application/zip",
            "multipart/mixed",
            "application/vnd.ms-excel",
            "model/gltf-binary",
        ),
        *("application/x-directory", "application/vnd.oasis.opendocument.image-template"),
    ],
)
def test_other_types_are_filtered(content_type: str) -> None:
    """A type outside the list is a statement about the bytes, whatever the name: the object is filtered."""
    assert judge(event(facts=ObjectFacts(content_type, 1000))) == Filtered(FilterReason.CONTENT_TYPE)


def test_the_list_of_types_is_a_setting() -> None:
    """The setting excludes other types and an empty type; an unknown type passes."""
    settings: dict[str, Any] = {"content_types": ("image/png",)}
    assert judge(event(facts=ObjectFacts("jpg", 1)), **settings) == Filtered(FilterReason.CONTENT_TYPE)
    assert isinstance(judge(event(facts=ObjectFacts("image/png", 1)), **settings), Accept)
    assert isinstance(judge(event(facts=ObjectFacts(None, 1)), **settings), Accept)
    assert judge(event(facts=ObjectFacts("", 1)), **settings) == Filtered(FilterReason.CONTENT_TYPE)


def test_an_empty_object_fails_at_once() -> None:
    """An empty object is rejected with a code."""
    verdict = judge(event(facts=ObjectFacts("image/jpeg", 0)))
    assert isinstance(verdict, Reject)
    assert verdict.code == "empty_object"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("photos/", ""),
        ("photos/", "text/plain"),
        ("photos/", "application/x-www-form-urlencoded;charset=UTF-8"),
        ("photos", "application/x-directory"),
        ("photos", "Application/X-Directory; charset=UTF-8"),
        ("photos", "httpd/unix-directory"),
    ],
)
def test_a_folder_placeholder_is_no_failure(name: str, content_type: str) -> None:
    """An empty object that stands for a folder is filtered, as from the Cloud console, gcsfuse and s3fs."""
    verdict = judge(event(name, ObjectFacts(content_type, 0)), content_types=("**",))
    assert verdict == Filtered(FilterReason.FOLDER_PLACEHOLDER)


def test_an_image_with_the_name_of_a_folder_is_an_image() -> None:
    """An object with bytes is no placeholder."""
    assert isinstance(judge(event("photos/")), Accept)


@pytest.mark.parametrize(
    "name",
    [
        *(".gcsfuse_tmp/a", "photos/.gcsfuse_tmp/x.jpg", ".gcsfuse_tmp/", ".fuse_hidden0001", "a/.nfs80a0"),
        *("photos_$folder$", "a/photos_$folder$", "out/_SUCCESS", "_SUCCESS", "out/_temporary/0/part-0.png"),
        *(".DS_Store", "a/.DS_Store", "a/._cat.jpg", "a/__MACOSX/._cat.jpg", "a/Thumbs.db", "thumbs.db"),
        *("a/desktop.ini", "Desktop.ini", "a/@eaDir/cat.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/cat.jpg"),
        *("/.gcsfuse_tmp/x", "/.DS_Store", "a/.stversions/cat.jpg"),
    ],
)
def test_auxiliary_objects_are_filtered(name: str) -> None:
    """Files that programs write beside images are filtered by a list of their own, with any `exclude`."""
    for facts in (JPEG, ObjectFacts("application/octet-stream", 0), ObjectFacts()):
        assert judge(event(name, facts), exclude=("private/**",)) == Filtered(FilterReason.AUXILIARY)
    assert isinstance(judge(event(name), auxiliary=()), Accept)


@pytest.mark.parametrize(
    "name", ["gcsfuse_tmp/a.jpg", "a_$folder$.jpg", "_SUCCESS.png", "x.DS_Store.jpg", "a/_cat.jpg", ".cat.jpg"]
)
def test_similar_names_are_no_auxiliary_objects(name: str) -> None:
    """Only the exact names of the programs are filtered; a hidden image is an image."""
    assert isinstance(judge(event(name)), Accept)


@pytest.mark.parametrize("reason", FilterReason)
def test_each_reason_names_a_setting_that_exists(reason: FilterReason) -> None:
    """The setting is a variable of `EventSettings`; the rule on folders has none."""
    known = {f"DROPLINE_EVENTS__{name.upper()}" for name in EventSettings.model_fields}
    assert reason.setting in known | {"fixed rule"}
    assert (reason.setting == "fixed rule") == (reason is FilterReason.FOLDER_PLACEHOLDER)


def test_an_excluded_empty_object_is_skipped() -> None:
    """The filters come first: an excluded object is skipped, and not rejected."""
    assert judge(event(facts=ObjectFacts("text/plain", 0))) == Filtered(FilterReason.CONTENT_TYPE)


@pytest.mark.parametrize(("size", "kind"), [(100, Accept), (101, Reject), (None, Accept)])
def test_the_size_limit(size: int | None, kind: type) -> None:
    """A size at the limit is accepted; an unknown size is left to the worker."""
    verdict = judge(event(facts=ObjectFacts("image/jpeg", size)), max_size_bytes=100)
    assert isinstance(verdict, kind)
    if isinstance(verdict, Reject):
        assert verdict.code == "object_too_large"
        assert "DROPLINE_EVENTS__MAX_SIZE_BYTES" in verdict.error


def test_the_longest_prefix_wins() -> None:
    """The longest matching prefix gives the task, in any order of the prefixes."""
    settings: dict[str, Any] = {
        "task_by_prefix": {"scans/": "ocr", "scans/maps/": "od", "": "detailed_caption"},
        "default_task": "<CAPTION>",
    }
    assert judge(event("scans/a.png"), **settings) == Accept((TaskRequest(TaskPrompt.OCR),))
    assert judge(event("scans/maps/a.png"), **settings) == Accept((TaskRequest(TaskPrompt.OD),))
    assert judge(event("a.png"), **settings) == Accept((TaskRequest(TaskPrompt.DETAILED_CAPTION),))


def test_the_objects_own_task_comes_first() -> None:
    """The task in the metadata comes before the prefix, in any valid spelling."""
    settings: dict[str, Any] = {"task_by_prefix": {"": "<OCR>"}}
    assert judge(event(task="od"), **settings) == Accept((TaskRequest(TaskPrompt.OD),))
    text = judge(event(task="<OPEN_VOCABULARY_DETECTION>a red car"), **settings)
    assert text == Accept((TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "a red car"),))


def test_a_task_that_does_not_exist_fails_and_says_which_do() -> None:
    """An unknown task is rejected and never replaced; the rejected row has the task of the prefix."""
    verdict = judge(event(task="<POEM>"), task_by_prefix={"cat": "<OD>"})
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.task) == ("invalid_task", TaskRequest(TaskPrompt.OD))
    assert "POEM" in verdict.error
    assert all(task in verdict.error for task in TaskPrompt)


def test_several_tasks_of_the_metadata_or_of_the_rules() -> None:
    """Metadata, prefixes and the default may each name a list."""
    caption, detection = TaskRequest(TaskPrompt.CAPTION), TaskRequest(TaskPrompt.OD)
    settings: dict[str, Any] = {"task_by_prefix": {"a/": "od, caption"}, "default_task": "<CAPTION>, <OD>"}
    assert judge(event("a/x.png"), **settings) == Accept((detection, caption))
    assert judge(event("x.png"), **settings) == Accept((caption, detection))
    text = judge(event(task="ocr, open_vocabulary_detection: a car, a cat"), **settings)
    words = TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "a car, a cat")
    assert text == Accept((TaskRequest(TaskPrompt.OCR), words))


def test_a_wrong_entry_of_a_list_fails_beside_the_right_ones() -> None:
    """The right tasks are accepted; the failed row has a usual task that the list does not ask for, or any."""
    caption, detection = TaskRequest(TaskPrompt.CAPTION), TaskRequest(TaskPrompt.OD)
    verdict = judge(event(task="<OD>, <POEM>"))
    assert isinstance(verdict, Accept)
    assert verdict.tasks == (detection,)
    assert verdict.wrong is not None
    assert (verdict.wrong.task, verdict.wrong.code) == (caption, "invalid_task")
    assert "POEM" in verdict.wrong.error
    verdict = judge(event(task="<CAPTION>, <POEM>"))
    assert isinstance(verdict, Accept)
    assert verdict.wrong is not None
    assert verdict.wrong.task == TaskRequest(TaskPrompt.DETAILED_CAPTION)


def test_a_wrong_entry_beside_each_plain_task() -> None:
    """The failed row has a task of its own, also where the list asks for all tasks without words."""
    plain = [each for each in TaskPrompt if not (each.takes_text or each.takes_region)]
    verdict = judge(event(task=", ".join([*plain, "<POEM>"])))
    assert isinstance(verdict, Accept)
    assert verdict.tasks == tuple(map(TaskRequest, plain))
    assert verdict.wrong is not None
    assert verdict.wrong.task not in verdict.tasks


def test_a_wrong_glob_is_told_at_start() -> None:
    """A wrong glob raises SettingsError at the start, before the first event."""
    with pytest.raises(SettingsError):
        Selection(EventSettings(include=("**.jpg",)))
