"""`python -m gallery`: the gallery, set up by the environment alone."""

import sys

from dropline.errors import DroplineError
from dropline.log import configure_logging, get_logger
from gallery.server import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except DroplineError as error:
        # The settings of the log may be wrong, too.
        configure_logging("INFO", "json", "gallery")
        get_logger("gallery").critical("gallery_not_started", code=error.code, error=str(error))
        sys.exit(1)
