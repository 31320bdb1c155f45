"""A decoder process that may fork only a few times: as many as `images_per_decoder` says."""

import errno
import os
import sys
from itertools import count
from unittest import mock

from dropline.images.decoder_process import main
from dropline.settings import ImageSettings

if __name__ == "__main__":
    forks, fork = count(1), os.fork
    most = ImageSettings.model_validate_json(sys.argv[1]).images_per_decoder

    def scarce_fork() -> int:
        """Fork, or fail as on a system without room for another process."""
        if next(forks) > most:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    with mock.patch("os.fork", scarce_fork):
        main()
