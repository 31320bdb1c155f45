"""How a caption is fitted into an object's metadata, without harm to the keys of other writers."""

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from dropline.contract import (
    METADATA_CAPTION,
    METADATA_MODEL,
    METADATA_PROMPT,
    METADATA_TASK,
    PERSON,
    SeenMetadata,
)
from dropline.object_metadata import MAX_BYTES, seen_metadata, total_bytes
from dropline.settings import MetadataSettings
from dropline.storage.metadata import SHORTEST_CUT_BYTES, fit_beside, fit_metadata, printable, shorten

LIMITS = MetadataSettings()
FAMILY = "👨‍👩‍👧‍👦"
OURS = frozenset({METADATA_CAPTION, METADATA_PROMPT, METADATA_MODEL})

pieces = st.text(max_size=40) | st.sampled_from([FAMILY, "e\u0301", "🇩🇪", " ", "\r\n", "\x00"])
#: From the empty text to several times the largest value, without drawing every character.
texts = st.builds(lambda piece, times: piece * times, pieces, st.integers(0, 500))
foreign = st.dictionaries(
    st.text(min_size=1, max_size=40).filter(lambda key: key not in OURS),
    st.builds(lambda piece, times: piece * times, pieces, st.integers(0, 60)),
    max_size=8,
)
limits = st.builds(MetadataSettings, max_value_bytes=st.integers(64, 4096), max_total_bytes=st.integers(256, 8192))


def ours(caption: str, task: str = "<CAPTION>", model: str = "florence") -> dict[str, str]:
    return {METADATA_CAPTION: caption, METADATA_PROMPT: task, METADATA_MODEL: model}


@given(foreign, texts, limits)
def test_limits_hold_and_other_keys_are_untouched(
    existing: dict[str, str], caption: str, bounds: MetadataSettings
) -> None:
    """For any existing metadata and any caption, no limit is exceeded and no key of another writer is set."""
    assume(total_bytes(existing) <= bounds.max_total_bytes)
    fitted = fit_metadata(existing, ours(caption), bounds)
    assert set(fitted.values) in (set(), OURS)
    assert total_bytes(existing | fitted.values) <= bounds.max_total_bytes
    assert all(len(value.encode()) <= bounds.max_value_bytes for value in fitted.values.values())
    assert fitted.outcome.written == bool(fitted.values)


@given(foreign, texts, limits)
def test_the_report_is_true(existing: dict[str, str], caption: str, bounds: MetadataSettings) -> None:
    """Whole captions are reported without a code, cut captions as shortened, absent captions as left out."""
    fitted = fit_metadata(existing, ours(caption), bounds)
    written = fitted.values.get(METADATA_CAPTION)
    if written is None:
        assert fitted.outcome.code == "metadata_left_out"
    elif written == printable(caption):
        assert fitted.outcome.code is None
        assert fitted.outcome.note is None
    else:
        assert fitted.outcome.code == "metadata_shortened"
        assert written.endswith("…")
    assert bool(fitted.outcome.code) == bool(fitted.outcome.note)


@given(foreign, texts, limits)
def test_writing_twice_changes_nothing(existing: dict[str, str], caption: str, bounds: MetadataSettings) -> None:
    """A caption fitted again beside the written caption is the same, so a lost response is recognised."""
    first = fit_metadata(existing, ours(caption), bounds)
    assume(first.values)
    assert fit_metadata(existing | first.values, ours(caption), bounds) == first


@given(texts, st.integers(0, 5000))
def test_cuts_fall_between_graphemes(text: str, room: int) -> None:
    """A shortened text fits, ends with an ellipsis, and splits no grapheme."""
    cut = shorten(text, room)
    if cut is None:
        return
    assert len(cut.encode("utf-8", "surrogatepass")) <= room
    kept = cut.removesuffix("…")
    assert text.startswith(kept)
    assert kept == kept.rstrip()
    whole = regex.findall(r"\X", text)
    lengths = {0}
    at = 0
    for grapheme in whole:
        at += len(grapheme)
        lengths |= {at}
    assert len(kept) in lengths or not text[len(kept)].strip()


def test_families_are_not_split() -> None:
    """An emoji of seven code points stays whole or goes whole."""
    cut = shorten(FAMILY * 4, 25 * 2 + 3 + 24)
    assert cut == FAMILY * 2 + "…"


@pytest.mark.parametrize("text", ["\x00", "a\r\nb", "tab\there", "\x1b[31mred", "\ud800lone", "\x85next"])
def test_control_characters_become_spaces(text: str) -> None:
    """Characters that are invalid in a header, or could forge a header, become spaces."""
    clean = printable(text)
    assert clean.isprintable()
    clean.encode("utf-8")


def test_a_caption_of_ten_kilobytes_is_shortened() -> None:
    """A long caption fills the largest value."""
    fitted = fit_metadata({}, ours("word " * 2000), LIMITS)
    assert 4080 <= len(fitted.values[METADATA_CAPTION].encode()) <= 4096
    assert "the row has the whole caption" in str(fitted.outcome.note)


def test_an_object_that_is_full_is_left_alone() -> None:
    """Beside 8 KiB of metadata of another writer no key is written, and the reason has the numbers."""
    existing = {f"k{i}": "v" * 4000 for i in range(2)} | {"k2": "v" * 150}
    fitted = fit_metadata(existing, ours("a caption of a common length"), LIMITS)
    assert not fitted.values
    assert fitted.outcome.code == "metadata_left_out"
    assert f"{total_bytes(existing)} of 8192" in str(fitted.outcome.note)


def test_a_stub_of_a_caption_is_not_written() -> None:
    """A caption is left out if only a few letters would remain."""
    assert shorten("a man rides a horse", SHORTEST_CUT_BYTES) is None


@given(foreign, st.text(min_size=1).filter(str.strip), texts)
def test_people_keep_their_captions(existing: dict[str, str], theirs: str, caption: str) -> None:
    """A caption without the key `caption-model` was written by a person: no key is written."""
    fitted = fit_metadata(existing | {METADATA_CAPTION: theirs}, ours(caption), LIMITS)
    assert not fitted.values
    assert fitted.outcome.code == "metadata_kept"


def test_an_edited_caption_gives_way_to_a_person_and_to_a_revert() -> None:
    """Not to a late write-back of the model's caption; a revert leaves a caption of which Postgres has no copy."""
    edited = ours("Grandma", model=PERSON)
    late = fit_metadata(edited, ours("a woman"), LIMITS)
    assert (late.values, late.outcome.code) == ({}, "metadata_kept")
    assert f"{METADATA_MODEL}=person" in str(late.outcome.note)
    assert fit_metadata(edited, ours("a woman"), LIMITS, is_reverted=True).values == ours("a woman")
    theirs = {METADATA_CAPTION: "Grandma"}
    assert fit_metadata(theirs, ours("a woman"), LIMITS, is_reverted=True).outcome.code == "metadata_kept"
    for existing in (edited, theirs, ours("a woman")):
        assert fit_metadata(existing, ours("Grandma, 1962", model=PERSON), LIMITS).outcome.written


def test_an_empty_caption_is_nobodys() -> None:
    """An empty caption is no text to protect."""
    assert fit_metadata({METADATA_CAPTION: " "}, ours("new"), LIMITS).values == ours("new")


def test_our_own_caption_is_replaced() -> None:
    """A new caption replaces the caption of an earlier model; the bytes of the replaced caption do not count."""
    before = ours("old " * 900, model="older")
    filler = {"k": "v" * 4000}
    fitted = fit_metadata(before | filler, ours("new " * 900), LIMITS)
    assert fitted.values == ours(("new " * 900).strip())


def test_the_task_of_a_person_is_never_written() -> None:
    """The key of the choice stays as the person wrote it; the task prompt of the caption has a key of its own."""
    fitted = fit_metadata({METADATA_TASK: "od"}, ours("x", task="<OD>"), LIMITS)
    assert METADATA_TASK not in fitted.values
    assert fitted.values[METADATA_PROMPT] == "<OD>"


def test_the_caption_of_a_copied_object_is_replaced() -> None:
    """A copy carries the caption of its source, which is Dropline's and no caption by a person."""
    copied = ours("a caption of the source", task="<OD>") | {"owner": "me"}
    fitted = fit_metadata(copied, ours("a caption of the copy"), LIMITS)
    assert fitted.values == ours("a caption of the copy")


def test_a_long_task_leaves_the_caption_out() -> None:
    """A task is never shortened, because a shortened task would be another task."""
    bounds = MetadataSettings(max_value_bytes=64)
    task = "<OPEN_VOCABULARY_DETECTION>" + "a" * 60
    assert fit_metadata({}, ours("x", task=task), bounds).outcome.code == "metadata_left_out"


@given(foreign, texts, limits)
def test_the_metadata_of_an_event_fit_as_those_that_were_read(
    existing: dict[str, str], caption: str, bounds: MetadataSettings
) -> None:
    """Without a key of Dropline, the number of bytes is enough to decide."""
    seen = seen_metadata(1, existing)
    assume(seen is not None)
    assert seen is not None
    assert fit_beside(seen.size_bytes, ours(caption), bounds) == fit_metadata(existing, ours(caption), bounds)


@pytest.mark.parametrize("metadata", [None, {}])
def test_an_object_without_metadata_is_seen(metadata: object) -> None:
    """The first version of the metadata has no key."""
    assert seen_metadata(1, metadata) == SeenMetadata(1, 0)


@pytest.mark.parametrize(
    ("metageneration", "metadata"),
    [
        (None, {}),
        (0, {}),
        (1, {METADATA_CAPTION: "Grandma, 1962"}),
        (1, {METADATA_MODEL: "m"}),
        (1, {METADATA_PROMPT: "<OD>"}),
        (1, ["caption"]),
        (1, {"a": 1}),
        (1, {"a": "v" * MAX_BYTES}),
    ],
)
def test_metadata_that_must_be_read_first(metageneration: int | None, metadata: object) -> None:
    """A key that Dropline writes, no version, and what Cloud Storage could not hold."""
    assert seen_metadata(metageneration, metadata) is None
