"""`python -m worker`: a worker, set up by the environment alone."""

import sys

from dropline.errors import DroplineError
from dropline.log import configure_logging, get_logger
from worker.app import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except DroplineError as error:
        # The settings of the log may be the wrong ones.
        configure_logging("INFO", "json", "worker")
        get_logger("worker").critical("worker_not_started", code=error.code, error=str(error))
        sys.exit(1)
