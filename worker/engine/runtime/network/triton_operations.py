"""The operations on a GPU: one pass over the memory for each, in place of many. Needs Triton."""

import torch
import triton
from torch import Tensor, empty, empty_like, float32, int32
from torch.nn import functional

from worker.engine.runtime.network import triton_kernels as kernels
from worker.engine.runtime.network.operations import Linear, Mix, Norm, Stem

#: Programs of the first half of channel attention for one group of one image.
_SPLITS = 16
#: Programs that look for the best token of one row.
_PARTS = 16
#: Values of one line in a program of `mix`; with one warp for up to 512 channels, a norm needs no barrier.
_MIX_VALUES = 1024
#: Tokens of a block of attention in float32: larger blocks exceed the shared memory or registers of most GPUs.
_FLOAT32_TOKENS = 32


class TritonOperations:
    """See `Operations`; inputs are contiguous unless stated there."""

    def prepare(self, linear: Linear) -> Linear:
        """See `Operations`."""
        return linear

    def norm(self, hidden: Tensor, norm: Norm) -> Tensor:
        """See `Operations`."""
        channels = hidden.shape[-1]
        rows, block = hidden.numel() // channels, triton.next_power_of_2(channels)
        out = empty_like(hidden)
        each = max(1, 2048 // block)
        kernels.norm[(triton.cdiv(rows, each),)](
            hidden, norm.weight, norm.bias, out, rows, norm.epsilon, CHANNELS=channels, BLOCK=block, ROWS=each,
            num_warps=4,
        )  # fmt: skip
        return out

    def embed_pixels(self, pixels: Tensor, stem: Stem) -> Tensor:
        """See `Operations`."""
        batch, height, width, _ = pixels.shape
        down, across = ((length + 2 * stem.padding - stem.side) // stem.stride + 1 for length in (height, width))
        columns = stem.flat_weight.shape[1]
        patches = empty((batch, down, across, columns), dtype=stem.flat_weight.dtype, device=pixels.device)
        count, each = batch * down * across, 16
        kernels.patches[(triton.cdiv(count, each),)](
            pixels, stem.scale, stem.shift, patches, count, height, width, down, across, SIDE=stem.side,
            STRIDE=stem.stride, PADDING=stem.padding, COLUMNS=columns, BLOCK=triton.next_power_of_2(columns),
            PATCHES=each, num_warps=4,
        )  # fmt: skip
        return functional.linear(patches, stem.flat_weight, stem.bias)

    def mix(self, hidden: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
        """See `Operations`."""
        batch, height, width, channels = hidden.shape
        residual, normed = empty_like(hidden), empty_like(hidden)
        block = triton.next_power_of_2(channels)
        pixels = max(1, _MIX_VALUES // block)
        kernels.mix[(batch * triton.cdiv(height, 2), triton.cdiv(width, pixels))](
            hidden, mix.taps, mix.bias, mix.norm.weight, mix.norm.bias, mix.next_bias, residual, normed,
            height, width, mix.norm.epsilon, CHANNELS=channels, BLOCK=block, PIXELS=pixels,
            num_warps=1 if block <= 512 else 2,
        )  # fmt: skip
        return residual, normed

    def window_attention(self, qkv: Tensor, heads: int, window: int) -> Tensor:
        """See `Operations`."""
        batch, height, width, triple = qkv.shape
        channels = triple // 3
        size = channels // heads
        out = empty((batch, height, width, channels), dtype=qkv.dtype, device=qkv.device)
        windows = batch * (height // window) * (width // window)
        tokens = max(16, window * window)
        queries = min(64, int(triton.next_power_of_2(tokens)))
        # 144 tokens are 128 and 16: a block of 256 would compute for nothing.
        keys = int(triton.next_power_of_2(tokens + 1)) // 2
        more = max(16, int(triton.next_power_of_2(tokens - keys))) if tokens > keys else 0
        kernels.window_attention[(windows, heads, triton.cdiv(window * window, queries))](
            qkv, out, height, width, size**-0.5, CHANNELS=channels, SIZE=size, SIZE_BLOCK=_padded(size),
            WINDOW=window, QUERIES=queries, KEYS=keys, MORE_KEYS=more, num_warps=4,
        )  # fmt: skip
        return out

    def channel_attention(self, qkv: Tensor, groups: int) -> Tensor:
        """See `Operations`."""
        batch, tokens, triple = qkv.shape
        channels = triple // 3
        size = channels // groups
        block = _padded(size)
        partial = empty((batch, groups, _SPLITS, block, block), dtype=float32, device=qkv.device)
        each = triton.cdiv(tokens, _SPLITS)
        kernels.channel_products[(batch, groups, _SPLITS)](
            qkv, partial, tokens, each, CHANNELS=channels, SIZE=size, SIZE_BLOCK=block, BLOCK=128, num_warps=4
        )
        out = empty((batch, tokens, channels), dtype=qkv.dtype, device=qkv.device)
        kernels.channel_mixing[(batch, groups, triton.cdiv(tokens, 256))](
            qkv, partial, out, tokens, tokens**-0.5, CHANNELS=channels, SIZE=size, SIZE_BLOCK=block, BLOCK=256,
            SPLITS=_SPLITS, num_warps=4,
        )  # fmt: skip
        return out

    def linear(self, hidden: Tensor, linear: Linear) -> Tensor:
        """See `Operations`."""
        return linear(hidden)

    def linear_gelu(self, hidden: Tensor, linear: Linear) -> Tensor:
        """See `Operations`."""
        if hidden.dtype == float32 or linear.bias is None:
            return functional.gelu(linear(hidden))
        # The GELU by tanh in the product's own kernel differs from GELU by less than bfloat16 rounds.
        wide = torch._addmm_activation(  # noqa: SLF001 - torch has no public name for it
            linear.bias, hidden.flatten(0, -2), linear.weight.T, use_gelu=True
        )
        return wide.view(*hidden.shape[:-1], -1)

    def add_norm(self, hidden: Tensor, residual: Tensor, norm: Norm) -> Tensor:
        """See `Operations`."""
        channels = hidden.shape[-1]
        out = empty_like(hidden)
        kernels.add_norm[(hidden.numel() // channels,)](
            hidden, residual, norm.weight, norm.bias, out, norm.epsilon, CHANNELS=channels,
            BLOCK=triton.next_power_of_2(channels), num_warps=4,
        )  # fmt: skip
        return out

    def encoder_attention(self, qkv: Tensor, heads: int, lengths: Tensor) -> Tensor:
        """See `Operations`."""
        batch, tokens, triple = qkv.shape
        channels = triple // 3
        size = channels // heads
        out = empty((batch, tokens, channels), dtype=qkv.dtype, device=qkv.device)
        queries, keys = (_FLOAT32_TOKENS, _FLOAT32_TOKENS) if qkv.dtype == float32 else (128, 64)
        kernels.encoder_attention[(triton.cdiv(tokens, queries), batch, heads)](
            qkv, out, lengths, tokens, size**-0.5, CHANNELS=channels, SIZE=size, SIZE_BLOCK=_padded(size),
            QUERIES=queries, KEYS=keys, num_warps=4, num_stages=3,
        )  # fmt: skip
        return out

    def self_attention(
        self, qkv: Tensor, keys: Tensor, values: Tensor, heads: int, positions: Tensor, ancestry: Tensor
    ) -> Tensor:
        """See `Operations`."""
        rows, triple = qkv.shape
        channels = triple // 3
        size = channels // heads
        out = empty((rows, channels), dtype=qkv.dtype, device=qkv.device)
        kernels.self_attention[(rows, heads)](
            qkv, keys, values, positions, ancestry, out, keys.shape[1], size**-0.5, CHANNELS=channels, SIZE=size,
            SIZE_BLOCK=_padded(size), KEYS=32, num_warps=2,
        )  # fmt: skip
        return out

    def cross_attention(self, query: Tensor, keys: Tensor, values: Tensor, heads: int, lengths: Tensor) -> Tensor:
        """See `Operations`."""
        rows, channels = query.shape
        size, images = channels // heads, keys.shape[0]
        out = empty_like(query)
        block = _FLOAT32_TOKENS if query.dtype == float32 else 128
        kernels.cross_attention[(images, heads)](
            query, keys, values, lengths, out, size**-0.5, keys.stride(0), keys.stride(1), CHANNELS=channels,
            SIZE=size, SIZE_BLOCK=_padded(size), BEAMS=rows // images, KEYS=block, num_warps=4,
        )  # fmt: skip
        return out

    def most_likely(
        self, logits: Tensor, banned: Tensor, tokens: Tensor, positions: Tensor, ngram: int
    ) -> tuple[Tensor, Tensor]:
        """See `Operations`."""
        rows, vocabulary = logits.shape
        if ngram:
            kernels.ban[(rows,)](
                logits, tokens, positions, tokens.shape[1], vocabulary, NGRAM=ngram, BLOCK=128, num_warps=2
            )
        shape = (rows, _PARTS)
        values = empty(shape, dtype=float32, device=logits.device)
        places, broken = (empty(shape, dtype=int32, device=logits.device) for _ in range(2))
        kernels.best[shape](
            logits, banned, values, places, broken, vocabulary, triton.cdiv(vocabulary, _PARTS), BLOCK=1024,
            num_warps=4,
        )  # fmt: skip
        largest, part = values.max(1)
        chosen = places.gather(1, part[:, None])[:, 0].long()
        return chosen, broken.any(1) | torch.isneginf(largest)


def _padded(size: int) -> int:
    """A block for the features of a head: matrix units take 16 at least."""
    return max(16, int(triton.next_power_of_2(size)))
