"""`python -m migrations`: migrate the database of DROPLINE_DATABASE__URL to the newest revision."""

from dropline.settings import load_settings, require
from migrations.run import run_and_exit, upgrade


def main() -> None:
    """Run the migrations of the environment's database."""
    upgrade(require(load_settings().database.url, "DROPLINE_DATABASE__URL"))


if __name__ == "__main__":
    run_and_exit(main)
