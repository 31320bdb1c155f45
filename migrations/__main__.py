"""`python -m migrations`: migrate the database of DROPLINE_DATABASE__URL to the newest revision."""

from dropline.settings import load_settings, require
from migrations.run import upgrade

if __name__ == "__main__":
    upgrade(require(load_settings().database.url, "DROPLINE_DATABASE__URL"))
