"""The query of the list of pictures, as it stands in addresses. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from db.search import Search
from dropline.contract import Status, TaskPrompt

#: States that the list has without a filter: an overwritten or deleted picture is found by the filter alone.
_SHOWN = (Status.QUEUED, Status.RUNNING, Status.CAPTIONED, Status.FAILED)
#: Value of `order`.
BEST_FIRST = "best"
_MAX_TEXT = 1024
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Search words, filters, and the place in the list. Values that no row can have are left out."""

    q: str = ""
    status: str = ""
    task: str = ""
    model: str = ""
    prefix: str = ""
    #: Of the failures.
    code: str = ""
    #: `best`: the best matches of the words first; empty: the newest rows first.
    order: str = ""
    #: Id of the row after which the list goes on; empty: the newest rows.
    cursor: str = ""

    @classmethod
    def read(cls, values: Mapping[str, str]) -> "PageQuery":
        """From the query of a request."""
        known = {name: values.get(name, "").strip()[:_MAX_TEXT] for name in cls.__dataclass_fields__}
        if known["status"] not in set(Status):
            known["status"] = ""
        if known["order"] != BEST_FIRST:
            known["order"] = ""
        known["task"] = TaskPrompt.named(known["task"]) or ""
        if not (known["cursor"].isascii() and known["cursor"].isdigit() and int(known["cursor"]) <= _LARGEST_ID):
            known["cursor"] = ""
        return cls(**known)

    @property
    def is_filtered(self) -> bool:
        """Whether the list has words or a filter."""
        return replace(self, cursor="") != PageQuery()

    @property
    def is_ranked(self) -> bool:
        """Whether the best matches come first: one part, without older ones."""
        return self.order == BEST_FIRST and bool(self.q)

    @property
    def before(self) -> int | None:
        """Rows have smaller ids than this; None: all rows."""
        return int(self.cursor) if self.cursor else None

    def search(self) -> Search:
        """The search in the table."""
        return Search(
            words=self.q,
            statuses=(Status(self.status),) if self.status else _SHOWN,
            task=self.task,
            prefix=self.prefix,
            model=self.model,
            error_code=self.code,
        )

    def url(self, path: str, cursor: str = "") -> str:
        """The address of this query, at another place in the list."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__} | {"cursor": cursor}
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{path}?{query}" if query else path

    def without_words(self) -> list[tuple[str, str]]:
        """The filters as names and values."""
        names = ("status", "task", "model", "prefix", "order")
        return [(name, getattr(self, name)) for name in names if getattr(self, name)]
