"""The decoder's processes: wrong answers, kills and freezes from outside, limits, and their end."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from dropline.contract import Dimensions
from dropline.errors import DecoderLost, DecoderUnavailable, ImageRefused, InvalidImage, PermanentError
from dropline.images import decoder_link
from dropline.images.decoded import Decoded
from dropline.images.decoder import DecoderProcess
from dropline.images.decoding import decode
from dropline.settings import ImageSettings
from local_emulators.process import python_path
from tests.corpus.table import CASES
from tests.support.image_files import encode, halves
from tests.support.processes import children, wait_for_exit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

_SIDE = 32
_LIMITS = ImageSettings(decode_timeout_s=2, child_memory_bytes=300_000_000)
_PATIENT = ImageSettings(decode_timeout_s=120)


@pytest.fixture(scope="module")
def hostile() -> Iterator[DecoderProcess]:
    """Hostile code in the sandbox."""
    with DecoderProcess(_LIMITS, module="tests.support.hostile_decoder") as decoder:
        yield decoder


@pytest.fixture(scope="module")
def patient() -> Iterator[DecoderProcess]:
    """As `hostile`, with time for what a loaded machine does slowly."""
    limits = _LIMITS.model_copy(update={"decode_timeout_s": 120})
    with DecoderProcess(limits, module="tests.support.hostile_decoder") as decoder:
        yield decoder


@pytest.mark.parametrize(
    ("attempt", "code"),
    [
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
def test_no_answer_harms_the_child(patient: DecoderProcess, attempt: str, code: str) -> None:
    """Any answer ends in a permanent error; the next image gets a process of its own."""
    _require_error(patient, attempt, code)


@pytest.mark.parametrize("attempt", ["freeze", "loop", "half an answer", "pixels missing", "slow answer"])
def test_no_silence_harms_the_child(hostile: DecoderProcess, attempt: str) -> None:
    """Without a whole answer the time limit ends the process; the next image gets a process of its own."""
    _require_error(hostile, attempt, "decode_timeout")


def _require_error(decoder: DecoderProcess, attempt: str, code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        decoder.decode(json.dumps([attempt]).encode(), _SIDE)
    assert caught.value.code == code
    assert str(caught.value).isprintable()
    assert decoder.decode(b'["well-behaved"]', _SIDE).dimensions == Dimensions(1, 1)


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


@contextlib.contextmanager
def _during(action: Callable[[], None]) -> Iterator[None]:
    """Run the action in the middle of the block, which waits for a frozen decoder."""
    previous = signal.signal(signal.SIGALRM, lambda *_: action())
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(
    "victim", [_images_process, lambda decoder: decoder.pid], ids=["process for images", "decoder process"]
)
def test_a_kill_from_outside_is_no_fault_of_the_image(victim: Callable[[DecoderProcess], int]) -> None:
    """A killed process is a lost attempt; the next attempt has another process."""
    with DecoderProcess(_PATIENT, module="tests.support.hostile_decoder") as decoder:
        decoder.decode(b'["well-behaved"]', _SIDE)
        killed = victim(decoder)
        with _during(lambda: os.kill(killed, signal.SIGKILL)), pytest.raises(DecoderLost):
            decoder.decode(b'["freeze"]', _SIDE)
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


def test_a_decoder_process_that_died_with_its_socket_still_open_costs_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process for images ends a moment after the decoder process, and its socket looks ready until then."""
    with DecoderProcess(_PATIENT) as decoder:
        data = encode(halves(), "PNG")
        decoder.decode(data, _SIDE)
        assert decoder.pid
        os.kill(decoder.pid, signal.SIGKILL)
        assert wait_for_exit(decoder.pid, 60)
        monkeypatch.setattr(decoder_link, "_is_silent", lambda _: True)
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


class _TimeLimit(BaseException):
    pass


def _end_task() -> None:
    raise _TimeLimit


def test_a_time_limit_of_the_task_leaves_no_old_answer() -> None:
    """An exception in the middle of an exchange kills the decoder; the next image is decoded by another."""
    with DecoderProcess(_PATIENT, module="tests.support.hostile_decoder") as decoder:
        decoder.measures()
        before = decoder.pid
        with _during(_end_task), pytest.raises(_TimeLimit):
            decoder.decode(b'["freeze"]', _SIDE)
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


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_a_huge_image_ends_at_the_memory_limit(kind: str) -> None:
    """The limit is the decoder's, not the child's; a library without memory does not make the image damaged."""
    with DecoderProcess(ImageSettings(child_memory_bytes=20_000_000)) as decoder:
        with pytest.raises(ImageRefused) as caught:
            decoder.decode(encode(halves(4000, 3000), kind), _SIDE)
        assert caught.value.code == "out_of_memory"
        decoder.decode(encode(halves(), "PNG"), _SIDE)


@pytest.mark.parametrize(
    ("kind", "options", "limits_mb"),
    [
        ("JPEG", {"progressive": True, "subsampling": 0}, (12,)),
        ("TIFF", {"compression": "zstd"}, (14, 17)),
        ("TIFF", {"compression": "lzma"}, (14, 18)),
    ],
)
def test_a_good_file_is_not_damaged_where_memory_is_short(
    kind: str, options: dict[str, object], limits_mb: tuple[int, ...]
) -> None:
    """Libraries that fail without a reason at the memory limit are told apart from damaged bytes."""
    data = encode(halves(2000, 2000), kind, **options)
    for limit in limits_mb:
        with DecoderProcess(ImageSettings(decode_timeout_s=120, child_memory_bytes=limit * 10**6)) as decoder:
            found = _outcome(lambda: decoder.decode(data, _SIDE))
        assert isinstance(found, tuple)
        assert found[1] == "out_of_memory"


def test_a_file_larger_than_the_memory_limit_is_no_crash() -> None:
    """The bytes alone exceed the limit."""
    with DecoderProcess(ImageSettings(child_memory_bytes=20_000_000)) as decoder:
        with pytest.raises(ImageRefused) as caught:
            decoder.decode(encode(halves(), "PNG") + bytes(30_000_000), _SIDE)
        assert caught.value.code == "out_of_memory"


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
