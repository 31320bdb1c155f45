"""The page in a real browser: search, boxes, texts that stay texts, long lists, colours, sizes, accessibility."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import Connection, text

from db import attempts
from db.session import Database
from dropline import caption_id
from dropline.contract import Dimensions, ObjectVersion, TaskPrompt, TaskRequest
from dropline.images.placeholders import SIZE_PX
from tests.support.browser import overflow_px, serious_findings, served, tab
from tests.support.image_files import RED, encode
from tests.support.page_rig import Objects, page_application
from tests.support.rows import TASK, a_caption, caption_object, drop, fail_object, take

_EVIL = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
_OBJECTS = TaskRequest(TaskPrompt.OD)
_BOXES = ObjectVersion("drops", "boxes.png", 1)
_HOSTILE = ObjectVersion("drops", f"evil/{_EVIL}", 1)
_BROKEN = ObjectVersion("drops", "broken.png", 1)
_PAGES = ("/", "/failures", "/login", "/?q=zebra", "/pictures/nothing")
_PROPOSAL = TaskRequest(TaskPrompt.REGION_PROPOSAL)
#: The extents of the letters of all labels, and of all boxes, in pixels of the window.
_EXTENTS = """() => ["text", "polygon:not(.casing)"].map((kind) =>
    [...document.querySelectorAll(`svg.regions ${kind}`)].map((element) => {
        const { left, top, right, bottom } = element.getBoundingClientRect();
        return [left, top, right, bottom];
    })
)"""
#: Pastes words.
_PASTE = """(words) => {
    const transfer = new DataTransfer();
    transfer.setData("text/plain", words);
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
}"""
_PNG = encode(Image.new("RGB", (400, 200), RED), "PNG")


@pytest.fixture
def gallery(database: Database, tmp_path: Path) -> Iterator[str]:
    """A gallery with one row of each kind; the address."""
    _fill(database)
    objects = Objects({_BOXES: _PNG, ObjectVersion("drops", "cat.png", 1): _PNG})
    with page_application(database, tmp_path, objects) as application, served(application) as url:
        yield url


def _fill(database: Database) -> None:
    caption_object(database, ObjectVersion("drops", "cat.png", 1), "a cat on a mat")
    caption_object(database, ObjectVersion("drops", "gone.png", 1), "a dog that is gone")
    caption_object(database, _HOSTILE, _EVIL)
    fail_object(database, _BROKEN, "corrupt_image", "the file is damaged")
    with database.transaction() as connection:
        claim = take(connection, drop(connection, _BOXES, _OBJECTS))
        result = {"bboxes": [[40, 20, 140, 120], [200, 60, 390, 190]], "labels": ["cat", _EVIL]}
        caption = a_caption("cat, something", result)
        attempts.record_caption(
            connection, claim, caption, Dimensions(400, 200), size_bytes=9, write_back_lease_s=None
        )
        drop(connection, ObjectVersion("drops", "waiting.png", 1))


def picture_path(version: ObjectVersion, task: TaskRequest = TASK) -> str:
    """The address of a picture's page."""
    return f"/pictures/{caption_id.encode(version, task)}"


def captions(page: Page) -> list[str]:
    """The captions of the list."""
    return page.locator("#feed .caption").all_inner_texts()


def test_the_list_narrows_while_a_person_types(browser: Browser, gallery: str) -> None:
    """No key but letters; the address is that of the search, so that a reload shows the same."""
    with tab(browser, gallery) as page:
        page.goto("/")
        expect(page.locator("#feed .card")).to_have_count(6)
        page.keyboard.press("/")
        page.keyboard.type("dog")
        expect(page.locator("#feed .caption")).to_have_text(["a dog that is gone"])
        assert page.url.endswith("/?q=dog")
        page.reload()
        expect(page.locator("#feed .caption")).to_have_text(["a dog that is gone"])
        page.get_by_label("Search captions").fill("")
        page.get_by_label("Status").select_option("failed")
        expect(page.locator("#feed .caption")).to_have_text(["Damaged image"])
        page.get_by_text("Clear").click()
        expect(page.locator("#feed .card")).to_have_count(6)


def test_texts_of_strangers_stay_texts(browser: Browser, gallery: str) -> None:
    """A caption, a name and a label with HTML are shown as they are, and run nothing."""
    with tab(browser, gallery) as page:
        for path in ("/", "/?q=hacked", picture_path(_HOSTILE), picture_path(_BOXES, _OBJECTS)):
            page.goto(path)
            page.wait_for_load_state("networkidle")
            assert page.title() != "hacked"
            assert page.locator("main").get_by_text("<script>").count() > 0
            assert page.locator("main script, main img[src=x]").count() == 0


def test_boxes_lie_where_the_things_are(browser: Browser, gallery: str) -> None:
    """At each width of the window, a box covers the same part of the picture; its label names it."""
    with tab(browser, gallery) as page:
        page.goto(picture_path(_BOXES, _OBJECTS))
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            picture = page.locator("[data-sheet] img").bounding_box()
            box = page.locator("svg.regions polygon:not(.casing)").first.bounding_box()
            assert picture
            assert box
            share = (box["x"] + box["width"] / 2 - picture["x"]) / picture["width"]
            assert share == pytest.approx(90 / 400, abs=0.02)
            assert box["height"] / picture["height"] == pytest.approx(0.5, abs=0.05)
        page.get_by_role("button", name="cat", exact=True).click()
        expect(page.locator("svg.regions g.picked")).to_have_count(1)
        page.get_by_role("button", name="Regions").click()
        expect(page.locator("svg.regions")).to_be_hidden()


def test_a_label_hides_no_small_box_and_no_other_label(browser: Browser, gallery: str, database: Database) -> None:
    """Boxes at the edges and beside each other, as small as their labels; a label begins at its box."""
    boxes = [[1, 1, 15, 10], [350, 2, 399, 18], [200, 80, 212, 92], [214, 80, 224, 92], [2, 180, 30, 199]]
    result = {"bboxes": boxes, "labels": ["corner", "right", "tiny", "tiny too", "bottom"]}
    with database.transaction() as connection:
        claim = take(connection, drop(connection, _BOXES, _PROPOSAL))
        caption = a_caption("five", result)
        attempts.record_caption(
            connection, claim, caption, Dimensions(400, 200), size_bytes=9, write_back_lease_s=None
        )
    with tab(browser, gallery) as page:
        page.goto(picture_path(_BOXES, _PROPOSAL))
        expect(page.locator("svg.regions text")).to_have_count(5)
        expect(page.locator("svg.regions text").first).not_to_have_attribute("x", "1.0")
        labels, drawn = page.evaluate(_EXTENTS)
    hidden = [(label, box) for label in labels for box in drawn if shared_px(label, box) > 20]
    hidden += [(one, other) for one, other in combinations(labels, 2) if shared_px(one, other) > 20]
    assert hidden == []
    for label, box in zip(labels, drawn, strict=True):
        assert shared_px(label, tuple(value + by for value, by in zip(box, (-9, -9, 9, 9), strict=True))) > 0


def shared_px(one: Sequence[float], other: Sequence[float]) -> float:
    """The area that two rectangles share, of left, top, right and bottom."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, across) * max(0, down)


def test_an_object_that_is_gone_has_a_placeholder(browser: Browser, gallery: str) -> None:
    """The image element shows a picture that says so, never the browser's sign of a broken image."""
    with tab(browser, gallery) as page:
        page.goto("/?q=gone")
        image = page.locator("#feed .card img")
        expect(image).to_have_js_property("complete", value=True)
        assert image.evaluate("image => image.naturalWidth") == SIZE_PX[0]


def test_no_box_is_drawn_over_a_placeholder(browser: Browser, gallery: str, database: Database) -> None:
    """Also after the card has changed its words; an image that has the size of the placeholder keeps its boxes."""
    gone = ObjectVersion("drops", "gone-boxes.png", 1)
    box = {"bboxes": [[40, 20, 140, 120]], "labels": ["cat"]}
    with database.transaction() as connection:
        claim = take(connection, drop(connection, gone, _OBJECTS))
        attempts.record_caption(
            connection, claim, a_caption("cat", box), Dimensions(400, 300), size_bytes=9, write_back_lease_s=None
        )
    with tab(browser, gallery) as page:
        page.goto("/?task=od")
        cards = page.locator("#feed .card")
        expect(cards).to_have_count(2)
        expect(cards.nth(0).locator("svg.regions")).to_be_hidden()
        expect(cards.nth(1).locator("svg.regions")).to_be_visible()
        page.evaluate("document.body.dataset.placeholder = '400x200'")
        page.goto(picture_path(_BOXES, _OBJECTS))
        expect(page.locator("svg.regions")).to_be_visible()
        page.evaluate(
            """() => {
                const image = document.querySelector("[data-sheet] img");
                document.body.dataset.placeholder = `${image.naturalWidth}x${image.naturalHeight}`;
                image.dispatchEvent(new Event("load"));
            }"""
        )
        expect(page.locator("svg.regions")).to_be_visible()


def test_an_image_is_added_by_its_address(browser: Browser, gallery: str) -> None:
    """By the field and by paste: the API gets the address, and a refusal stays on the card, with its reason."""
    sent: list[str] = []

    def refuse(route: Route) -> None:
        sent.append(str(route.request.post_data))
        route.fulfill(status=422, json={"detail": "the address leads to a private place"})

    with tab(browser, gallery, width=390) as page:
        page.route("**/api/captions", refuse)
        page.goto("/")
        page.get_by_role("button", name="Add an image by its address").click()
        field = page.get_by_label("Address of the image")
        field.fill("ftp://example.com/a.png")
        page.get_by_role("button", name="Add", exact=True).click()
        expect(field).to_be_visible()
        field.fill("https://example.com/b/cat.png?size=2")
        assert serious_findings(page) == []
        page.keyboard.press("Enter")
        card = page.locator("#feed .card").first
        expect(card.locator(".caption")).to_have_text("the address leads to a private place")
        expect(card.locator(".name")).to_have_text("cat.png")
        page.evaluate(_PASTE, "http://example.com/dog.png")
        pasted = page.locator("#feed .card", has=page.locator(".name", has_text="dog.png"))
        expect(pasted.locator(".caption")).to_contain_text("private")
        page.evaluate(_PASTE, "words, no address")
        page.get_by_role("button", name="Add an image by its address").click()
        field.fill("https://example.com/cancelled.png")
        page.get_by_role("button", name="Cancel").click()
        expect(field).to_be_hidden()
        assert overflow_px(page) == 0
    assert sent == ['{"uri":"https://example.com/b/cat.png?size=2"}', '{"uri":"http://example.com/dog.png"}']


def test_a_list_that_comes_late_takes_no_new_card_away(browser: Browser, gallery: str) -> None:
    """The list was asked for before a person added an image; the card with the refusal stays above the list."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with tab(browser, gallery) as page:
        page.route("**/api/captions", lambda route: route.fulfill(status=422, json={"detail": "a private place"}))
        page.route("**/parts/feed?*", hold)
        page.goto("/")
        with page.expect_request("**/parts/feed?*"):
            page.get_by_label("Search captions").fill("dog")
        page.evaluate(_PASTE, "http://example.com/dog.png")
        expect(page.locator("#feed .caption").first).to_have_text("a private place")
        held[0].continue_()
        expect(page.locator("#feed .caption")).to_have_text(["a private place", "a dog that is gone"])


def test_a_list_that_comes_late_takes_no_new_row_away(browser: Browser, gallery: str, database: Database) -> None:
    """The list was read before the row was made, and arrives after the row's card."""
    late = ObjectVersion("drops", "late.png", 1)
    streams: list[Route] = []
    lists: list[Route] = []

    def hold(route: Route) -> None:
        (streams if route.request.url.endswith("/api/events") else lists).append(route)

    with tab(browser, gallery) as page:
        page.route("**/api/events", hold)
        with page.expect_request("**/api/events"):
            page.goto("/")
        old = page.request.get("/parts/feed").text()
        page.route("**/parts/feed", hold)
        with database.transaction() as connection:
            drop(connection, late)
        event = f'event: caption\ndata: {{"id": "{caption_id.encode(late, TASK)}"}}\n\n'
        with page.expect_response("**/parts/live?*"):
            streams[0].fulfill(content_type="text/event-stream", body=event)
        lists[0].fulfill(content_type="text/html", body=old)
        expect(page.locator("#feed .card")).to_have_count(7)
        expect(page.locator("#feed .name", has_text="late.png")).to_be_visible()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_each_page_is_accessible_and_fits(browser: Browser, gallery: str, width: int, dark: bool) -> None:
    """Colours of both schemes have contrast, everything has a name, and nothing is wider than the window."""
    with tab(browser, gallery, width=width, dark=dark) as page:
        for path in (*_PAGES, picture_path(_BOXES, _OBJECTS), picture_path(_BROKEN)):
            page.goto(path)
            page.wait_for_load_state("load")
            assert serious_findings(page) == [], path
            assert overflow_px(page) == 0, path
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (ground == "rgb(16, 18, 20)") is dark


def test_pictures_are_reached_by_keys(browser: Browser, gallery: str) -> None:
    """Arrows move over the grid and from picture to picture; Escape leads back."""
    with tab(browser, gallery) as page:
        page.goto("/")
        page.locator(".card a").first.focus()
        page.keyboard.press("ArrowRight")
        second = page.locator(".card a").nth(1)
        expect(second).to_be_focused()
        name = second.locator(".name").inner_text()
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(name)
        page.keyboard.press("ArrowLeft")
        expect(page.locator("h1")).to_have_text("waiting.png")
        page.keyboard.press("Escape")
        expect(page.locator("#feed .card")).to_have_count(6)


def test_a_search_leads_through_its_own_pictures(browser: Browser, gallery: str) -> None:
    """Older and newer pictures are those of the search, and the way back leads to the search."""
    with tab(browser, gallery) as page:
        page.goto("/?prefix=cat")
        page.locator(".card a").click()
        expect(page.locator("h1")).to_have_text("cat.png")
        assert page.locator("[data-newer], [data-older]").count() == 0
        page.get_by_text("All pictures").click()
        expect(page.locator("#feed .card")).to_have_count(1)
        assert page.url.endswith("/?prefix=cat")


def test_a_person_asks_about_a_box(browser: Browser, gallery: str) -> None:
    """A box drawn on the picture becomes the text of the task; the answer has a page at once."""
    with tab(browser, gallery) as page:
        page.goto(picture_path(_BOXES, _OBJECTS))
        words = page.get_by_label("Text of the task")
        expect(words).to_be_hidden()
        page.get_by_label("Task", exact=True).select_option(label="Text of a region")
        sheet = page.locator("[data-sheet]").bounding_box()
        assert sheet
        page.mouse.move(sheet["x"] + sheet["width"] / 4, sheet["y"] + sheet["height"] / 4)
        page.mouse.down()
        page.mouse.move(sheet["x"] + sheet["width"] / 2, sheet["y"] + sheet["height"] / 2)
        page.mouse.up()
        assert re.fullmatch(r"<loc_2\d\d><loc_2\d\d><loc_[45]\d\d><loc_[45]\d\d>", words.input_value())
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#p-answer h2")).to_have_text("Text of a region")
        expect(page.locator("[data-answer]")).to_have_text("Waiting")
        expect(page.locator("#p-answers li")).to_have_count(2)


def test_a_long_list_scrolls_on_and_stays_small(browser: Browser, gallery: str, connection: Connection) -> None:
    """Parts come as a person scrolls; parts far from the window hold no cards, and come back with theirs."""
    connection.execute(
        text(
            "INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, captioned_at)"
            " SELECT 'drops', n || '.png', n, '<CAPTION>', 'captioned', 'number ' || n, 'demo', now()"
            " FROM generate_series(1, 900) AS n"
        )
    )
    with tab(browser, gallery) as page:
        # The images of these rows are gone; without their requests the test is ten times as fast.
        page.route("**/*.webp", lambda route: route.abort())
        page.goto("/")
        while (count := page.locator(".part").count()) < 9:
            page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
            expect(page.locator(".part")).not_to_have_count(count)
        expect(page.locator(".part[data-away]")).not_to_have_count(0)
        assert page.locator(".card").count() < 8 * 60
        height = page.evaluate("document.documentElement.scrollHeight")
        page.evaluate("scrollTo(0, document.querySelectorAll('.part')[2].offsetTop)")
        third = page.locator(".part").nth(2)
        expect(third.locator(".card")).to_have_count(60)
        assert third.locator(".caption").first.inner_text() == "number 780"
        assert abs(page.evaluate("document.documentElement.scrollHeight") - height) < 200


def test_a_refused_stream_is_opened_again(browser: Browser, gallery: str) -> None:
    """The gallery of this module does not listen to Postgres, as in an outage: the browser alone would give up."""
    with tab(browser, gallery) as page:
        with page.expect_response("**/api/events") as first:
            page.goto("/")
        assert first.value.status == 503
        with page.expect_response("**/api/events"):
            pass
