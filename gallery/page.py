"""The page: HTML made on the server. Lists, cards and numbers are also served alone, for the script."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from db import edits, history, reads, search, workers
from db.reads import CaptionRecord
from dropline import caption_id
from dropline.contract import ObjectVersion, Status, TaskPrompt, TaskRequest
from dropline.demo_model import demo_notice
from dropline.errors import InvalidCaptionId
from dropline.images.renditions import Rendition
from gallery.access import Scope, requires
from gallery.cards import cards_of
from gallery.memo import Memo
from gallery.page_query import PageQuery
from gallery.page_route import EMPTY_FRAME, NoSuchPage, page_route
from gallery.picture_view import Rest, failure_of, picture_of
from gallery.problems import RETRY_AFTER_S
from gallery.rendering import Pages, load_pages
from gallery.resources import Resources
from gallery.strip import Strip, strip_of
from gallery.words import STATUSES, TASKS, advice_for, is_redrive_offered

#: Cards of a part of the list: whole rows of 2, 3, 4, 5 or 6 columns.
PART = 60
_MAX_IDS = 100
#: The numbers of the strip are read at most once in this time, for all open pages together, in seconds.
_STRIP_AGE_S = 1.0
_MODELS_AGE_S = 60.0
_FOR_EVER = "public, max-age=31536000, immutable"
_Values = dict[str, Any]


def router(resources: Resources) -> APIRouter:
    """The routes of the page, its stylesheet and its script."""
    pages = load_pages()
    routes = APIRouter(include_in_schema=False, route_class=page_route(pages))
    page = Page(resources, pages)
    for path, endpoint in (
        ("/", page.pictures),
        ("/parts/feed", page.feed),
        ("/parts/live", page.live),
        ("/failures", page.failures),
        ("/pictures/{key}", page.picture),
    ):
        routes.add_api_route(path, endpoint, dependencies=[Depends(requires(Scope.READ))])
    routes.add_api_route("/static/{digest}/{name}", page.static)
    return routes


class Page:
    """The routes; each runs in a thread, for its reads of Postgres."""

    def __init__(self, resources: Resources, pages: Pages) -> None:
        self._database = resources.reader
        self._copies = resources.copies
        self._bucket = resources.settings.bucket
        self._pages = pages
        self._strip = Memo(self._read_strip, _STRIP_AGE_S)
        self._models = Memo(self._read_models, _MODELS_AGE_S)
        self._notice = Memo(self._read_notice, _MODELS_AGE_S)

    def pictures(self, request: Request) -> Response:
        """The list of pictures."""
        query = PageQuery.read(request.query_params)
        models = self._models.get()
        values = self._feed_values(query) | {
            "view": "pictures",
            "query": query.q,
            "kept": query.without_words(),
            "notice": self._notice.get(),
            "strip": self._strip.get(),
            "statuses": [(status.value, label) for status, label in STATUSES.items()],
            "tasks": [(task.value, label) for task, label in TASKS.items()],
            "models": models,
            "filters": query,
            "feed_url": query.url("/parts/feed"),
        }
        return self._pages.html("pictures.html", values | _rights(request))

    def feed(self, request: Request) -> Response:
        """A part of the list."""
        return self._pages.html("feed.html", self._feed_values(PageQuery.read(request.query_params)))

    def live(self, request: Request, id: Annotated[list[str], Query(max_length=_MAX_IDS)]) -> Response:  # noqa: A002
        """The strip, and the cards of some ids, as far as they match the query."""
        query = PageQuery.read(request.query_params)
        keys = [(version, str(task)) for version, task in map(decoded, id)]
        with self._database.transaction() as connection:
            rows = search.matching(connection, query.search(), keys)
        return self._pages.html(
            "live.html",
            {"cards_shown": cards_of(rows, query), "strip": self._strip.get(), "notice": self._notice.get()},
        )

    def failures(self, request: Request) -> Response:
        """The failed rows, by error code."""
        query = PageQuery.read({**request.query_params, "status": Status.FAILED.value})
        with self._database.transaction() as connection:
            counts = reads.failures(connection)
            rows = search.newest(connection, query.search(), query.before, PART + 1)
        values = EMPTY_FRAME | {
            "view": "failures",
            "strip": self._strip.get(),
            "groups": [_group(count, query) for count in counts],
            "rows": [_failed(row) for row in rows[:PART]],
            "older_url": query.url("/failures", str(rows[PART - 1].id)) if len(rows) > PART else None,
        }
        return self._pages.html("failures.html", values | _results(request) | _rights(request))

    def picture(self, request: Request, key: str) -> Response:
        """One picture."""
        values = self._picture_values(request, key) | {"refused": None, "attempt": None}
        return self._pages.html("picture.html", values)

    def refused(self, request: Request, key: str, why: str, status: int, caption: str | None = None) -> Response:
        """A picture, after a refused form; a `caption` is still in the form."""
        values = self._picture_values(request, key) | {"refused": why, "attempt": caption}
        response = self._pages.html("picture.html", values, status)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["retry-after"] = str(RETRY_AFTER_S)
        return response

    def row(self, key: str) -> CaptionRecord:
        """The row of an address; raises NoSuchPage."""
        version, task = decoded(key)
        with self._database.transaction() as connection:
            return _row_among(reads.rows_of_object(connection, version.bucket, version.name), version, task)

    def _picture_values(self, request: Request, key: str) -> _Values:
        version, task = decoded(key)
        query = PageQuery.read(request.query_params)
        with self._database.transaction() as connection:
            siblings = reads.rows_of_object(connection, version.bucket, version.name)
            row = _row_among(siblings, version, task)
            neighbours = search.neighbours(connection, query.search(), row.id)
            models = edits.newest_of_model(connection, row.id) if row.edited_by else None
            earlier = history.of_row(connection, row.id)
        view = picture_of(row, siblings, neighbours, query, self._rest_of(row), models, earlier)
        own = {
            "view": "picture",
            # A row without an answer will get that of the worker in use.
            "notice": demo_notice([row.model]) if row.model else self._notice.get(),
            "picture": view,
            "tasks_to_ask": _TASKS_TO_ASK,
            "task_to_ask": _task_to_ask(row, siblings),
        }
        return EMPTY_FRAME | own | _results(request) | _rights(request)

    def _rest_of(self, row: CaptionRecord) -> Rest:
        """No event may have told that the object is gone: the bucket of the local stack ends with the stack."""
        if row.status is Status.DELETED:
            return Rest.NOTHING
        if not self._copies.is_gone(row.version):
            return Rest.OBJECT
        return Rest.COPY if self._copies.is_cached(row.version, Rendition.VIEW) else Rest.NOTHING

    def static(self, digest: str, name: str) -> Response:
        """A file beside the pages."""
        file = self._pages.files.get(name)
        if file is None:
            raise NoSuchPage(f"there is no file {name[:100]!r}")
        return file.response(_FOR_EVER if file.digest == digest else "no-cache")

    def _feed_values(self, query: PageQuery) -> _Values:
        with self._database.transaction() as connection:
            if query.is_ranked:
                rows = search.best(connection, query.search(), PART)
            else:
                rows = search.newest(connection, query.search(), query.before, PART + 1)
        next_cursor = str(rows[PART - 1].id) if len(rows) > PART else None
        return {
            "page": {
                "cards": cards_of(rows[:PART], query),
                "cursor": query.cursor,
                "next_cursor": next_cursor,
                "older_url": query.url("/", next_cursor) if next_cursor else None,
            },
            "is_filtered": query.is_filtered,
            "bucket": self._bucket,
        }

    def _read_strip(self) -> Strip:
        with self._database.transaction() as connection:
            return strip_of(search.traffic(connection), datetime.now(UTC))

    def _read_notice(self) -> str | None:
        """The limits of the model in use, of the latest worker."""
        with self._database.transaction() as connection:
            worker = workers.newest(connection)
        return demo_notice([worker.model] if worker else self._models.get())

    def _read_models(self) -> list[str]:
        with self._database.transaction() as connection:
            return search.recent_models(connection)


def decoded(key: str) -> tuple[ObjectVersion, TaskRequest]:
    try:
        return caption_id.decode(key)
    except InvalidCaptionId:
        raise NoSuchPage("this address belongs to no picture") from None


def _row_among(rows: list[CaptionRecord], version: ObjectVersion, task: TaskRequest) -> CaptionRecord:
    for row in rows:
        if row.version == version and row.task == str(task):
            return row
    raise NoSuchPage("no picture has this address; a picture just uploaded has a page as soon as its row exists")


def _group(count: reads.FailureCount, query: PageQuery) -> _Values:
    advice = advice_for(count.error_code)
    return {
        "code": count.error_code,
        "title": advice.title,
        "count": count.rows,
        "example": count.example,
        "advice": advice.remedy,
        "can_redrive": is_redrive_offered(count.error_code),
        "is_selected": count.error_code == query.code,
        "url": PageQuery(code=count.error_code).url("/failures"),
    }


def _failed(row: CaptionRecord) -> _Values:
    failure = failure_of(row)
    return {
        "card": next(iter(cards_of([row], PageQuery())), None),
        "why": failure and failure.text,
        "failure": failure,
    }


def _results(request: Request) -> _Values:
    """The outcome of a form, from the address of the page after the form."""
    count = request.query_params.get("queued", "")
    said = f"{int(count)} queued again" if count.isascii() and count.isdigit() and len(count) < 10 else None
    if request.query_params.get("saved") == "1":
        said = "Saved. A worker copies the caption to the object’s metadata."
    return {"said": said, "refused": None}


def _rights(request: Request) -> _Values:
    """Which forms the sender may use."""
    scopes = request.state.principal.scopes
    return {"may_submit": Scope.SUBMIT in scopes, "may_edit": Scope.EDIT in scopes}


def _task_to_ask(row: CaptionRecord, siblings: list[CaptionRecord]) -> str:
    """The first task without a row of the object version; the first task of all where each has a row."""
    asked = {TaskRequest.parse(each.task).prompt for each in siblings if each.version == row.version}
    return next((task for task in TASKS if task not in asked), next(iter(TASKS))).value


def _needs(task: TaskPrompt) -> str:
    return "words" if task.takes_text else "region" if task.takes_region else "nothing"


_TASKS_TO_ASK = [{"value": task.value, "label": label, "needs": _needs(task)} for task, label in TASKS.items()]
