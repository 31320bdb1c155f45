"""The pages of the gallery: what they show, that texts stay texts, and who may see them."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from db import attempts, object_rows
from db.session import Database
from dropline import caption_id
from dropline.contract import Dimensions, ObjectVersion, TaskPrompt, TaskRequest
from dropline.demo_model import DEMO_NOTICE
from dropline.errors import StorageUnavailable
from gallery.access import TOKEN_COOKIE, Scope, TokenEntry, digest_of
from tests.support.image_files import RED, encode
from tests.support.page_rig import Objects, page_client
from tests.support.rows import G1, G2, TASK, a_caption, caption_object, drop, fail_object, record, take

_EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
_OBJECTS = TaskRequest(TaskPrompt.OD)


@pytest.fixture
def objects() -> Objects:
    """The bucket."""
    return Objects()


@pytest.fixture
def client(database: Database, tmp_path: Path, objects: Objects) -> Iterator[TestClient]:
    """A client of a gallery that is open to the machine."""
    with page_client(database, tmp_path, objects) as found:
        yield found


def shown(client: TestClient, path: str, status: int = 200) -> str:
    """The HTML of a page."""
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def names_in(html: str) -> list[str]:
    """The names below the pictures of a list."""
    return [unescape(name) for name in re.findall(r'<span class="name" title="([^"]*)"', html)]


def an_object(name: str, generation: int = 1) -> ObjectVersion:
    """An object version."""
    return ObjectVersion("drops", name, generation)


def address_of(version: ObjectVersion, task: TaskRequest = TASK) -> str:
    """The page of a row."""
    return f"/pictures/{caption_id.encode(version, task)}"


def test_an_empty_gallery_says_how_to_begin(client: TestClient) -> None:
    """The bucket is named."""
    assert "gsutil cp photo.jpg gs://drops/" in shown(client, "/")


def test_the_list_is_newest_first_and_goes_on(client: TestClient, database: Database) -> None:
    """Each picture is on one of two parts, and the second part is the last."""
    for number in range(70):
        caption_object(database, an_object(f"{number}.png"))
    first = shown(client, "/")
    older = re.search(r'href="(/\?cursor=\d+)" data-more', first)
    assert older
    second = shown(client, older[1])
    names = names_in(first) + names_in(second)
    assert names == [f"{number}.png" for number in reversed(range(70))]
    assert "data-more" not in second
    part = re.search(r'data-next="(\d+)"', first)
    assert part
    assert names_in(shown(client, f"/parts/feed?cursor={part[1]}")) == names_in(second)


def test_words_and_filters_are_kept_in_addresses(client: TestClient, database: Database) -> None:
    """A search of a person is the list that the person sees, with the form filled in."""
    caption_object(database, an_object("a/cat.png"), "a cat")
    caption_object(database, an_object("b/dog.png"), "a dog")
    fail_object(database, an_object("a/broken.png"), "corrupt_image", "damaged")
    assert names_in(shown(client, "/?q=cat")) == ["a/cat.png"]
    assert names_in(shown(client, "/?prefix=a/&status=failed")) == ["a/broken.png"]
    page = shown(client, "/?prefix=a/&q=cat")
    assert 'name="prefix" value="a/"' in page
    assert 'name="q" value="cat"' in page
    assert "No picture matches" in shown(client, "/?q=zebra")


def test_texts_stay_texts(client: TestClient, database: Database) -> None:
    """Names, captions, labels, errors and values of addresses are escaped on every page."""
    version = an_object(f"x/{_EVIL}")
    with database.transaction() as connection:
        claim = take(connection, drop(connection, version, _OBJECTS))
        caption = a_caption(_EVIL, {"bboxes": [[1, 2, 3, 4]], "labels": [_EVIL]})
        assert attempts.record_caption(
            connection, claim, caption, Dimensions(9, 9), size_bytes=9, write_back_lease_s=None
        ).held
    fail_object(database, an_object("y.png"), "corrupt_image", _EVIL)
    pages = ("/", "/failures", address_of(version, _OBJECTS), f"/?q={_EVIL}&prefix={_EVIL}&model={_EVIL}")
    for path in pages:
        html = shown(client, path)
        assert "alert(1)" in html, path
        assert "<script>alert" not in html
        assert "<img src=x" not in html


def test_a_page_has_no_inline_script_or_style(client: TestClient, database: Database) -> None:
    """The policy forbids both, so a page with one would be broken."""
    caption_object(database, G1)
    for path in ("/", "/failures", address_of(G1)):
        html = shown(client, path)
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", html)
        policy = client.get(path).headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy


def test_the_demo_model_says_what_it_can(client: TestClient, database: Database) -> None:
    """On the list and on the picture; the captions of tests are those of the demo model."""
    assert DEMO_NOTICE not in shown(client, "/failures")
    caption_object(database, G1)
    assert DEMO_NOTICE in shown(client, address_of(G1))


def test_a_question_without_an_answer_has_the_notice_too(client: TestClient, database: Database) -> None:
    """Its row has no model yet: the model is that in use."""
    caption_object(database, G1)
    with database.transaction() as connection:
        drop(connection, G1, _OBJECTS)
    assert DEMO_NOTICE in shown(client, address_of(G1, _OBJECTS))


def test_a_question_that_has_no_answer_yet_is_selected(
    client: TestClient, database: Database, objects: Objects
) -> None:
    """A task that exists already for the object version is not offered first."""
    objects.contents[G1] = b"an image"
    caption_object(database, G1)
    assert '<option value="&lt;DETAILED_CAPTION&gt;" data-needs="nothing" selected>' in shown(
        client, address_of(G1)
    )
    with database.transaction() as connection:
        for task in (TaskPrompt.DETAILED_CAPTION, TaskPrompt.MORE_DETAILED_CAPTION, TaskPrompt.OCR):
            drop(connection, G1, TaskRequest(task))
    html = shown(client, address_of(G1))
    assert '<option value="&lt;OD&gt;" data-needs="nothing" selected>' in html
    assert html.count(" selected>") == 1


def a_picture_with_boxes(database: Database, version: ObjectVersion) -> str:
    """The page of a captioned row with one box."""
    with database.transaction() as connection:
        claim = take(connection, drop(connection, version, _OBJECTS))
        caption = a_caption("cat", {"bboxes": [[10, 20, 110, 220]], "labels": ["cat"]})
        attempts.record_caption(
            connection, claim, caption, Dimensions(640, 480), size_bytes=9, write_back_lease_s=None
        )
    return address_of(version, _OBJECTS)


#: Parts of the page that need the object, or its picture.
_OF_THE_OBJECT = ("/ask", "/original")
_OF_THE_PICTURE = ('<svg class="regions"', "data-toggle-regions", "view.webp")


def test_a_picture_whose_object_is_gone_offers_nothing(client: TestClient, database: Database) -> None:
    """No event told of the deletion, so the row is a captioned one; the answer can still be read."""
    html = shown(client, a_picture_with_boxes(database, G1))
    assert "The object is gone" in html
    assert [part for part in (*_OF_THE_OBJECT, *_OF_THE_PICTURE) if part in html] == []
    assert "data-answer>cat<" in html


def test_a_copy_of_a_gone_object_is_shown_as_a_copy(
    client: TestClient, database: Database, objects: Objects
) -> None:
    """With its boxes; the object cannot be asked about or downloaded."""
    page = a_picture_with_boxes(database, G1)
    objects.contents[G1] = encode(Image.new("RGB", (640, 480), RED), "PNG")
    assert [part for part in (*_OF_THE_OBJECT, *_OF_THE_PICTURE) if part not in shown(client, page)] == []
    assert client.get(f"{page}/view.webp").status_code == 200
    del objects.contents[G1]
    html = shown(client, page)
    assert "this is a copy of the gallery" in html
    assert [part for part in _OF_THE_PICTURE if part not in html] == []
    assert [part for part in _OF_THE_OBJECT if part in html] == []


def test_without_an_answer_of_the_bucket_a_picture_is_whole(
    client: TestClient, database: Database, objects: Objects
) -> None:
    """An outage of Cloud Storage hides no form: the object may be there."""
    objects.contents[G1] = StorageUnavailable("503")
    html = shown(client, a_picture_with_boxes(database, G1))
    assert [part for part in (*_OF_THE_OBJECT, *_OF_THE_PICTURE) if part not in html] == []


def test_what_fails_again_is_not_offered_again(client: TestClient, database: Database, objects: Objects) -> None:
    """The same bytes fail again, and an object that is gone ends as deleted; the advice is another one."""
    objects.contents = {G1: b"an image", an_object("b.png"): b"an image"}
    fail_object(database, G1, "truncated_image", "the end of the JPEG is missing")
    fail_object(database, an_object("b.png"), "worker_lost", "killed")
    assert "Try again" not in shown(client, address_of(G1))
    assert "Try again" in shown(client, address_of(an_object("b.png")))
    html = shown(client, "/failures")
    assert (html.count("Try again"), html.count("Try it again")) == (1, 1)
    objects.contents.clear()
    assert "Try again" not in shown(client, address_of(an_object("b.png")))


def test_a_picture_has_its_answers_generations_and_boxes(
    client: TestClient, database: Database, objects: Objects
) -> None:
    """Each other row of the object is a link, and a box is a polygon in pixels of the original."""
    objects.contents[G2] = b"an image"
    caption_object(database, G1, "the first generation")
    with database.transaction() as connection:
        record(connection, take(connection, drop(connection, G2)), "the second generation")
        claim = take(connection, drop(connection, G2, _OBJECTS))
        caption = a_caption("cat", {"bboxes": [[10, 20, 110, 220]], "labels": ["cat"]})
        assert attempts.record_caption(
            connection, claim, caption, Dimensions(640, 480), size_bytes=9, write_back_lease_s=None
        ).held
    html = shown(client, address_of(G2, _OBJECTS))
    for other in (address_of(G1), address_of(G2)):
        assert f'href="{other}"' in html
    assert 'viewBox="0 0 640 480"' in html
    assert '<polygon points="10,20 110,20 110,220 10,220"/>' in html
    assert "the second generation" in html


def test_a_failed_picture_says_why_and_what_to_do(client: TestClient, database: Database) -> None:
    """On its page and in the view of failures, by error code."""
    fail_object(database, G1, "truncated_image", "the end of the JPEG is missing")
    for path in (address_of(G1), "/failures", "/failures?code=truncated_image"):
        html = shown(client, path)
        assert "the end of the JPEG is missing" in html
        assert "Upload a good copy of the image." in html
    assert names_in(shown(client, "/?status=failed")) == ["a.jpg"]
    assert 'class="why"' in shown(client, "/failures?code=truncated_image")
    assert 'class="why"' not in shown(client, "/failures?code=other")


def test_a_deleted_picture_has_no_image(client: TestClient, database: Database) -> None:
    """The words say it; no address of an image would be broken."""
    caption_object(database, G1)
    with database.transaction() as connection:
        object_rows.tombstone(connection, G1)
    html = shown(client, address_of(G1))
    assert "The object is gone" in html
    assert "<img" not in html
    assert "The object is gone" in shown(client, "/?status=deleted")


def test_live_cards_follow_the_filters(client: TestClient, database: Database) -> None:
    """The script sends ids of changed rows, and gets the cards that belong to its list."""
    caption_object(database, G1, "a cat")
    key = caption_id.encode(G1, TASK)
    for query, count in (("", 1), ("&q=cat", 1), ("&q=dog", 0), ("&status=failed", 0)):
        html = shown(client, f"/parts/live?id={key}{query}")
        assert html.count('class="card"') == count
        assert 'id="strip"' in html


@pytest.mark.parametrize(
    "path", ["/pictures/nothing", "/pictures/AAAA/original", "/static/0/no.js", "/static/0/cards.py"]
)
def test_what_does_not_exist_is_not_found(client: TestClient, path: str) -> None:
    """As a page for people."""
    assert "Not found" in shown(client, path, 404)


def test_an_unknown_address_is_a_page_for_browsers_and_a_problem_for_programs(client: TestClient) -> None:
    """Below `/api/` always a problem."""
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = client.get("/nowhere", headers=browser)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "this address belongs to no page" in page.text
    for path, headers in (("/api/nowhere", browser), ("/nowhere", {})):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "not_found"
        assert "/openapi.json lists the routes" in answer.json()["detail"]
    method = client.put("/api/captions")
    assert (method.status_code, "/openapi.json lists the methods" in method.json()["detail"]) == (405, True)


def test_static_files_have_fixed_types_and_stay_in_caches(client: TestClient) -> None:
    """An address has the digest of the contents, so that a new release has new addresses."""
    page = shown(client, "/")
    for pattern, kind in (
        (r'src="([^"]*gallery\.js)"', "text/javascript"),
        (r'href="([^"]*gallery\.css)"', "text/css"),
    ):
        found = re.search(pattern, page)
        assert found
        answer = client.get(found[1])
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.get(re.sub(r"/static/\w+", "/static/0", found[1])).headers["cache-control"] == "no-cache"


def test_with_tokens_a_browser_logs_in(database: Database, tmp_path: Path) -> None:
    """Without a token each page leads to the login; a wrong token stays there; no script can read the cookie."""
    entry = TokenEntry("ann", frozenset({Scope.READ}), digest_of("right"))
    with page_client(database, tmp_path, Objects(), (entry,)) as client:
        refused = client.get("/failures")
        assert (refused.status_code, refused.headers["location"]) == (303, "/login?next=/failures")
        assert "needs a token" in shown(client, "/login")
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
        entered = client.post("/login", data={"token": "right", "next": "/failures"})
        assert (entered.status_code, entered.headers["location"]) == (303, "/failures")
        cookie = entered.headers["set-cookie"]
        assert TOKEN_COOKIE in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie
        assert "Nothing has failed" in shown(client, "/failures")
        client.post("/logout")
        client.cookies.clear()
        assert client.get("/").status_code == 303


def test_the_cookie_of_a_withdrawn_token_leads_to_the_login(database: Database, tmp_path: Path) -> None:
    """And is deleted; the same token in a header, which no person can correct, is an error."""
    entry = TokenEntry("ann", frozenset({Scope.READ}), digest_of("right"))
    with page_client(database, tmp_path, Objects(), (entry,)) as client:
        answer = client.get("/failures", headers={"cookie": f"{TOKEN_COOKIE}=withdrawn"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/failures")
        assert f'{TOKEN_COOKIE}="";' in answer.headers["set-cookie"]
        assert client.get("/failures", headers={"authorization": "Bearer withdrawn"}).status_code == 401


def test_behind_a_proxy_with_https_the_cookie_is_sent_by_https_alone(database: Database, tmp_path: Path) -> None:
    """The proxy ends TLS: the request arrives by HTTP, with the Origin of the browser."""
    entry = TokenEntry("ann", frozenset({Scope.READ}), digest_of("right"))
    with page_client(database, tmp_path, Objects(), (entry,)) as client:
        headers = {"origin": f"https://{client.base_url.host}"}
        entered = client.post("/login", data={"token": "right"}, headers=headers)
        assert "Secure" in entered.headers["set-cookie"]


@pytest.mark.parametrize(
    "then", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_login_leads_to_no_other_site(database: Database, tmp_path: Path, then: str) -> None:
    """An address that a stranger made ends at the list."""
    entry = TokenEntry("ann", frozenset({Scope.READ}), digest_of("right"))
    with page_client(database, tmp_path, Objects(), (entry,)) as client:
        assert client.post("/login", data={"token": "right", "next": then}).headers["location"] == "/"
