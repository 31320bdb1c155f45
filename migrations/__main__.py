"""`python -m migrations`: bring the database of DROPLINE_DATABASE__URL up to date."""

from dropline.settings import load_settings, require
from migrations.run import upgrade

if __name__ == "__main__":
    upgrade(require(load_settings().database.url, "DROPLINE_DATABASE__URL"))
