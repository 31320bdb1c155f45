"""One decoder process and its sockets, seen from the child: start, one exchange at a time, kill."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from dropline.contract import Dimensions
from dropline.errors import DecoderUnavailable
from dropline.images.decoded import Decoded
from dropline.images.decoder_wire import BEGIN, END, READY, Answer, Ended, Request, printable
from dropline.log import get_logger
from dropline.settings import ImageSettings

log = get_logger(__name__)

#: Longest wait for a decoder process that starts, in seconds: it imports the decoders and runs each once.
_START_TIMEOUT_S = 60.0
#: Longest wait for the report on the end of a process for images, in seconds; it is killed before.
_END_TIMEOUT_S = 5.0
#: Output of the decoders that one log line shows, in bytes.
_MAX_OUTPUT_BYTES = 500
_PIPE_BYTES = 65_536
#: Variables that Python needs to find its libraries: all that a decoder process inherits.
_INHERITED = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
#: Pixels are in huge pages, in one heap that keeps 64 MiB between images: page faults cost a fresh process 20 ms.
_TUNABLES = ":".join(
    f"glibc.malloc.{each}" for each in ("hugetlb=1", "mmap_threshold=4294967296", "trim_threshold=67108864")
)


class DecoderLink:
    """A running decoder process.

    The process is a new program, never a fork of the child alone: its memory has held no credential. Its group has
    the processes for images, which end with it.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, output_fd: int, limits: ImageSettings
    ) -> None:
        self._process = process
        self._control = control
        self._output_fd = output_fd
        self._limits = limits
        self._measures: int | None = None
        #: The socket of the process for images; None before the first image, and after `end_images`.
        self._images: socket.socket | None = None
        self._served = 0
        #: Memory of the process for images; 0: no limit.
        self._memory_bytes = 0

    @classmethod
    def spawn(cls, module: str, limits: ImageSettings) -> "DecoderLink":
        """Start the process; returns at once.

        Raises:
            OSError: the system cannot start a process.
        """
        control, far_end = socket.socketpair()
        output, far_output = os.pipe()
        # Decoders that print much must not block: the rest of their output is lost.
        os.set_blocking(output, False)
        os.set_blocking(far_output, False)
        try:
            process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-m", module, limits.model_dump_json()],
                stdin=far_end.fileno(),
                stdout=far_output,
                stderr=far_output,
                env=_environment(),
                cwd="/",
                process_group=0,
            )
        except BaseException:
            control.close()
            os.close(output)
            raise
        finally:
            far_end.close()
            os.close(far_output)
        return cls(process, control, output, limits)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_ready(self) -> int:
        """Wait until the process can decode; returns the active measures of the sandbox, at once if known.

        Raises:
            DecoderUnavailable: the process ended, or was not ready in time.
        """
        if self._measures is None:
            try:
                self._measures = READY.unpack(_receive(self._control, READY.size, _deadline(_START_TIMEOUT_S)))[0]
            except (EOFError, OSError) as error:
                # Of a traceback, the last line has the error.
                reason = self._output(last_line=True) or str(error) or type(error).__name__
                raise DecoderUnavailable(f"the decoder process did not start: {reason}") from error
        return self._measures

    def prepare(self, memory_bytes: int) -> None:
        """Have a process for images with this limit of memory, which has refused no image and is not worn.

        Args:
            memory_bytes: that the process may allocate; 0: no limit.

        Raises:
            EOFError, OSError: the decoder process has ended, or does not answer within a moment.
        """
        # Its process for images ends a moment later, and would look ready until then.
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise EOFError("the decoder process has ended")
        if self._images and not self._may_serve(self._images, memory_bytes):
            self.end_images()
        if self._images is None:
            near, far = socket.socketpair()
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
            self._images, self._served, self._memory_bytes = near, 0, memory_bytes
            with far:
                socket.send_fds(self._control, [BEGIN.pack(memory_bytes)], [far.fileno()])

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """Decode an image in the process for images; call `prepare` before.

        Raises:
            PermanentError: the refusal of the decoder.
            TimeoutError: no answer within the time limit.
            WrongAnswer: bytes that are no answer.
            EOFError, OSError: the process for images ended before its answer.
        """
        image = self._images
        assert image
        deadline = _deadline(self._limits.decode_timeout_s)
        try:
            _send(image, Request(len(data), side_px).pack(), deadline)
            _send(image, data, deadline)
            answer = Answer.unpack(_receive(image, Answer.FORMAT.size, deadline), self._limits)
            if answer.status:
                raise answer.error(_receive(image, answer.text_bytes, deadline))
            pixels = np.empty((side_px, side_px, 3), np.uint8)
            _receive_into(image, pixels.data.cast("B"), deadline)
        finally:
            self._log_output()
        self._served += 1
        return Decoded(pixels, Dimensions(answer.width, answer.height))

    def end_images(self) -> Ended | None:
        """End the process for images, if any; returns the report on its end.

        Raises:
            EOFError, OSError: no report within a moment.
        """
        if self._images is None:
            return None
        images, self._images = self._images, None
        images.close()
        self._control.settimeout(_END_TIMEOUT_S)
        self._control.sendall(END)
        return Ended.unpack(_receive(self._control, Ended.FORMAT.size, _deadline(_END_TIMEOUT_S)))

    def kill(self) -> None:
        """Kill the process and its processes for images."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._control.close()
        if self._images:
            self._images.close()
        os.close(self._output_fd)

    def _may_serve(self, images: socket.socket, memory_bytes: int) -> bool:
        is_worn = self._served >= self._limits.images_per_decoder
        return memory_bytes == self._memory_bytes and not is_worn and _is_silent(images)

    def _log_output(self) -> None:
        if text := self._output():
            log.debug("decoder_output", text=text)

    def _output(self, *, last_line: bool = False) -> str:
        """What the process has printed since the last call, bounded."""
        try:
            printed = os.read(self._output_fd, _PIPE_BYTES).strip()
        except BlockingIOError:
            return ""
        if last_line:
            printed = printed.rpartition(b"\n")[2]
        return printable(printed[-_MAX_OUTPUT_BYTES:])


def _environment() -> dict[str, str]:
    # One thread for numpy's library of linear algebra: only a process with a single thread can be forked safely.
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    pages = {"GLIBC_TUNABLES": _TUNABLES}
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    path = os.pathsep.join(os.path.abspath(each) for each in sys.path)  # noqa: PTH100 - entries can be empty
    return single | pages | inherited | {"PYTHONPATH": path}


def _deadline(seconds: float) -> float:
    return time.monotonic() + seconds


def _is_silent(images: socket.socket) -> bool:
    """False if the process for images has ended, or has sent bytes that no request explains."""
    images.setblocking(False)
    try:
        images.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _send(to: socket.socket, data: bytes, deadline: float) -> None:
    to.settimeout(_remaining(deadline))
    to.sendall(data)


def _receive(sender: socket.socket, length: int, deadline: float) -> bytes:
    received = bytearray(length)
    _receive_into(sender, memoryview(received), deadline)
    return bytes(received)


def _receive_into(sender: socket.socket, buffer: memoryview, deadline: float) -> None:
    rest = buffer
    while rest:
        sender.settimeout(_remaining(deadline))
        count = sender.recv_into(rest)
        if not count:
            raise EOFError(f"{len(buffer) - len(rest)} of {len(buffer)} bytes")
        rest = rest[count:]


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining
