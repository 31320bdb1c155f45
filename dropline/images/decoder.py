"""The client of the decoder process, for a worker's child. Imports no decoder.

The decoder process holds no credential and cannot reach one (`dropline.images.sandbox`). Whatever it does, the
child has an answer within the time limit: every read has a deadline, and the process can be killed at any moment.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from dropline.errors import (
    DecoderLost,
    DecoderUnavailable,
    ImageRefused,
    InvalidImage,
    PermanentError,
    TransientError,
)
from dropline.images.decoded import Decoded
from dropline.images.decoder_link import DecoderLink
from dropline.images.decoder_wire import Ended, WrongAnswer
from dropline.images.sandbox import Measure, from_bits
from dropline.images.turns import DecoderShare
from dropline.log import get_logger
from dropline.settings import ImageSettings

log = get_logger(__name__)

#: Signals that a process causes by itself. Another signal comes from outside.
_CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS, signal.SIGTRAP}
)


class DecoderProcess:
    """One child's decoder process: started on first use, and again after every death.

    Not thread-safe: one image at a time. Create after the fork.
    """

    def __init__(
        self,
        settings: ImageSettings,
        *,
        share: DecoderShare | None = None,
        module: str = "dropline.images.decoder_process",
    ) -> None:
        """Start no process yet.

        Args:
            settings: limits on images.
            share: the memory for ordinary images; None: every image may have `child_memory_bytes`.
            module: for `python -m`.
        """
        self._settings = settings
        self._share = share
        self._module = module
        self._link: DecoderLink | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id; None while no process runs."""
        return self._link.pid if self._link else None

    def start(self) -> None:
        """Start the process if none runs; returns at once.

        Raises:
            DecoderUnavailable: the system cannot start a process.
        """
        if self._link is None:
            try:
                self._link = DecoderLink.spawn(self._module, self._settings)
            except OSError as error:
                raise DecoderUnavailable(f"the decoder process cannot be started: {error}") from error

    def measures(self) -> frozenset[Measure]:
        """The active measures of the sandbox; starts the process if none runs.

        Raises:
            DecoderUnavailable: the process does not start.
        """
        self.start()
        assert self._link
        with self._closed_on_error():
            return from_bits(self._link.wait_ready())

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """Decode an image in the decoder process; see `dropline.images.decoding.decode`.

        An image that needs more than the share is decoded again with `child_memory_bytes`, in turn with those of
        other children.

        Args:
            data: bytes of an image file.
            side_px: width and height of the square, in pixels.

        Raises:
            PermanentError: as `decoding.decode`; `decode_timeout`; or `decoder_crashed`, for a process that ended
                by itself or gave a wrong answer.
            DecoderLost: the process was killed from outside.
            DecoderUnavailable: the process does not start, the system refuses a process for images, or the wait
                for the turn was too long.
        """
        if self._share is None:
            return self._decode_within(self._settings.child_memory_bytes, data, side_px)
        try:
            return self._decode_within(self._share.share_bytes, data, side_px)
        except ImageRefused as error:
            if error.code != "out_of_memory":
                raise
        with self._share.turns.take():
            return self._decode_large(data, side_px)

    def close(self) -> None:
        """Kill the process, if any runs; the next image starts another process."""
        link, self._link = self._link, None
        if link:
            link.kill()

    def _decode_large(self, data: bytes, side_px: int) -> Decoded:
        log.info("large_image", size_bytes=len(data))
        decoded = self._decode_within(self._settings.child_memory_bytes, data, side_px)
        # The turn ends after the process, whose heap keeps the memory of its images.
        if self._link:
            self._end(self._link)
        return decoded

    def _decode_within(self, memory_bytes: int, data: bytes, side_px: int) -> Decoded:
        link = self._ready_link(memory_bytes)
        with self._closed_on_error():
            return self._decode(link, data, side_px)

    def _ready_link(self, memory_bytes: int) -> DecoderLink:
        """The link to a decoder process that has a process for images.

        A decoder process that ended, or froze, between two images is replaced once: no image is at fault.
        """
        try:
            return self._prepared_link(memory_bytes)
        except (EOFError, OSError):
            log.warning("decoder_replaced")
        try:
            return self._prepared_link(memory_bytes)
        except (EOFError, OSError) as error:
            raise DecoderUnavailable(f"the decoder process ended before the image: {error}") from error

    def _prepared_link(self, memory_bytes: int) -> DecoderLink:
        self.measures()
        link = self._link
        assert link
        with self._closed_on_error():
            link.prepare(memory_bytes)
        return link

    def _decode(self, link: DecoderLink, data: bytes, side_px: int) -> Decoded:
        try:
            return link.decode(data, side_px)
        except PermanentError:
            # A refused image may be an attack that failed halfway: the next image gets a fresh process.
            self._end(link)
            raise
        except TimeoutError:
            self.close()
            raise self._timeout() from None
        except WrongAnswer as error:
            self.close()
            raise _crashed(f"gave no valid answer ({error})") from None
        except (EOFError, OSError) as error:
            raise self._error_of(self._end(link), error) from None

    def _end(self, link: DecoderLink) -> Ended | None:
        """The report on the end of the process for images; None, and no decoder process is left, if none comes."""
        try:
            return link.end_images()
        except (EOFError, OSError):
            # A report that comes later would be taken for that of another process.
            self.close()
            return None

    def _timeout(self) -> PermanentError:
        limit = f"{self._settings.decode_timeout_s:g} s that DROPLINE_IMAGES__DECODE_TIMEOUT_S allows"
        return ImageRefused(
            f"decoding takes longer than the {limit}: raise it, or save the image again in a simpler form",
            code="decode_timeout",
        )

    def _error_of(self, ended: Ended | None, error: Exception) -> PermanentError | TransientError:
        match ended:
            case None:
                return DecoderLost(f"the decoder process was killed during this image ({type(error).__name__})")
            case Ended(signal.SIGXCPU):
                return self._timeout()
            case Ended(number) if number in _CRASHES:
                return _crashed(f"was ended by signal {number} ({signal.strsignal(number)})")
            case Ended(0, Ended.NOT_STARTED):
                return DecoderUnavailable(
                    "the system refused a process for images: memory or the number of processes is exhausted"
                )
            case Ended(0, Ended.STILL_RUNNING):
                return _crashed("closed its connection")
            case Ended(0, code):
                return _crashed(f"ended with exit code {code}")
            case _:
                return DecoderLost(
                    f"the process that decoded this image was killed by signal {ended.signal}; signal 9 usually "
                    "means that the memory of the machine ran out"
                )

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """Kill the process at a time limit of the task, or any error but a refusal: no old answer is left."""
        try:
            yield
        except PermanentError:
            raise
        except BaseException:
            self.close()
            raise


def _crashed(how: str) -> InvalidImage:
    return InvalidImage(
        f"the process that decoded this image {how}: the file is damaged, or made to attack a decoder. "
        "Upload a good copy",
        code="decoder_crashed",
    )
