"""Chooses where the model runs and in which arithmetic, by what is there."""

import re

import torch

from dropline.errors import SettingsError
from dropline.settings import EngineSettings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


def choose_device(settings: EngineSettings) -> torch.device:
    """The device that the settings name; else the first GPU, else the processor.

    Raises:
        SettingsError: there is no such device.
    """
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not _DEVICE.fullmatch(settings.device):
        raise SettingsError(
            f"DROPLINE_ENGINE__DEVICE is {settings.device!r}, but must be auto, cpu, cuda or cuda:N"
        )
    device = torch.device(settings.device)
    gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise SettingsError(
            f"DROPLINE_ENGINE__DEVICE is {settings.device!r}, but torch {torch.__version__} sees {gpus} CUDA "
            "devices; check the driver and CUDA_VISIBLE_DEVICES, or set it to auto"
        )
    return device


def choose_dtype(settings: EngineSettings, device: torch.device) -> torch.dtype:
    """The dtype that the settings name; else bfloat16 where the device computes in it, else float32."""
    if settings.dtype != "auto":
        return _DTYPES[settings.dtype]
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bf16() -> bool:
    # Elsewhere torch computes bfloat16 by conversion, slower than float32.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - no public name
