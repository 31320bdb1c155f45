"""A long table, the reads of the gallery's page, and the plans of Postgres for these reads."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, event

from db import reads, search
from db.search import Search
from dropline.contract import Status

PART = 60
_SHOWN = (Status.QUEUED, Status.RUNNING, Status.CAPTIONED, Status.FAILED)

#: Two in a hundred rows failed, one in a hundred waits; one word in a thousand captions is rare.
_FILL = """
    INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, captioned_at, queued_at,
                          error_code, error, width, height, attempts)
    SELECT 'drops', 'holiday/' || n %% 300 || '/IMG_' || n || '.jpg', n,
           CASE WHEN n %% 50 = 0 THEN '<OD>' ELSE '<CAPTION>' END,
           CASE WHEN n %% 100 < 2 THEN 'failed' WHEN n %% 100 = 2 THEN 'queued' ELSE 'captioned' END,
           CASE WHEN n %% 100 > 2 THEN 'a ' || (ARRAY['red', 'green', 'blue', 'white'])[1 + n %% 4] || ' '
                || (ARRAY['dog', 'cat', 'house', 'boat', 'tree'])[1 + n %% 5] || ' number ' || n
                || CASE WHEN n %% 1000 = 500 THEN ' beside an armadillo' ELSE '' END END,
           CASE WHEN n %% 100 > 2 THEN CASE WHEN n < 100 THEN 'old-model' ELSE 'microsoft/Florence-2-base' END END,
           CASE WHEN n %% 100 > 2 THEN now() - make_interval(secs => %(rows)s - n) END,
           now() - make_interval(secs => %(rows)s - n),
           CASE WHEN n %% 100 < 2 THEN 'corrupt_image' END, CASE WHEN n %% 100 < 2 THEN 'the file is damaged' END,
           400, 300, 1
    FROM generate_series(1, %(rows)s) AS n
"""


@dataclass(frozen=True)
class Plan:
    """One statement, as Postgres ran it."""

    #: Kind and table or index of each node, such as `Index Scan captions_pkey`.
    nodes: list[str]
    execution_ms: float
    #: Most rows that a node read, with those that a filter removed.
    rows_read: int

    @property
    def scans_captions(self) -> bool:
        """Whether the statement reads the whole table `captions`."""
        return "Seq Scan captions" in self.nodes

    @property
    def indexes(self) -> list[str]:
        """The indexes the statement uses."""
        return [node.rpartition(" ")[2] for node in self.nodes if "Index" in node]


def fill(superuser: psycopg.Connection[Any], rows: int) -> None:
    """Insert rows into an empty table, the oldest first, one a second until now."""
    superuser.execute(_FILL, {"rows": rows})
    superuser.execute("VACUUM ANALYZE captions, caption_search")


def page_queries(connection: Connection, rows: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """The reads of the page, by name."""
    searches = {
        "the newest": (Search(statuses=_SHOWN), None),
        "the middle of the list": (Search(statuses=_SHOWN), rows // 2),
        "the end of the list": (Search(statuses=_SHOWN), 100),
        "a frequent word": (Search("dog", _SHOWN), None),
        "a rare word": (Search("armadillo", _SHOWN), None),
        "the beginning of a word": (Search("armad", _SHOWN), None),
        "a part of a word": (Search("madill", _SHOWN), None),
        "a word that no caption has": (Search("zebra", _SHOWN), None),
        "two words and a filter": (Search("red armadillo", _SHOWN, task="<CAPTION>"), None),
        "status failed": (Search(statuses=(Status.FAILED,)), None),
        "status queued": (Search(statuses=(Status.QUEUED,)), None),
        "status deleted, no row": (Search(statuses=(Status.DELETED,)), None),
        "a rare task": (Search(statuses=_SHOWN, task="<OD>"), None),
        "a task of no row": (Search(statuses=_SHOWN, task="<OCR>"), None),
        "a model of the oldest rows alone": (Search(statuses=_SHOWN, model="old-model"), None),
        "a frequent prefix": (Search(statuses=_SHOWN, prefix="holiday/"), None),
        "a rare prefix": (Search(statuses=_SHOWN, prefix="holiday/17/"), None),
        "a prefix of no row": (Search(statuses=_SHOWN, prefix="work/"), None),
    }
    for name, (wanted, before) in searches.items():
        yield name, partial(search.newest, connection, wanted, before, PART + 1)
    yield (
        "the newer and the older picture",
        lambda: search.neighbours(connection, Search(statuses=_SHOWN), rows // 2),
    )
    yield "the same among a rare word's", lambda: search.neighbours(connection, Search("armadillo"), rows // 2)
    yield (
        "the same where no caption has the word",
        lambda: search.neighbours(connection, Search("zebra", _SHOWN), rows // 2),
    )
    yield "the versions of an object", lambda: reads.rows_of_object(connection, "drops", "holiday/1/IMG_1.jpg")
    yield "the numbers of the strip", lambda: search.traffic(connection)
    yield "the models of the filter", lambda: search.recent_models(connection)
    yield "the groups of failures", lambda: reads.failures(connection)


def plans_of(connection: Connection, call: Callable[[], object]) -> list[Plan]:
    """Run a call that reads through the connection, and each of its statements once more under EXPLAIN ANALYZE."""
    statements: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", keep)
    try:
        call()
    finally:
        event.remove(connection, "before_cursor_execute", keep)
    return [_explain(connection, statement, parameters) for statement, parameters in statements]


def nested_plans_of(connection: Connection, call: Callable[[], object]) -> list[Plan]:
    """Run a call, and read the plans of all its statements, those inside of functions included.

    The extension auto_explain reports them as notices; only a superuser may load it.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    found: list[str] = []

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        found.append(notice.message_primary or "")

    raw.execute("LOAD 'auto_explain'")
    raw.add_notice_handler(keep)
    try:
        _report_plans(raw, "0")
        call()
    finally:
        _report_plans(raw, "-1")
        raw.remove_notice_handler(keep)
    documents = [json.loads(text.partition("plan:")[2]) for text in found if "plan:" in text]
    # The duration is that of the whole statement.
    return [_plan(document["Plan"], document["Plan"]["Actual Total Time"]) for document in documents]


def _report_plans(raw: psycopg.Connection[Any], min_duration: str) -> None:
    options = {
        "log_analyze": "on",
        "log_nested_statements": "on",
        "log_format": "json",
        "log_level": "notice",
        "log_min_duration": min_duration,
    }
    for name, value in options.items():
        raw.execute("SELECT set_config('auto_explain.' || %s, %s, false)", (name, value))


def _explain(connection: Connection, statement: str, parameters: Any) -> Plan:
    explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    found = connection.exec_driver_sql(explained, parameters).scalar_one()
    (document,) = json.loads(found) if isinstance(found, str) else found
    return _plan(document["Plan"], document["Execution Time"])


def _plan(root: dict[str, Any], milliseconds: float) -> Plan:
    nodes = list(_nodes(root))
    return Plan([_name(node) for node in nodes], float(milliseconds), max(map(_rows_read, nodes)))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in node.get("Plans", ()):
        yield from _nodes(part)


def _name(node: dict[str, Any]) -> str:
    place = node.get("Index Name") or node.get("Relation Name") or ""
    return f"{node['Node Type']} {place}".strip()


def _rows_read(node: dict[str, Any]) -> int:
    return int(node["Actual Rows"]) + int(node.get("Rows Removed by Filter", 0))
