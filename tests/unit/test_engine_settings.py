"""Checkpoint, device and dtype by the settings, and the errors of unusable settings."""

import re
from pathlib import Path

import httpx2
import pytest
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RevisionNotFoundError
from pydantic import ValidationError

from dropline.contract import TaskPrompt
from dropline.errors import EngineUnavailable, SettingsError
from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION, EngineSettings
from worker.engine.runtime import checkpoint as checkpoint_module
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.loading import choose_device, choose_dtype
from worker.engine.runtime.main import load_model
from worker.engine.runtime.model import StubModel


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """A hub with every checkpoint: the list of the requested names and commits."""
    requested = []

    def download(name: str, *, revision: str, allow_patterns: list[str]) -> str:
        assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in allow_patterns)
        requested.append((name, revision))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return requested


def test_the_default_checkpoint_is_pinned(hub: list[tuple[str, str]]) -> None:
    """Settings without a checkpoint give the default checkpoint at a fixed commit."""
    assert find_checkpoint(EngineSettings()).revision == DEFAULT_REVISION
    assert hub == [(DEFAULT_CHECKPOINT, DEFAULT_REVISION)]


def test_another_hub_checkpoint_is_loaded_at_its_commit(hub: list[tuple[str, str]]) -> None:
    """The configured commit is requested and recorded."""
    settings = EngineSettings(checkpoint="florence-community/Florence-2-large", revision="a" * 40)
    assert find_checkpoint(settings).revision == "a" * 40
    assert hub == [("florence-community/Florence-2-large", "a" * 40)]


@pytest.mark.parametrize("revision", ["", "main", "abc123", "A" * 40])
def test_an_unpinned_hub_checkpoint_is_refused(hub: list[tuple[str, str]], revision: str) -> None:
    """A branch can change; the error names the variable for the commit."""
    settings = EngineSettings(checkpoint="florence-community/Florence-2-large", revision=revision)
    with pytest.raises(SettingsError, match="DROPLINE_ENGINE__REVISION"):
        find_checkpoint(settings)
    assert not hub


@pytest.mark.parametrize("name", ["", "florence", "/no/such/directory", "./missing/model", "a/b/c"])
def test_an_unknown_checkpoint_is_refused(hub: list[tuple[str, str]], name: str) -> None:
    """Neither a directory nor a hub name: the error names the variable."""
    with pytest.raises(SettingsError, match="DROPLINE_ENGINE__CHECKPOINT"):
        find_checkpoint(EngineSettings(checkpoint=name))
    assert not hub


def test_a_directory_is_identified_by_its_weights(tmp_path: Path) -> None:
    """The same bytes give the same revision, other bytes another revision."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = find_checkpoint(EngineSettings(checkpoint=str(tmp_path)))
    again = find_checkpoint(EngineSettings(checkpoint=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    other = find_checkpoint(EngineSettings(checkpoint=str(tmp_path)))
    assert first == again
    assert first.directory == tmp_path
    assert re.fullmatch("sha256-[0-9a-f]{12}", first.revision)
    assert other.revision != first.revision


def test_pickled_weights_are_no_checkpoint(tmp_path: Path) -> None:
    """A directory without safetensors is refused before the load."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(SettingsError, match="safetensors"):
        find_checkpoint(EngineSettings(checkpoint=str(tmp_path)))


def test_the_demo_model_is_found_by_its_name() -> None:
    """The package has a demo model, identified by the weights."""
    found = find_checkpoint(EngineSettings(checkpoint="demo"))
    assert (found.directory / "config.json").is_file()
    assert found.revision.startswith("sha256-")


def test_a_missing_demo_model_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package of the demo model, the error names the extra to install."""
    monkeypatch.setattr(checkpoint_module, "_DEMO_PACKAGE", "no_such_package")
    with pytest.raises(SettingsError, match="extra `local`"):
        find_checkpoint(EngineSettings(checkpoint="demo"))


def test_an_unknown_commit_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reachable hub without the commit is a settings error: a retry would not help."""

    def download(*_: object, **__: object) -> str:
        request = httpx2.Request("GET", "https://hub.invalid")
        raise RevisionNotFoundError("no such revision", response=httpx2.Response(404, request=request))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(SettingsError, match="HF_TOKEN"):
        find_checkpoint(EngineSettings())


def test_an_interrupted_download_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network error gives the same message, and the error is transient."""

    def download(*_: object, **__: object) -> str:
        raise ConnectionError("reset\nby peer")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(EngineUnavailable, match=r"\(reset\).*hf download"):
        find_checkpoint(EngineSettings())


def test_the_library_has_the_arguments_of_the_double() -> None:
    """The double takes the arguments of the real function."""
    assert {"revision", "allow_patterns"} <= set(snapshot_download.__annotations__)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "mps", "", "cpu:1"])
def test_an_unknown_device_is_refused(device: str) -> None:
    """The error names the variable and the permitted values."""
    with pytest.raises(SettingsError, match=r"DROPLINE_ENGINE__DEVICE.*auto, cpu, cuda or cuda:N"):
        choose_device(EngineSettings(device=device))


def test_a_missing_gpu_is_refused() -> None:
    """For a number beyond the last GPU, the error counts the GPUs."""
    with pytest.raises(SettingsError, match=f"finds {torch.cuda.device_count()} CUDA devices"):
        choose_device(EngineSettings(device=f"cuda:{torch.cuda.device_count()}"))


@pytest.mark.parametrize("gpu", [True, False])
def test_auto_prefers_a_gpu(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    """`auto` is the first GPU, or the CPU without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose_device(EngineSettings()).type == ("cuda" if gpu else "cpu")


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [(True, False, torch.bfloat16), (False, True, torch.bfloat16), (False, False, torch.float32)],
)
def test_auto_is_bfloat16_on_cpus_that_compute_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, expected: torch.dtype
) -> None:
    """Emulated bfloat16 is slower than float32."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert choose_dtype(EngineSettings(), torch.device("cpu")) is expected


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_on_gpus_that_compute_in_bfloat16(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """Older GPUs emulate bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    expected = torch.bfloat16 if native else torch.float32
    assert choose_dtype(EngineSettings(), torch.device("cuda")) is expected


def test_a_configured_dtype_is_not_checked() -> None:
    """The CPU gets float16 if configured."""
    assert choose_dtype(EngineSettings(dtype="float16"), torch.device("cpu")) is torch.float16


def test_the_stub_needs_no_checkpoint() -> None:
    """The stub measures the system without a model."""
    assert isinstance(load_model(EngineSettings(stub=True, checkpoint="nowhere")), StubModel)


def test_limits_by_task_take_every_spelling_of_a_task() -> None:
    """As in an object's metadata; an unknown task and a limit without room for a word are refused."""
    settings = EngineSettings.model_validate({"max_new_tokens_by_task": {"od": 5, "<CAPTION>": 7}})
    assert settings.max_new_tokens_by_task == {TaskPrompt.OD: 5, TaskPrompt.CAPTION: 7}
    for wrong in ({"caption of a cat": 5}, {"<OD>": 1}):
        with pytest.raises(ValidationError):
            EngineSettings.model_validate({"max_new_tokens_by_task": wrong})
