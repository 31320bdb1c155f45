"""JSON documents of query results: valid by RFC 8259, in ASCII, and without loss of a column or a digit."""

import json
import math
from collections.abc import Iterable, Sequence

from db.read_only import JsonText


def unique_names(columns: Iterable[str]) -> list[str]:
    """The names of columns as the keys of one object: the second `a` becomes `a_2`, the third `a_3`.

    A name that another column has already is passed over: `a, a, a_2` becomes `a, a_3, a_2`.
    """
    columns = list(columns)
    taken = set(columns)
    seen: set[str] = set()
    names = []
    for column in columns:
        name, number = column, 2
        while name in seen or (name in taken and name != column):
            name, number = f"{column}_{number}", number + 1
        seen.add(name)
        names.append(name)
    return names


def rows_as_json(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A JSON array with one object per row and line."""
    keys = [json.dumps(name) for name in unique_names(columns)]
    lines = [
        "  {" + ", ".join(f"{key}: {value_as_json(value)}" for key, value in zip(keys, row, strict=True)) + "}"
        for row in rows
    ]
    return "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"


def value_as_json(value: object) -> str:
    """One value of `db.read_only` as JSON: NaN and infinity are strings, since JSON has no such numbers."""
    match value:
        case JsonText():
            return _ascii(value)
        case list() | tuple():
            return "[" + ", ".join(map(value_as_json, value)) + "]"
        case float() if not math.isfinite(value):
            return json.dumps("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
        case None | bool() | int() | float():
            return json.dumps(value)
        case _:
            return json.dumps(str(value))


def _ascii(text: str) -> str:
    """Characters beyond ASCII occur in JSON only inside strings, where an escape has the same meaning."""
    if text.isascii():
        return text
    return "".join(each if each.isascii() else json.dumps(each)[1:-1] for each in text)
