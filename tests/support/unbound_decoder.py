"""The control of `hostile_decoder`: the same attempts without a sandbox."""

from unittest import mock

from dropline.images import sandbox
from dropline.images.decoder_process import main
from tests.support.hostile_decoder import hostile

if __name__ == "__main__":
    with mock.patch.multiple(sandbox, enter=frozenset, close=lambda *_: frozenset()):
        main(hostile)
