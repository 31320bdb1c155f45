"""`python -m worker`: a worker, set up by the environment alone."""

import sys

from dropline.errors import DroplineError
from worker.app import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except DroplineError as error:
        sys.exit(f"dropline worker: {error}")
