"""The decoder process: imports all decoders, closes its sandbox, and forks the processes for images.

Started by `dropline.images.decoder_link`, as a new program, with the control socket on standard input. This
process reads no image. A process for images decodes a few of them and is then replaced by a fresh one; see
`docs/decisions/0013-decoding-without-keys.md`.
"""

import contextlib
import ctypes
import gc
import io
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from PIL import Image

from dropline.errors import ImageRefused, InvalidImage, PermanentError
from dropline.images import sandbox
from dropline.images.decoded import Decoded
from dropline.images.decoder_wire import BEGIN, END, READY, Answer, Ended, Request, refusal
from dropline.images.decoding import decode
from dropline.images.sandbox import Measure, to_bits
from dropline.settings import ImageSettings

Decode = Callable[[bytes, int, ImageSettings], Decoded]
#: Longest wait for the end of a process for images that has been told to end, in seconds.
_END_TIMEOUT_S = 0.5
#: Formats that Pillow encodes, to run each decoder once before files are out of reach.
_WARM_UP = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")
#: Text in an image is rarely in UTF-8. Python loads an encoding at first use.
_ENCODINGS = ("ascii", "latin-1", "cp1252", "mac-roman", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32")
_SOCKET_FD = 0
#: Measures that only a process for images takes.
_LAST_MEASURES = (Measure.SECCOMP, Measure.MEMORY_LIMIT)


def main(decode_one: Decode = decode) -> None:
    """Serve the child at the other end of standard input until the child ends.

    Args:
        decode_one: decodes an image.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal or an init system sends both to whole process groups; the child finishes its image first.
        signal.signal(number, signal.SIG_IGN)
    settings = ImageSettings.model_validate_json(sys.argv[1])
    _warm_up(settings)
    allocated = sandbox.allocated_bytes()
    measures = sandbox.enter()
    gc.collect()
    # Pages without changed reference counts stay shared with the processes of the images.
    gc.freeze()
    server = _Server(decode_one, settings, allocated)
    server.run(measures)


class _Server:
    """Forks a process for images whenever the child requests one; one at a time."""

    def __init__(self, decode_one: Decode, settings: ImageSettings, allocated_bytes: int) -> None:
        self._decode = decode_one
        self._settings = settings
        self._allocated_bytes = allocated_bytes
        self._control = socket.socket(fileno=_SOCKET_FD)
        # A blocked signal stays pending: `_wait` cannot miss the end of a process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})

    def run(self, measures: frozenset[Measure]) -> None:
        """Return when the child has closed the control socket."""
        self._control.sendall(READY.pack(to_bits(measures | self._trial())))
        while begin := self._receive_begin():
            memory_bytes, fd = begin
            pid = _fork()
            if pid == 0:
                self._serve(fd, memory_bytes)
            os.close(fd)
            if self._control.recv(len(END)) != END:
                if pid:
                    os.kill(pid, signal.SIGKILL)
                return
            ended = self._wait(pid) if pid else Ended(0, Ended.NOT_STARTED)
            self._control.sendall(ended.pack())

    def _receive_begin(self) -> tuple[int, int] | None:
        """Memory and data socket of the next process for images; None if the child closed the control socket."""
        message, fds, _, _ = socket.recv_fds(self._control, BEGIN.size, 1)
        return (BEGIN.unpack(message)[0], fds[0]) if fds else None

    def _trial(self) -> frozenset[Measure]:
        """The measures that a process for images can take."""
        pid = os.fork()
        if pid == 0:
            taken = self._close(self._settings.child_memory_bytes)
            os._exit(sum(1 << bit for bit, each in enumerate(_LAST_MEASURES) if each in taken))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return frozenset(each for bit, each in enumerate(_LAST_MEASURES) if code > 0 and code >> bit & 1)

    def _wait(self, pid: int) -> Ended:
        deadline = time.monotonic() + _END_TIMEOUT_S
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return Ended(0, Ended.STILL_RUNNING)
            _pause_until_child_ends(deadline)
        return Ended.of(os.waitpid(pid, 0)[1])

    def _close(self, memory_bytes: int) -> frozenset[Measure]:
        # Codecs have threads: within the time limit, each processor may be at work.
        cpu_s_per_image = (math.ceil(self._settings.decode_timeout_s) + 1) * (os.cpu_count() or 1)
        cpu_s = cpu_s_per_image * self._settings.images_per_decoder
        return sandbox.close(self._allocated_bytes + memory_bytes if memory_bytes else None, cpu_s)

    def _serve(self, fd: int, memory_bytes: int) -> NoReturn:
        """Answer requests until the child closes the socket; then end this process."""
        # The data socket takes the place of the control socket, which this process must not have.
        os.dup2(fd, _SOCKET_FD)
        os.close(fd)
        data_socket = socket.socket(fileno=_SOCKET_FD)
        self._close(memory_bytes)
        while message := data_socket.recv(Request.FORMAT.size, socket.MSG_WAITALL):
            request = Request.unpack(message)
            for part in self._answer(data_socket, request):
                _write(part)
        os._exit(0)

    def _answer(self, data_socket: socket.socket, request: Request) -> list[memoryview]:
        try:
            data = _read(data_socket, request.length)
            decoded = self._decode(data, request.side_px, self._settings)
        except PermanentError as error:
            return [memoryview(refusal(error))]
        except MemoryError:
            limit = f"DROPLINE_IMAGES__CHILD_MEMORY_BYTES ({self._settings.child_memory_bytes})"
            return [memoryview(refusal(ImageRefused(f"decoding needs more than {limit}", code="out_of_memory")))]
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises is the fault of the image
            return [memoryview(refusal(InvalidImage(f"damaged ({type(error).__name__})", code="corrupt_image")))]
        return [memoryview(Answer.of_pixels(decoded.dimensions).pack()), decoded.pixels.data.cast("B")]


def _read(data_socket: socket.socket, length: int) -> bytes:
    """The bytes of a file. Without memory for the bytes, all are received first: the child sends, then reads."""
    try:
        return data_socket.recv(length, socket.MSG_WAITALL) if length else b""
    except MemoryError:
        while length and (block := data_socket.recv(min(length, 65_536))):
            length -= len(block)
        raise


def _fork() -> int | None:
    """The process id, 0 in the new process; None if the system has no memory or no room for another process."""
    try:
        return os.fork()
    except OSError:
        return None


def _write(part: memoryview) -> None:
    while part:
        part = part[os.write(_SOCKET_FD, part) :]


def _pause_until_child_ends(deadline: float) -> None:
    if hasattr(signal, "sigtimedwait"):
        signal.sigtimedwait({signal.SIGCHLD}, max(0.0, deadline - time.monotonic()))
    else:
        time.sleep(0.01)


def _warm_up(settings: ImageSettings) -> None:
    """Load all that decoding loads at first use."""
    with contextlib.suppress(ImportError):
        import pillow_heif  # noqa: F401
    with contextlib.suppress(OSError):
        # The end of a thread loads this library.
        ctypes.CDLL("libgcc_s.so.1")
    for name in _ENCODINGS:
        "".encode(name)
    Image.init()
    for kind in _WARM_UP:
        for mode in ("L", "RGB"):
            file = io.BytesIO()
            Image.new(mode, (16, 16)).save(file, kind)
            with contextlib.suppress(PermanentError):
                decode(file.getvalue(), 8, settings)


if __name__ == "__main__":
    main()
