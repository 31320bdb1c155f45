"""Images that need much memory take turns: real decoder processes, and children that are killed."""

from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from dropline.contract import Dimensions
from dropline.errors import DecoderUnavailable, ImageRefused
from dropline.images.decoder import DecoderProcess
from dropline.images.turns import DecoderShare, Turns
from dropline.settings import ImageSettings
from tests.support.image_files import encode, halves
from tests.support.processes import children

#: For its process, an image with an alpha channel of 12 megapixels needs more than the share.
_SHARE_BYTES = 20_000_000
_LIMITS = ImageSettings(decode_timeout_s=120)
_SIDE = 32
_fork = get_context("fork")


@pytest.fixture(scope="module")
def large() -> bytes:
    """An image above the share."""
    return encode(halves(4000, 3000), "PNG")


def _hold(turns: Turns, pipe: Connection) -> None:
    with turns.take():
        pipe.send("held")
        pipe.recv()


class _Holder:
    """Another child that holds the turn."""

    def __init__(self, turns: Turns) -> None:
        self.pipe, far = _fork.Pipe()
        self.process = _fork.Process(target=_hold, args=(turns, far))
        self.process.start()
        assert self.pipe.poll(60)
        self.pipe.recv()

    def end(self) -> None:
        """Release the turn by an exit."""
        self.pipe.send("end")
        self.process.join(60)

    def kill(self) -> None:
        """Release the turn by a death."""
        self.process.kill()
        self.process.join(60)


@pytest.fixture
def holder(request: pytest.FixtureRequest) -> Iterator[Callable[[Turns], _Holder]]:
    """Starts a holder, which ends with the test."""
    started: list[_Holder] = []

    def start(turns: Turns) -> _Holder:
        started.append(_Holder(turns))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def test_43_a_large_image_is_decoded_in_its_turn(large: bytes) -> None:
    """Above the share and under the full limit; its process, which has much memory, ends with the turn."""
    share = DecoderShare(_SHARE_BYTES, Turns(0))
    with DecoderProcess(_LIMITS, share=share) as decoder:
        assert decoder.decode(large, _SIDE).dimensions == Dimensions(4000, 3000)
        assert decoder.pid
        assert not children(decoder.pid)
        assert decoder.decode(encode(halves(), "PNG"), _SIDE).dimensions == Dimensions(64, 48)
    limits = ImageSettings(decode_timeout_s=120, child_memory_bytes=_SHARE_BYTES + 1)
    with DecoderProcess(limits, share=share) as decoder, pytest.raises(ImageRefused) as caught:
        decoder.decode(large, _SIDE)
    assert caught.value.code == "out_of_memory"
    assert f"{_SHARE_BYTES + 1} bytes" in str(caught.value)


def test_43_a_large_image_waits_for_another_and_an_ordinary_one_does_not(
    large: bytes, holder: Callable[[Turns], _Holder]
) -> None:
    """While another child decodes a large image, the wait of the next is bounded, and no failure of the image."""
    pauses: list[float] = []
    others: list[_Holder] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            others[0].end()

    turns = Turns(1e9, sleep=pause)
    others.append(holder(turns))
    with DecoderProcess(_LIMITS, share=DecoderShare(_SHARE_BYTES, turns)) as decoder:
        decoder.decode(encode(halves(), "PNG"), _SIDE)
        assert pauses == []
        assert decoder.decode(large, _SIDE).dimensions == Dimensions(4000, 3000)
        assert len(pauses) >= 3
    impatient = Turns(0)
    holder(impatient)
    with (
        DecoderProcess(_LIMITS, share=DecoderShare(_SHARE_BYTES, impatient)) as decoder,
        pytest.raises(DecoderUnavailable, match="need much memory"),
    ):
        decoder.decode(large, _SIDE)


def test_43_a_killed_child_frees_its_turn(holder: Callable[[Turns], _Holder]) -> None:
    """The kernel releases the lock with the process."""
    turns = Turns(0)
    other = holder(turns)
    with pytest.raises(DecoderUnavailable), turns.take():
        pass
    other.kill()
    with turns.take():
        pass
