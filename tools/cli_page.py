"""Writes the option tables of docs/cli.md from the commands themselves.

python -m tools.cli_page
"""

import enum
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperOption

from cli.main import COMMANDS, app, load_command
from tools.generated_tables import markdown_table, update

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"


def tables() -> dict[str, str]:
    """Option tables in Markdown: one of `dropline` itself, and one per command under its name."""
    commands = {"dropline": typer.main.get_command(app)} | {name: load_command(name) for name in COMMANDS}
    return {
        name: markdown_table(
            ("option", "default", "meaning"),
            [list(_cells(option)) for option in command.params if isinstance(option, TyperOption)],
        )
        for name, command in commands.items()
    }


def _cells(option: TyperOption) -> Iterator[str]:
    yield " / ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    yield _default(option)
    yield option.help or ""


def _default(option: TyperOption) -> str:
    value = option.default
    if isinstance(value, bool):
        return f"`{option.secondary_opts[0]}`" if option.secondary_opts else ""
    if isinstance(value, enum.Enum):
        value = value.value
    return "" if value in (None, "") or callable(value) else f"`{value}`"


if __name__ == "__main__":
    update(PAGE, tables())
