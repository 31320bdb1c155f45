"""Texts and JSON documents without the characters that Postgres refuses."""

from typing import Any


def storable_text(value: str | None) -> str | None:
    """The text without NUL and lone surrogates, which Postgres refuses: they become U+FFFD and `?`."""
    if value is None:
        return None
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """A JSON document with `storable_text` applied to every key and text: jsonb has the same limits."""
    match value:
        case str():
            return storable_text(value)
        case dict():
            return {storable_text(key): storable_json(item) for key, item in value.items()}
        case list():
            return [storable_json(item) for item in value]
        case _:
            return value
