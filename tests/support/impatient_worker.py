"""A worker with failpoints that checks its connections to Redis every second; the real interval is 10 s."""

import sys

from dropline.broker import configuration
from tests.support.failpoint_worker import main

if __name__ == "__main__":
    configuration._HEALTH_CHECK_S = 1
    sys.exit(main())
