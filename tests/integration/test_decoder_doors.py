"""Hostile code in the decoder's place tries each door; a control shows that the doors exist."""

import ctypes
import json
import mmap
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dropline.errors import InvalidImage
from dropline.images import sandbox
from dropline.images.decoder import DecoderProcess
from dropline.images.sandbox import Measure
from dropline.settings import ImageSettings
from tests.support.hostile_decoder import OPEN, start_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

_SIDE = 32
_MAP_GROWSDOWN = 0x100
_PR_SET_PTRACER = 0x59616D61
_ANY_PROCESS = ctypes.c_ulong(-1)
_LIMITS = ImageSettings(decode_timeout_s=2, child_memory_bytes=300_000_000)
_PATIENT = ImageSettings(decode_timeout_s=120)


@pytest.fixture(scope="module")
def hostile() -> Iterator[DecoderProcess]:
    """Hostile code in the sandbox."""
    with DecoderProcess(_LIMITS, module="tests.support.hostile_decoder") as decoder:
        yield decoder


@dataclass
class Doors:
    """What an attacker would like to reach; every service listens."""

    directory: Path
    servers: list[socket.socket] = field(default_factory=list)

    def attempts(self) -> dict[str, list[object]]:
        """Name → the attempt's function and arguments."""
        tcp = self._server(socket.AF_INET, ("127.0.0.1", 0))
        path = self._server(socket.AF_UNIX, str(self.directory / "s"))
        abstract = self._server(socket.AF_UNIX, f"\0dropline-{os.getpid()}")
        secret = self.directory / "secret"
        secret.write_text("password")
        return {
            "own environment": ["read", "/proc/self/environ"],
            "the child's environment": ["read", f"/proc/{os.getpid()}/environ"],
            "the child's memory as a file": ["read", f"/proc/{os.getpid()}/maps"],
            "a file": ["read", str(secret)],
            "a new file": ["write", str(self.directory / "new")],
            "a directory": ["list", "/"],
            "TCP": ["connect", "AF_INET", tcp],
            "a Unix socket": ["connect", "AF_UNIX", path],
            "an abstract socket": ["connect", "AF_UNIX", abstract],
            "UDP": ["datagram", "127.0.0.1", 9],
            "a listening port": ["listen", "127.0.0.1"],
            "the child's memory": ["memory", os.getpid()],
            "a signal to the child": ["kill", os.getpid()],
            "a fork": ["fork"],
            "a program": ["execute"],
            "higher limits": ["limits"],
            "new machine code": ["code"],
            "shared memory": ["uncounted memory", mmap.MAP_SHARED],
            "memory that grows like a stack": ["uncounted memory", mmap.MAP_PRIVATE | _MAP_GROWSDOWN],
            "a signal to itself": ["signal itself"],
        }

    def _server(self, family: socket.AddressFamily, address: Any) -> Any:
        server = socket.socket(family)
        self.servers.append(server)
        server.bind(address)
        server.listen()
        name = server.getsockname()
        return name.decode() if isinstance(name, bytes) else name


@pytest.fixture
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Secrets and listening services."""
    found = Doors(tmp_path_factory.mktemp("d"))
    yield found
    for server in found.servers:
        server.close()


def result(decoder: DecoderProcess, attempt: list[object]) -> str:
    """The report of hostile code on its attempt."""
    with pytest.raises(InvalidImage) as caught:
        decoder.decode(json.dumps(attempt).encode(), _SIDE)
    assert caught.value.code == "corrupt_image"
    return str(caught.value)


def test_every_door_is_shut(hostile: DecoderProcess, doors: Doors) -> None:
    """No file, socket, process or secret can be reached; each attempt fails with the kernel's refusal."""
    results = {name: result(hostile, attempt) for name, attempt in doors.attempts().items()}
    assert set(results.values()) <= {"EPERM", "EACCES"}, results
    assert not (doors.directory / "new").exists()


def test_the_attempts_succeed_without_a_sandbox(doors: Doors) -> None:
    """Control: the same attempts pass where no measure is active."""
    # Where the Yama module is active (Debian, Ubuntu), it alone would refuse to read the memory of a parent.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY_PROCESS)
    with DecoderProcess(_PATIENT, module="tests.support.unbound_decoder") as unbound:
        results = {name: result(unbound, attempt) for name, attempt in doors.attempts().items()}
    refused = {name for name, text in results.items() if not text.startswith(OPEN)}
    assert refused <= {"higher limits"}, results


def test_tracing_is_refused(hostile: DecoderProcess) -> None:
    """ptrace of the child fails. Without a control: the trace would stop the test."""
    assert result(hostile, ["trace", os.getpid()]) == "EPERM"


def test_the_process_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the child but Python's, and no descriptor beside the data socket and standard error."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", "postgresql://worker:password@db/dropline")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/secret.json")
    inherited = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    with DecoderProcess(_PATIENT, module="tests.support.hostile_decoder") as decoder:
        descriptors = result(decoder, ["descriptors"])
        environment = result(decoder, ["environment"])
    os.close(inherited)
    assert descriptors == f"{OPEN}[]"
    names = set(json.loads(environment.removeprefix(OPEN).replace("'", '"')))
    assert "PYTHONPATH" in names
    assert names <= {
        "GLIBC_TUNABLES",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PYTHONHOME",
        "PYTHONPATH",
    }


def test_codecs_may_have_threads(hostile: DecoderProcess) -> None:
    """The filter allows threads, which codecs of AVIF and HEIC start."""
    assert result(hostile, ["thread"]) == f"{OPEN}joined"


def test_the_threads_of_a_sandbox_are_limited() -> None:
    """The kernel refuses the next thread where the measure is active, and only there."""
    pid = os.fork()
    if pid == 0:
        if os.getuid() == 0:  # root has no limit
            os.setgroups([])
            os.setgid(65_534)
            os.setuid(65_534)
        limited = Measure.THREAD_LIMIT in sandbox.enter()
        try:
            start_threads(4_000)
        except OSError:
            os._exit(0 if limited else 1)
        os._exit(1 if limited else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_linux_has_the_basic_measures() -> None:
    """The measures that no runtime refuses; the others depend on kernel and runtime."""
    with DecoderProcess(_PATIENT) as decoder:
        active = decoder.measures()
    assert {Measure.SECCOMP, Measure.MEMORY_LIMIT, Measure.RESOURCE_LIMITS, Measure.NO_NEW_PRIVS} <= active


def test_the_limit_of_cpu_time_is_told_from_a_kill() -> None:
    """The kernel ends the process by SIGXCPU, and not by the signal of the out-of-memory killer."""
    pid = os.fork()
    if pid == 0:
        sandbox.close(None, 1)
        while True:
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGXCPU
