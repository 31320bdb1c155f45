"""The control of `hostile_decoder`: the same attempts without a sandbox."""

from unittest import mock

from dropline.images import sandbox
from dropline.images.decoder_process import main
from dropline.images.sandbox import Measure
from tests.support.hostile_decoder import hostile

if __name__ == "__main__":
    with mock.patch.multiple(sandbox, enter=lambda: Measure(0), close=lambda *_: Measure(0)):
        main(hostile)
