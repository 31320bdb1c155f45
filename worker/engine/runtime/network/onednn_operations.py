"""The operations of a CPU that multiplies in bfloat16: products with all that follows them in one pass.

The matrix products of such a CPU (AMX) are so fast that each pass over the memory beside them counts.
"""

import torch
from torch import Tensor

from worker.engine.runtime.network.operations import Linear, PortableOperations

#: With fewer tokens the products of all channels cost more than the copies that they save.
_FEW_TOKENS = 1024


def has_onednn() -> bool:
    """Whether torch has the products, which its own compiler uses and no public name has, and the CPU bfloat16."""
    products = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(products, "_linear_pointwise")
        and hasattr(products, "_reorder_linear_weight")
        and hasattr(products, "_is_mkldnn_bf16_supported")
        and bool(products._is_mkldnn_bf16_supported())  # noqa: SLF001 - no public name
    )


class OneDnnOperations(PortableOperations):
    """See `Operations`; tensors in bfloat16."""

    def prepare(self, linear: Linear) -> Linear:
        """See `Operations`. The blocks that the matrix unit reads; otherwise each product makes them anew.

        With few rows, as in the decoder, the blocks cost more than the product.
        """
        weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001 - no public name
            linear.weight.detach().contiguous()
        )
        return Linear(weight, linear.bias)

    def linear(self, hidden: Tensor, linear: Linear) -> Tensor:
        """See `Operations`. The bias is added by the product; `functional.linear` copies it to every row first."""
        return _product(hidden, linear, "none", "")

    def linear_gelu(self, hidden: Tensor, linear: Linear) -> Tensor:
        """See `Operations`. The GELU, by the error function, is that of the sum before it is rounded."""
        return _product(hidden, linear, "gelu", "none")

    def channel_attention(self, qkv: Tensor, groups: int) -> Tensor:
        """See `Operations`. One product of all channels with all, of which the groups are blocks.

        The other products are for nothing, but nothing is copied: the channels of a group lie apart.
        """
        tokens, channels = qkv.shape[1], qkv.shape[2] // 3
        if tokens < _FEW_TOKENS:
            return super().channel_attention(qkv, groups)
        return torch.stack([_attend_among_channels(image, groups, channels) for image in qkv])


def _product(hidden: Tensor, linear: Linear, then: str, algorithm: str) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - no public name
        hidden, linear.weight, linear.bias, then, [], algorithm
    )
    return product


def _attend_among_channels(qkv: Tensor, groups: int, channels: int) -> Tensor:
    """`[N, C]` of the tokens `[N, 3C]` of one image."""
    query, key, value = qkv.split(channels, -1)
    size = channels // groups
    every = (query.T @ key).view(groups, size, groups, size)
    weights = every.diagonal(dim1=0, dim2=2).permute(2, 0, 1).float() * len(qkv) ** -0.5
    blocks = torch.block_diag(*weights.softmax(-1).to(value.dtype))
    return value @ blocks.T
