"""The products of a CPU that computes in bfloat16 against plain torch, in the shapes of Florence-2-base."""

import pytest
import torch
from torch import Tensor, float64

from worker.engine.runtime.florence import cpu_operations
from worker.engine.runtime.network.onednn_operations import OneDnnOperations, has_onednn
from worker.engine.runtime.network.operations import Linear, PortableOperations

_ONEDNN, _PORTABLE = OneDnnOperations(), PortableOperations()
#: Tokens, channels and groups of three stages of the vision tower; the last has few tokens.
_STAGES = [(2304, 512, 16), (1024, 256, 8), (576, 1024, 32)]


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """What the CPU multiplies."""
    if request.param == "bfloat16" and not has_onednn():
        pytest.skip("this CPU does not multiply in bfloat16")
    torch.manual_seed(0)
    return torch.float32 if request.param == "float32" else torch.bfloat16


def random(*shape: int, scale: float = 1.0, dtype: torch.dtype) -> Tensor:
    return (torch.randn(shape) * scale).to(dtype)


def assert_as_exact(found: Tensor, portable: Tensor, exact: Tensor) -> None:
    """The largest error is twice that of plain torch in the same dtype, and a rounding, at most."""
    assert found.dtype == portable.dtype
    assert found.shape == portable.shape == exact.shape
    rounding = torch.finfo(found.dtype).eps * float(exact.abs().max())
    allowed = 2 * float((portable.to(float64) - exact).abs().max()) + rounding
    assert float((found.to(float64) - exact).abs().max()) <= allowed


@pytest.mark.parametrize("shape", [(1, 12, 12, 128), (2, 7, 256), (3, 64)], ids=str)
@pytest.mark.parametrize("name", ["linear", "linear_gelu"])
@pytest.mark.parametrize("is_prepared", [False, True])
@torch.inference_mode()
def test_products_with_what_follows(
    dtype: torch.dtype, shape: tuple[int, ...], name: str, is_prepared: bool
) -> None:
    """A linear layer, alone and with GELU, of any number of dimensions; the values reach both ends of GELU.

    The layer is plain, or in the layout of the products.
    """
    hidden = random(*shape, dtype=dtype)
    weight, bias = random(96, shape[-1], scale=0.2, dtype=dtype), random(96, dtype=dtype)
    exact = getattr(_PORTABLE, name)(hidden.to(float64), Linear(weight.to(float64), bias.to(float64)))
    plain = Linear(weight, bias)
    found = getattr(_ONEDNN, name)(hidden, _ONEDNN.prepare(plain) if is_prepared else plain)
    portable = getattr(_PORTABLE, name)(hidden, plain)
    assert float(exact.max()) > 4
    assert_as_exact(found, portable, exact)


@pytest.mark.parametrize(("tokens", "channels", "groups"), _STAGES)
@torch.inference_mode()
def test_channel_attention(dtype: torch.dtype, tokens: int, channels: int, groups: int) -> None:
    """The channels of a group attend to those of the same group alone; two images do not mix."""
    qkv = random(2, tokens, 3 * channels, dtype=dtype)
    # Else all weights are nearly equal: each of the products is a mean over all tokens.
    qkv[:, :, : 2 * channels] *= 3
    exact = _PORTABLE.channel_attention(qkv.to(float64), groups)
    found, portable = (each.channel_attention(qkv, groups) for each in (_ONEDNN, _PORTABLE))
    assert_as_exact(found, portable, exact)
    alone = torch.cat([_ONEDNN.channel_attention(image[None], groups) for image in qkv])
    assert torch.equal(found, alone)


def test_a_cpu_chooses_by_its_dtype() -> None:
    """float32 is plain torch, whose answers are those of transformers to the token."""
    assert type(cpu_operations(torch.float32)) is PortableOperations
    expected = OneDnnOperations if has_onednn() else PortableOperations
    assert type(cpu_operations(torch.bfloat16)) is expected
