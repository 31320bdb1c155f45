"""Tables that a script writes into a page whose other text people write.

A table stands between `<!-- table NAME -->` and `<!-- end NAME -->`, each alone on its line.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.inputs import InputError

_BEGIN = re.compile(r"^<!-- table ([a-z-]+) -->$", re.MULTILINE)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first are aligned right where their head ends with a colon."""
    names = [name.removesuffix(":") for name in head]
    rules = ["---:" if name.endswith(":") else "---" for name in head]
    lines = [names, rules, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(_line(cells, separator=line == 1) for line, cells in enumerate(lines))


def _line(cells: Sequence[str], *, separator: bool) -> str:
    return f"|{'|'.join(cells)}|" if separator else f"| {' | '.join(cells)} |"


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """The page with every table made anew.

    Raises:
        InputError: the page and `tables` do not have the same tables, or one has no end.
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
            raise InputError(f"the table {name} has no end: write <!-- end {name} --> below it")
        page = f"{before}{begin}{table}{end}{after}"
    return page


def update(path: Path, tables: Mapping[str, str]) -> None:
    """Write the page's tables anew.

    Raises:
        InputError: see `with_tables`; or the page cannot be read.
    """
    try:
        page = path.read_text()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give the path of the page whose tables are to be made"
        ) from None
    try:
        path.write_text(with_tables(page, tables))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
