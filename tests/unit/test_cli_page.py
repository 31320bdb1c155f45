"""The option tables of docs/cli.md equal the options of the commands."""

from tools.cli_page import PAGE, tables
from tools.generated_tables import with_tables


def test_the_tables_are_made_from_the_commands() -> None:
    """The page equals the generator's output; `make cli-page` updates the page."""
    page = PAGE.read_text()
    assert with_tables(page, tables()) == page


def test_the_tables_have_options_defaults_and_meanings() -> None:
    """Control: the tables have a plain option, a switch with both names, and an option of `dropline` itself."""
    made = tables()
    assert "| `--port-base` | `18400` | First of eight" in made["up"]
    assert "| `--wait` / `--no-wait` | `--no-wait` | " in made["drop"]
    assert "| `--version` |  | Print the version" in made["dropline"]
