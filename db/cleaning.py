"""Pure: text that Postgres cannot hold, made into text that it can."""

from typing import Any


def clean_json(value: Any) -> Any:
    """The same for every text of a JSON document: jsonb refuses what text refuses."""
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(key): clean_json(item) for key, item in value.items()}
        case list():
            return [clean_json(item) for item in value]
        case _:
            return value


def clean(value: str | None) -> str | None:
    """Postgres's text has no NUL and no lone surrogate."""
    if value is None:
        return None
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
