"""The gallery's page on a running stack, in a browser: images and captions appear without a reload."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.conftest import LocalCloud
from tests.support.browser import tab

pytestmark = pytest.mark.acceptance

_SAMPLES = Path("local_emulators/samples")
_GSUTIL = str(Path(sys.executable).with_name("gsutil"))
#: Gives the page files as a drag or the clipboard does.
_GIVE = """([kind, name, type, content]) => {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type }));
    if (kind === "paste") {
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        return;
    }
    const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
    for (const each of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(each, options));
    }
}"""


@pytest.fixture
def page(cloud: LocalCloud, browser: Browser) -> Iterator[Page]:
    """The list of pictures, in a tab that is listening to events; it is never loaded again."""
    with tab(browser, cloud.stack.environment["DROPLINE_GALLERY_URL"]) as found:
        found.goto("/")
        expect(found.locator("[data-live]")).to_have_text("live")
        found.evaluate("window.isFirstLoad = true")
        yield found


def give(page: Page, kind: str, path: Path, name: str) -> None:
    """Drop a file on the page, or paste it."""
    content = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(_GIVE, [kind, name, "image/png", content])


def test_an_image_in_the_bucket_appears_with_its_caption(cloud: LocalCloud, page: Page, prefix: str) -> None:
    """After `gsutil cp`, the first card is the image, and its caption follows."""
    name = f"{prefix}purple-star.png"
    cloud.run(_GSUTIL, "-q", "cp", str(_SAMPLES / "purple-star.png"), f"gs://{cloud.bucket.name}/{name}")
    card = page.locator(".card", has=page.locator(f'[title="{name}"]'))
    expect(card.locator(".caption")).to_have_text("a purple star")
    expect(card.locator("img")).to_have_js_property("naturalWidth", 512)
    assert page.locator(".card").first.locator(".name").inner_text() == name
    assert page.evaluate("window.isFirstLoad")


@pytest.mark.parametrize(("kind", "file", "caption"), [
    ("drop", "purple-triangle.png", "a purple triangle"),
    ("paste", "white-square-orange-circle.jpg", "a white square and an orange circle"),
])  # fmt: skip
def test_an_image_given_to_the_page_gets_its_caption_in_its_place(
    page: Page, kind: str, file: str, caption: str
) -> None:
    """The card is there at once, and stays one card."""
    name = f"{kind} <b>.png"
    give(page, kind, _SAMPLES / file, name)
    card = page.locator(".card", has=page.locator(".name", has_text=name))
    expect(card.locator(".caption")).to_have_text(caption)
    expect(card).to_have_count(1)
    assert page.evaluate("window.isFirstLoad")


def test_a_question_is_answered_on_its_page(cloud: LocalCloud, page: Page, prefix: str) -> None:
    """Another task is asked in the page; the boxes appear there without a reload."""
    name = f"{prefix}star.png"
    cloud.bucket.blob(name).upload_from_filename(_SAMPLES / "purple-star.png")
    page.locator(".card", has=page.locator(f'[title="{name}"]')).get_by_text("a purple star").click()
    page.get_by_label("Task", exact=True).select_option(label="Objects")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#notice")).to_contain_text("demo model")
    expect(page.locator("[data-answer]")).to_have_text("purple star")
    expect(page.locator("#notice")).to_contain_text("demo model")
    expect(page.locator("svg.regions polygon:not(.casing)")).to_have_count(1)
    expect(page.locator("#p-answers li")).to_have_count(2)
    assert cloud.bucket.get_blob(name).metadata["caption"] == "a purple star"


def test_a_file_that_is_no_image_appears_among_the_failures(cloud: LocalCloud, page: Page, prefix: str) -> None:
    """The list says it without a reload; the view of failures has the reason, and offers no useless repetition."""
    name = f"{prefix}text.png"
    cloud.bucket.blob(name).upload_from_string(b"Dear diary", content_type="image/png")
    card = page.locator(".card", has=page.locator(f'[title="{name}"]'))
    expect(card.locator(".caption")).to_have_text("No image")
    page.get_by_role("link", name="Failures").click()
    row = page.locator(".failures li", has_text=name)
    expect(row).to_contain_text("text")
    assert row.get_by_role("button").count() == 0


def test_an_address_of_a_private_place_is_refused_with_words(page: Page) -> None:
    """The page's addresses go through the guard of the API."""
    page.get_by_role("button", name="Add an image by its address").click()
    page.get_by_label("Address of the image").fill("http://127.0.0.1:9999/private.png")
    page.keyboard.press("Enter")
    card = page.locator(".card", has=page.locator(".name", has_text="private.png"))
    expect(card.locator(".caption")).to_contain_text("DROPLINE_FETCH__ALLOW_PRIVATE")
