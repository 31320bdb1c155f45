"""The failpoint worker with hostile decoders: `python -m tests.support.hostile_worker`."""

import sys

from tests.support.failpoint_worker import main

if __name__ == "__main__":
    sys.exit(main(decoder_module="tests.support.hostile_decoder"))
