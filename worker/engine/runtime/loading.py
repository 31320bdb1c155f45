"""Loads a checkpoint: the device, the dtype, and the model on the device."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Florence2ForConditionalGeneration, Florence2Processor, PretrainedConfig
from transformers import logging as transformers_logging

from dropline.errors import SettingsError
from dropline.log import get_logger
from dropline.settings import EngineSettings
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.driver import driver_misfit, find_driver
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.host_memory import keep_freed_memory

_log = get_logger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint on its device, in transformers' classes."""

    #: A `Florence2ForConditionalGeneration`; `Any`, since the annotations of its `generate` refuse its arguments.
    model: Any
    processor: Florence2Processor
    checkpoint: Checkpoint


def load_florence(settings: EngineSettings, checkpoint: Checkpoint) -> FlorenceModel:
    """Load a checkpoint onto the configured device.

    Raises:
        SettingsError: the checkpoint, device or dtype cannot be used.
    """
    loaded = load_weights(settings, checkpoint)
    return FlorenceModel(loaded.model, loaded.processor, checkpoint, settings)


def load_weights(settings: EngineSettings, checkpoint: Checkpoint) -> LoadedCheckpoint:
    """Load a checkpoint's tensors and processor.

    Raises:
        SettingsError: the checkpoint, device or dtype cannot be used.
    """
    device = choose_device(settings)
    if device.index is not None:
        # Otherwise streams, graphs and the check of the dtype would be those of the first GPU.
        torch.cuda.set_device(device)
    dtype = choose_dtype(settings, device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config, _ = PretrainedConfig.get_config_dict(checkpoint.directory)
    if config.get("model_type") != "florence2":
        raise SettingsError(
            f"{checkpoint.name} is no Florence-2 checkpoint in transformers' native format (its model_type is "
            f"{config.get('model_type')!r}); use a checkpoint of florence-community"
        )
    processor = Florence2Processor.from_pretrained(checkpoint.directory, trust_remote_code=False)
    model: Any = Florence2ForConditionalGeneration.from_pretrained(
        checkpoint.directory, dtype=dtype, use_safetensors=True, trust_remote_code=False
    )
    model = model.to(device).eval()
    if device.type == "cpu":
        # Not before: the memory of a checkpoint's files is given back.
        keep_freed_memory()
    return LoadedCheckpoint(model, processor, checkpoint)


def choose_device(settings: EngineSettings) -> torch.device:
    """The configured device; for `auto` the first GPU, else the CPU.

    Raises:
        SettingsError: the device does not exist.
    """
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else _cpu_with_reason())
    if not _DEVICE.fullmatch(settings.device):
        raise SettingsError(
            f"DROPLINE_ENGINE__DEVICE is {settings.device!r}, but must be auto, cpu, cuda or cuda:N"
        )
    device = torch.device(settings.device)
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        misfit = driver_misfit(find_driver(), torch.__version__, torch.version.cuda) if gpus == 0 else None
        raise SettingsError(
            f"DROPLINE_ENGINE__DEVICE is {settings.device!r}, but torch {torch.__version__} finds {gpus} CUDA "
            f"devices: {misfit or 'check CUDA_VISIBLE_DEVICES'}; or set DROPLINE_ENGINE__DEVICE=auto"
        )
    return device


def _cpu_with_reason() -> str:
    """The CPU; a warning names a driver that torch's CUDA does not work with."""
    driver = find_driver()
    misfit = driver_misfit(driver, torch.__version__, torch.version.cuda)
    if driver and torch.version.cuda and misfit:
        _log.warning("gpu_not_used", reason=misfit)
    return "cpu"


def choose_dtype(settings: EngineSettings, device: torch.device) -> torch.dtype:
    """The configured dtype; for `auto` bfloat16 if the device computes in bfloat16, else float32."""
    if settings.dtype != "auto":
        return DTYPES[settings.dtype]
    return torch.bfloat16 if _computes_in_bf16(device) else torch.float32


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # On other CPUs torch computes bfloat16 by conversion, slower than float32.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - no public name
