"""Hostile code in the decoder's place: `python -m tests.support.hostile_decoder`, in the real sandbox.

The bytes of an "image" name a function of this module and its arguments, as JSON. The result of the attempt
returns as the text of a refusal: the only way out.
"""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import pickle
import resource
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dropline.contract import Dimensions
from dropline.errors import InvalidImage
from dropline.images.decoded import Decoded
from dropline.images.decoder_process import main
from dropline.images.decoder_wire import MAX_TEXT_BYTES, Answer
from dropline.images.decoding import decode
from dropline.settings import ImageSettings

OPEN = "open: "
_DATA_SOCKET = 0
_PTRACE_ATTACH = 16
_PTRACE = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
_TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
_PROCESS_VM_READV = {"x86_64": 310, "aarch64": 270}[os.uname().machine]
_LIBC = ctypes.CDLL(None, use_errno=True)


def hostile(data: bytes, side_px: int, limits: ImageSettings) -> Decoded:
    """Carry out the named attempt; decode any other file."""
    if not data.startswith(b"["):
        return decode(data, side_px, limits)
    name, *arguments = json.loads(data)
    if name in CHANNEL:
        CHANNEL[name](side_px)
        return Decoded(np.zeros((side_px, side_px, 3), np.uint8), Dimensions(1, 1))
    try:
        result = DOORS[name](*arguments)
    except OSError as error:
        raise InvalidImage(errno.errorcode[error.errno or 0], code="corrupt_image") from None
    raise InvalidImage(f"{OPEN}{result}"[:MAX_TEXT_BYTES], code="corrupt_image")


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def _write_file(path: str) -> int:
    return Path(path).write_bytes(b"stolen")


def _connect(family: str, address: Any) -> str:
    with socket.socket(getattr(socket, family)) as client:
        client.settimeout(5)
        client.connect(tuple(address) if isinstance(address, list) else address)
        return "connected"


def _send_datagram(host: str, port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        return client.sendto(b"secret", (host, port))


def _listen(host: str) -> str:
    with socket.create_server((host, 0)) as server:
        return str(server.getsockname())


def _read_memory(pid: int) -> int:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(8)
    # The address of a variable of this process; any error but EPERM would mean that the call itself is allowed.
    near = Vector(ctypes.addressof(buffer), 8)
    # The last argument is on the stack. A C int has four bytes there, the kernel reads eight: EINVAL by chance.
    flags = ctypes.c_ulong(0)
    result = _LIBC.syscall(_PROCESS_VM_READV, pid, ctypes.byref(near), 1, ctypes.byref(near), 1, flags)
    if result < 0 and ctypes.get_errno() == errno.EFAULT:
        return 0
    return _checked(result)


def _trace(pid: int) -> int:
    return _checked(_LIBC.syscall(_PTRACE, _PTRACE_ATTACH, pid, 0, 0))


def _fork() -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "forked"


def _execute() -> str:
    return str(subprocess.run(["/bin/true"], check=False).returncode)


def _raise_limits() -> str:
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (3600, 3600))
    except ValueError as error:  # the library's word for EPERM
        raise OSError(errno.EPERM, str(error)) from None
    return "raised"


def _add_code() -> str:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return "executable"


def _uncounted_memory(flags: int) -> str:
    """Memory that RLIMIT_DATA does not count: shared, or in a mapping that grows like a stack."""
    mmap.mmap(-1, 4096, flags=flags | mmap.MAP_ANONYMOUS).close()
    return "mapped"


def _signal_itself() -> str:
    """A signal as if from outside; 0 sends none."""
    _checked(_LIBC.syscall(_TGKILL, os.getpid(), threading.get_native_id(), 0))
    return "sent"


def _descriptors() -> list[int]:
    """The open ones: a sandboxed process may still call `poll`."""
    return [fd for fd in range(3, 200) if _is_open(fd)]


def _is_open(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, 0)
    return all(not event & select.POLLNVAL for _, event in poller.poll(0))


def start_threads(count: int) -> str:
    """Start many sleeping threads with small stacks."""
    threading.stack_size(65_536)
    try:
        for _ in range(count):
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    except RuntimeError:
        raise OSError(errno.EPERM, "no more threads") from None
    return f"{count} threads"


def _thread() -> str:
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    thread.join()
    return "joined"


DOORS: dict[str, Callable[..., object]] = {
    "read": lambda path: Path(path).read_bytes()[:200],
    "write": _write_file,
    "list": os.listdir,
    "connect": _connect,
    "datagram": _send_datagram,
    "listen": _listen,
    "memory": _read_memory,
    "trace": _trace,
    "kill": lambda pid: os.kill(pid, 0),
    "fork": _fork,
    "execute": _execute,
    "limits": _raise_limits,
    "code": _add_code,
    "uncounted memory": _uncounted_memory,
    "signal itself": _signal_itself,
    # Not doors: what the process has, and what it may do.
    "environment": lambda: sorted(os.environ),
    "descriptors": _descriptors,
    "thread": _thread,
    "threads": start_threads,
}


def _out(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_DATA_SOCKET, view) :]


def _sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(60)


def _freeze_after(data: bytes) -> None:
    _out(data)
    _sleep_for_ever()


def _loop() -> NoReturn:
    while True:
        pass


def _slowly(data: bytes) -> None:
    for byte in data:
        _out(bytes([byte]))
        time.sleep(0.05)


def _endlessly(data: bytes) -> NoReturn:
    while True:
        _out(data)


def _exhaust_memory() -> None:
    blocks = []
    while True:
        blocks.append(np.ones(50_000_000, np.uint8))


def _print_much() -> None:
    for _ in range(2000):
        with contextlib.suppress(BlockingIOError):
            os.write(2, b'\x1b[2J{"severity":"ERROR"}\n' * 40)


def _close_and_stay() -> NoReturn:
    os.close(_DATA_SOCKET)
    _sleep_for_ever()


#: Attempts on the protocol, with the side of the square as argument.
CHANNEL: dict[str, Callable[[int], object]] = {
    "freeze": lambda _: _sleep_for_ever(),
    "loop": lambda _: _loop(),
    "half an answer": lambda _: _freeze_after(b"\0" * 7),
    "pixels missing": lambda side: _freeze_after(Answer(0, 1, 1, 0).pack() + b"\0" * (side * side)),
    "slow answer": lambda side: _slowly(Answer(0, 1, 1, 0).pack() + b"\0" * side * side * 3),
    "endless text": lambda _: _endlessly(Answer(1, 0, 0, MAX_TEXT_BYTES).pack()),
    "huge text": lambda _: _freeze_after(Answer(1, 0, 0, 2**32 - 1).pack()),
    "unknown code": lambda _: _freeze_after(Answer(999, 0, 0, 3).pack() + b"abc"),
    "text with pixels": lambda _: _freeze_after(Answer(0, 1, 1, 3).pack() + b"abc"),
    "no size": lambda _: _freeze_after(Answer(0, 0, 0, 0).pack()),
    "huge size": lambda _: _freeze_after(Answer(0, 2**32 - 1, 2**32 - 1, 0).pack()),
    "pickle": lambda _: _freeze_after(pickle.dumps(Path("/")) + b"\xff" * 100),
    "JSON": lambda _: _freeze_after(b'{"status": 0, "pixels": "' + b"A" * 100_000),
    "control characters": lambda _: _freeze_after(Answer(6, 0, 0, 9).pack() + b"a\n\x1b[2J\x00\xff\xfe"),
    "one answer too many": lambda side: _out(Answer(0, 7, 7, 0).pack() + b"\x07" * (side * side * 3)),
    "close": lambda _: os.close(_DATA_SOCKET),
    "close and stay": lambda _: _close_and_stay(),
    "segmentation fault": lambda _: ctypes.string_at(8),
    "abort": lambda _: os.abort(),
    "exit": lambda _: os._exit(3),
    "exhaust memory": lambda _: _exhaust_memory(),
    "print": lambda _: _print_much(),
    "well-behaved": lambda _: None,
}

if __name__ == "__main__":
    main(hostile)
