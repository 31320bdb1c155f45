"""Hostile code in the decoder's place tries each door; a control shows that the doors exist."""

import contextlib
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dropline.contract import Dimensions
from dropline.errors import DecoderLost, DecoderUnavailable, ImageRefused, InvalidImage, PermanentError
from dropline.images import decoder_link, sandbox
from dropline.images.decoded import Decoded
from dropline.images.decoder import DecoderProcess
from dropline.images.decoding import decode
from dropline.images.sandbox import Measure
from dropline.settings import ImageSettings
from local_emulators.process import python_path
from tests.corpus.table import CASES
from tests.support.hostile_decoder import OPEN
from tests.support.image_files import encode, halves
from tests.support.processes import children, wait_for_exit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

_SIDE = 32
_MAP_GROWSDOWN = 0x100
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


@pytest.mark.parametrize(
    ("attempt", "code"),
    [
        ("freeze", "decode_timeout"),
        ("loop", "decode_timeout"),
        ("half an answer", "decode_timeout"),
        ("pixels missing", "decode_timeout"),
        ("slow answer", "decode_timeout"),
        ("endless text", "empty_object"),
        ("huge text", "decoder_crashed"),
        ("unknown code", "decoder_crashed"),
        ("text with pixels", "decoder_crashed"),
        ("no size", "decoder_crashed"),
        ("huge size", "decoder_crashed"),
        ("pickle", "decoder_crashed"),
        ("JSON", "decoder_crashed"),
        ("control characters", "corrupt_image"),
        ("close", "decoder_crashed"),
        ("close and stay", "decoder_crashed"),
        ("segmentation fault", "decoder_crashed"),
        ("abort", "decoder_crashed"),
        ("exit", "decoder_crashed"),
        ("exhaust memory", "out_of_memory"),
    ],
)
def test_no_answer_harms_the_child(hostile: DecoderProcess, attempt: str, code: str) -> None:
    """Any answer, or none, ends in a permanent error in time; the next image gets a process of its own."""
    with pytest.raises(PermanentError) as caught:
        hostile.decode(json.dumps([attempt]).encode(), _SIDE)
    assert caught.value.code == code
    assert str(caught.value).isprintable()
    assert hostile.decode(b'["well-behaved"]', _SIDE).dimensions == Dimensions(1, 1)


def test_no_answer_is_taken_for_that_of_another_image(hostile: DecoderProcess) -> None:
    """Bytes behind an answer end the process; the next image has the answer of a fresh process."""
    first = hostile.decode(b'["one answer too many"]', _SIDE)
    second = hostile.decode(b'["well-behaved"]', _SIDE)
    assert (first.dimensions, second.dimensions) == (Dimensions(7, 7), Dimensions(1, 1))
    assert not second.pixels.any()


def test_output_is_bounded_and_does_not_block(hostile: DecoderProcess, capfd: pytest.CaptureFixture[str]) -> None:
    """Megabytes on standard error neither block the decoder nor reach the worker's standard error raw."""
    assert hostile.decode(b'["print"]', _SIDE).dimensions == Dimensions(1, 1)
    printed = capfd.readouterr()
    assert len(printed.err) + len(printed.out) < 2000
    assert "\x1b[2J{" not in printed.err + printed.out


def _images_process(decoder: DecoderProcess) -> int:
    assert decoder.pid
    (pid,) = children(decoder.pid)
    return pid


@pytest.mark.parametrize(
    "victim", [_images_process, lambda decoder: decoder.pid], ids=["process for images", "decoder process"]
)
def test_a_kill_from_outside_is_no_fault_of_the_image(victim: Callable[[DecoderProcess], int]) -> None:
    """A killed process is a lost attempt; the next attempt has another process."""
    with DecoderProcess(_PATIENT, module="tests.support.hostile_decoder") as decoder:
        decoder.decode(b'["well-behaved"]', _SIDE)
        killed = victim(decoder)

        def kill(*_: object) -> None:
            os.kill(killed, signal.SIGKILL)

        previous = signal.signal(signal.SIGALRM, kill)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(DecoderLost):
                decoder.decode(b'["freeze"]', _SIDE)
        finally:
            signal.signal(signal.SIGALRM, previous)
        decoder.decode(b'["well-behaved"]', _SIDE)


@pytest.mark.parametrize(
    "victim", [_images_process, lambda decoder: decoder.pid], ids=["process for images", "decoder process"]
)
def test_a_process_that_died_between_images_costs_no_attempt(victim: Callable[[DecoderProcess], int]) -> None:
    """The next image gets another process at once."""
    with DecoderProcess(_PATIENT) as decoder:
        data = encode(halves(), "PNG")
        decoder.decode(data, _SIDE)
        killed = victim(decoder)
        os.kill(killed, signal.SIGKILL)
        assert wait_for_exit(killed, 60)
        assert decoder.decode(data, _SIDE).dimensions == Dimensions(64, 48)


def test_a_decoder_process_that_froze_between_images_costs_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next image, which needs a fresh process, gets another decoder process."""
    monkeypatch.setattr(decoder_link, "_END_TIMEOUT_S", 0.2)
    with DecoderProcess(ImageSettings(images_per_decoder=1)) as decoder:
        data = encode(halves(), "PNG")
        decoder.decode(data, _SIDE)
        _freeze(decoder)
        assert decoder.decode(data, _SIDE).dimensions == Dimensions(64, 48)


def test_a_late_report_is_not_taken_for_that_of_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder process that does not report the end of a process is killed."""
    monkeypatch.setattr(decoder_link, "_END_TIMEOUT_S", 0.2)
    with DecoderProcess(_PATIENT) as decoder:
        decoder.decode(encode(halves(), "PNG"), _SIDE)
        _freeze(decoder)
        with pytest.raises(InvalidImage):
            decoder.decode(b"words", _SIDE)
        assert decoder.pid is None


def _freeze(decoder: DecoderProcess) -> None:
    assert decoder.pid
    os.kill(decoder.pid, signal.SIGSTOP)


def test_a_system_without_room_for_a_process_is_no_fault_of_the_image() -> None:
    """A refused fork is a transient error with its reason."""
    limits = ImageSettings(images_per_decoder=2)
    with DecoderProcess(limits, module="tests.support.decoder_without_forks") as decoder:
        with pytest.raises(InvalidImage):
            decoder.decode(b"words", _SIDE)
        with pytest.raises(DecoderUnavailable, match="number of processes"):
            decoder.decode(b"words", _SIDE)


def test_the_limit_of_cpu_time_is_told_from_a_kill() -> None:
    """The kernel ends the process by SIGXCPU, and not by the signal of the out-of-memory killer."""
    pid = os.fork()
    if pid == 0:
        sandbox.close(None, 1)
        while True:
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGXCPU


def test_lower_limits_of_the_service_are_kept() -> None:
    """Limits of a service manager below Dropline's are no error, and no fault of an image."""
    lower = {resource.RLIMIT_DATA: 900_000_000, resource.RLIMIT_CPU: 100, resource.RLIMIT_NOFILE: 14}
    script = (
        "import resource\n"
        "from dropline.images.decoder import DecoderProcess\n"
        "from dropline.settings import ImageSettings\n"
        f"for kind, most in {lower}.items():\n"
        "    resource.setrlimit(kind, (most, most))\n"
        "with DecoderProcess(ImageSettings()) as decoder:\n"
        f"    print(decoder.decode({encode(halves(), 'PNG')!r}, 8).dimensions.width)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=_with_this_tree(), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("64\n", "")


class _TimeLimit(BaseException):
    pass


def test_a_time_limit_of_the_task_leaves_no_old_answer() -> None:
    """An exception in the middle of an exchange kills the decoder; the next image is decoded by another."""
    with DecoderProcess(_PATIENT, module="tests.support.hostile_decoder") as decoder:
        decoder.measures()
        before = decoder.pid

        def strike(*_: object) -> None:
            raise _TimeLimit

        previous = signal.signal(signal.SIGALRM, strike)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(_TimeLimit):
                decoder.decode(b'["freeze"]', _SIDE)
        finally:
            signal.signal(signal.SIGALRM, previous)
        assert decoder.pid is None
        decoder.decode(b'["well-behaved"]', _SIDE)
        assert decoder.pid != before


def test_a_process_decodes_a_few_images_and_none_after_a_refusal() -> None:
    """Images of different people share a process only within the setting, and never with a refused one."""
    limits = ImageSettings(images_per_decoder=2)
    data = encode(halves(), "PNG")
    with DecoderProcess(limits) as decoder:
        pids = []
        for _ in range(4):
            decoder.decode(data, _SIDE)
            pids.append(_images_process(decoder))
        assert pids[0] == pids[1] != pids[2] == pids[3]
        decoder.decode(data, _SIDE)
        last = _images_process(decoder)
        with pytest.raises(InvalidImage):
            decoder.decode(b"words", _SIDE)
        decoder.decode(data, _SIDE)
        assert _images_process(decoder) != last


def test_the_real_decoder_answers_like_the_function() -> None:
    """Pixels, sizes and refusals of the corpus are those of `decode`: nothing is missing in the sandbox."""
    with DecoderProcess(_PATIENT) as decoder:
        wrong = [case.name for case in CASES[::3] if not _same(decoder, case.make())]
    assert wrong == []


def _same(decoder: DecoderProcess, data: bytes) -> bool:
    return _outcome(lambda: decode(data, _SIDE, _PATIENT)) == _outcome(lambda: decoder.decode(data, _SIDE))


def _outcome(run: Callable[[], Decoded]) -> object:
    try:
        decoded = run()
    except PermanentError as error:
        return type(error), error.code, str(error)
    return decoded.dimensions, decoded.pixels.tobytes()


def test_linux_has_the_basic_measures() -> None:
    """The measures that no runtime refuses; the others depend on kernel and runtime."""
    with DecoderProcess(_PATIENT) as decoder:
        active = decoder.measures()
    assert {Measure.SECCOMP, Measure.MEMORY_LIMIT, Measure.RESOURCE_LIMITS, Measure.NO_NEW_PRIVS} <= active


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_a_huge_image_ends_at_the_memory_limit(kind: str) -> None:
    """The limit is the decoder's, not the child's; a library without memory does not make the image damaged."""
    with DecoderProcess(ImageSettings(child_memory_bytes=20_000_000)) as decoder:
        with pytest.raises(ImageRefused) as caught:
            decoder.decode(encode(halves(4000, 3000), kind), _SIDE)
        assert caught.value.code == "out_of_memory"
        decoder.decode(encode(halves(), "PNG"), _SIDE)


def test_a_file_larger_than_the_memory_limit_is_no_crash() -> None:
    """The bytes alone exceed the limit."""
    with DecoderProcess(ImageSettings(child_memory_bytes=20_000_000)) as decoder:
        with pytest.raises(ImageRefused) as caught:
            decoder.decode(encode(halves(), "PNG") + bytes(30_000_000), _SIDE)
        assert caught.value.code == "out_of_memory"


def test_a_decoder_that_does_not_start_is_a_transient_error() -> None:
    """The reason is in the message, without a traceback, and a later attempt starts the process again."""
    with DecoderProcess(_PATIENT, module="tests.support.failing_decoder") as decoder:
        for _ in range(2):
            with pytest.raises(DecoderUnavailable) as caught:
                decoder.decode(b"", _SIDE)
            assert str(caught.value) == "the decoder process did not start: RuntimeError: a library is missing"


def test_the_decoder_ends_with_the_child() -> None:
    """A killed child leaves no decoder process behind, not even one that is at work."""
    script = (
        "import sys\n"
        "from dropline.images.decoder import DecoderProcess\n"
        "from dropline.settings import ImageSettings\n"
        "decoder = DecoderProcess(ImageSettings(decode_timeout_s=600), module='tests.support.hostile_decoder')\n"
        "decoder.decode(b'[\"well-behaved\"]', 8)\n"
        "print(decoder.pid, flush=True)\n"
        "decoder.decode(b'[\"loop\"]', 8)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=_with_this_tree())
    assert child.stdout
    with child.stdout:
        decoder = int(child.stdout.readline())
    processes = [decoder, *children(decoder)]
    assert len(processes) == 2
    child.kill()
    child.wait()
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            assert wait_for_exit(pid, 60)


def _with_this_tree() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": python_path()}
