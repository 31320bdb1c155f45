"""The page `docs/settings.md`, made from the settings.

python -m tools.settings_page > docs/settings.md
"""

import json
import sys
from collections.abc import Iterator
from itertools import groupby

from pydantic import SecretStr

from dropline.settings import PREFIX, Settings, variables

_INTRODUCTION = """\
# Settings

Every setting is a variable of the environment, read once when a process starts; a wrong value or a misspelt name
stops it with an error that names the variable. Lists and maps are JSON: `DROPLINE_EVENTS__BUCKETS='["drops"]'`.
After `source .local/env` a shell has those that reach the stack `dropline up` started.

This page is made by `make settings-page` from `dropline/settings.py`.
"""
_TABLE_HEAD = "| variable | default | meaning |\n|---|---|---|"


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for group, rows in groupby(variables(), key=lambda row: _group_of(row[0])):
        yield f"## {group or 'Everywhere'}\n"
        if group:
            yield f"{_summary(group)}\n"
        yield _TABLE_HEAD
        yield from (f"| `{name}` | {_default(value)} | {_cell(meaning)} |" for name, value, meaning in rows)
        yield ""


def _group_of(variable: str) -> str:
    group, separator, _ = variable.removeprefix(PREFIX).partition("__")
    return group.lower() if separator else ""


def _summary(group: str) -> str:
    return (type(Settings.model_fields[group].default).__doc__ or "").strip()


def _default(value: object) -> str:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if plain == "":
        return "empty"
    return f"`{_cell(plain if isinstance(plain, str) else json.dumps(plain))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
