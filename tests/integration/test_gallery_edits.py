"""The form of an edit on a picture's page: over HTTP, in a real browser by the keyboard, and without a script."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Connection, text

from db import edits
from db.edits import EditTarget
from db.session import Database
from dropline import caption_id
from dropline.caption_tag import caption_tag
from gallery.access import Scope, TokenEntry, digest_of
from tests.support.browser import DEADLINE_MS, overflow_px, serious_findings, served, tab
from tests.support.image_files import RED, encode
from tests.support.page_rig import Objects, page_application, page_client
from tests.support.rows import G1, TASK, caption_object

_PICTURE = f"/pictures/{caption_id.encode(G1, TASK)}"
_TAG = caption_tag("a red circle")
_EVIL = "<script>document.title='hacked'</script>"


def caption_of(connection: Connection) -> tuple[str, str | None]:
    """Caption and person of the only row."""
    row = connection.execute(text("SELECT caption, edited_by FROM captions")).one()
    return row.caption, row.edited_by


def test_the_page_shows_who_when_and_the_models_caption(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    """A person's text is no HTML. The form leads back to the page; a revert too."""
    caption_object(database, G1)
    objects = Objects({G1: b""})
    with page_client(database, tmp_path, objects) as client:
        saved = client.post(f"{_PICTURE}/edit", data={"caption": f"{_EVIL}\r\n2", "tag": _TAG})
        assert (saved.status_code, saved.headers["location"]) == (303, f"{_PICTURE}?saved=1")
        shown = client.get(saved.headers["location"]).text
        for words in (
            "Saved.",
            "Written by local,",
            "The model’s caption: a red circle",
            "the model’s caption back",
        ):
            assert words in shown
        assert _EVIL not in shown
        assert caption_of(connection) == (f"{_EVIL}\n2", "local")
        assert objects.enqueued == [1]
        tag = caption_tag(f"{_EVIL}\n2")
        assert client.post(f"{_PICTURE}/revert", data={"tag": tag}).status_code == 303
        assert "Written by" not in client.get(_PICTURE).text
    assert caption_of(connection) == ("a red circle", None)


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"caption": "mine", "tag": "x"}, 409, "has changed meanwhile"),
        ({"caption": "mine"}, 409, "has changed meanwhile"),
        ({"caption": " ", "tag": _TAG}, 400, "the caption is empty"),
        ({"caption": "x" * 9000, "tag": _TAG}, 400, "shorten it to 8192"),
    ],
)
def test_a_refused_edit_is_still_in_the_form(
    database: Database, connection: Connection, tmp_path: Path, form: dict[str, str], status: int, words: str
) -> None:
    """With the reason; another person's caption is not overwritten."""
    caption_object(database, G1)
    with page_client(database, tmp_path, Objects({G1: b""})) as client:
        answer = client.post(f"{_PICTURE}/edit", data=form)
    assert answer.status_code == status
    assert words in answer.text
    assert re.search(rf">{form['caption']}</textarea>", answer.text)
    assert "<details open>" in answer.text
    assert caption_of(connection) == ("a red circle", None)


def test_only_the_scope_edit_has_the_form(database: Database, connection: Connection, tmp_path: Path) -> None:
    """Another scope sees no form, and is refused; a page of another site too."""
    caption_object(database, G1)
    token = TokenEntry("reader", frozenset({Scope.READ, Scope.SUBMIT}), digest_of("secret"))
    form = {"caption": "mine", "tag": _TAG}
    with page_client(database, tmp_path, Objects({G1: b""}), (token,)) as client:
        client.headers["authorization"] = "Bearer secret"
        assert "Edit the caption" not in client.get(_PICTURE).text
        assert client.post(f"{_PICTURE}/edit", data=form).status_code == 403
    with page_client(database, tmp_path, Objects({G1: b""})) as client:
        foreign = client.post(f"{_PICTURE}/edit", data=form, headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
    assert caption_of(connection) == ("a red circle", None)


@pytest.fixture
def gallery(database: Database, tmp_path: Path) -> Iterator[str]:
    """A gallery with one picture; the address."""
    caption_object(database, G1)
    objects = Objects({G1: encode(Image.new("RGB", (400, 200), RED), "PNG")})
    with page_application(database, tmp_path, objects) as application, served(application) as url:
        yield url


def _edit_with_the_keyboard(page: Page, words: str) -> None:
    page.goto(_PICTURE)
    page.get_by_text("Edit the caption").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(words)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")


def test_a_person_edits_with_the_keyboard(browser: Browser, gallery: str) -> None:
    """Then the form has the new caption, and the button of a revert; the page has no serious finding."""
    with tab(browser, gallery, width=360) as page:
        _edit_with_the_keyboard(page, "Grandma, 1962")
        expect(page.locator("[data-answer]")).to_have_text("Grandma, 1962")
        expect(page.locator("[data-models]")).to_have_text("The model’s caption: a red circle")
        page.get_by_text("Edit the caption").click()
        expect(page.get_by_label("Caption", exact=True)).to_have_value("Grandma, 1962")
        assert serious_findings(page) == []
        assert overflow_px(page) == 0
        page.get_by_role("button", name="Put the model’s caption back").click()
        expect(page.locator("[data-answer]")).to_have_text("a red circle")


def test_a_person_edits_without_a_script(browser: Browser, gallery: str) -> None:
    """The form is plain HTML."""
    context = browser.new_context(base_url=gallery, java_script_enabled=False)
    context.set_default_timeout(DEADLINE_MS)
    try:
        page = context.new_page()
        _edit_with_the_keyboard(page, "Grandma, 1962")
        expect(page.locator("[data-answer]")).to_have_text("Grandma, 1962")
    finally:
        context.close()


def test_the_second_of_two_people_keeps_the_words_in_the_form(
    browser: Browser, gallery: str, database: Database
) -> None:
    """The edit is refused with the reason, and the page shows the first person's caption."""
    with tab(browser, gallery) as page:
        page.goto(_PICTURE)
        page.get_by_text("Edit the caption").click()
        page.get_by_label("Caption", exact=True).fill("mine")
        with database.transaction() as connection:
            edits.edit(connection, EditTarget(G1.bucket, G1.name), "Bob's", "Bob", None)
        page.get_by_role("button", name="Save caption").click()
        expect(page.get_by_role("alert")).to_contain_text("has changed meanwhile")
        expect(page.get_by_label("Caption", exact=True)).to_have_value("mine")
        expect(page.locator("[data-answer]")).to_have_text("Bob's")
