"""Generated tables inside hand-written pages.

A table lies between the lines `<!-- table NAME -->` and `<!-- end NAME -->` of its page.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from tools.inputs import InputError

_BEGIN = re.compile(r"^<!-- table ([a-z-]+) -->$", re.MULTILINE)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a column whose head ends with a colon is aligned right."""
    names = [name.removesuffix(":") for name in head]
    rule = "|".join("---:" if name.endswith(":") else "---" for name in head)
    lines = [_line(names), f"|{rule}|", *(_line([cell.replace("|", "\\|") for cell in row]) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def entries_table(entries: Mapping[str, BaseModel]) -> str:
    """One row per entry of a file of inputs, with its name and its fields."""
    fields = list(type(next(iter(entries.values()))).model_fields)
    rows = [
        [name.replace("_", " "), *(_cell(getattr(entry, field)) for field in fields)]
        for name, entry in entries.items()
    ]
    return markdown_table(["name", *fields], rows)


def _cell(value: object) -> str:
    return f"{value:,.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """The text of a page, with each table replaced.

    Raises:
        InputError: the page and `tables` have different names, or a table has no end.
    """
    found = _BEGIN.findall(page)
    if sorted(found) != sorted(tables):
        raise InputError(
            f"the page has the tables {sorted(found)}, but {sorted(tables)} are made: is it the right page?"
        )
    for name, table in tables.items():
        begin, end = f"<!-- table {name} -->\n", f"\n<!-- end {name} -->"
        before, _, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not ended:
            raise InputError(f"the table {name} has no end: write <!-- end {name} --> below the table")
        page = f"{before}{begin}{table}{end}{after}"
    return page


def update(path: Path, tables: Mapping[str, str]) -> None:
    """Replace the tables of a page.

    Raises:
        InputError: the page cannot be read, or see `with_tables`.
    """
    try:
        page = path.read_text()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the path of the page") from None
    try:
        path.write_text(with_tables(page, tables))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
