"""The operations that a device does in its own way, and their portable form in plain torch.

Shapes: B images, H rows and W columns of tokens, C channels, S tokens of the encoder, R rows of the decoder
(images × beams), T positions of the decoder. Images stay channels-last from the first to the last layer.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm: weight and bias `[C]`."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, hidden: Tensor) -> Tensor:
        """The normalised values over the last dimension."""
        return functional.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer: weight `[out, in]`, bias `[out]` or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, hidden: Tensor) -> Tensor:
        """`hidden @ weight.T + bias`."""
        return functional.linear(hidden, self.weight, self.bias)

    def add_to(self, residual: Tensor, hidden: Tensor) -> None:
        """Add `hidden @ weight.T` to `residual`, in place and without the bias: the product needs no memory."""
        residual.view(-1, residual.shape[-1]).addmm_(hidden.reshape(-1, hidden.shape[-1]), self.weight.T)


@dataclass(frozen=True, slots=True)
class Mix:
    """A depthwise convolution of 3 × 3 with its residual, and the layer norm that follows."""

    #: `[C, 1, 3, 3]`.
    weight: Tensor
    bias: Tensor
    #: The same weight as `[9, C]`, row by row.
    taps: Tensor
    norm: Norm
    #: `[C]`, added to the residual behind the norm: the bias of the layer that is added next.
    next_bias: Tensor


@dataclass(frozen=True, slots=True)
class Stem:
    """The first convolution, from pixels, with the normalisation of their values."""

    #: float32 `[3]` each: the convolution takes `pixels * scale + shift`.
    scale: Tensor
    shift: Tensor
    #: `[C, 3, side, side]`.
    weight: Tensor
    bias: Tensor
    #: The same weight as `[C, columns]`: line, column, colour; zeros up to a multiple of 16 columns.
    flat_weight: Tensor
    stride: int
    padding: int

    @property
    def side(self) -> int:
        """Pixels per side of a patch."""
        return self.weight.shape[-1]


class Operations(Protocol):
    """One implementation per kind of device."""

    def prepare(self, linear: Linear) -> Linear:
        """The layer in the layout that is best for `linear` and `linear_gelu`, which alone take it then."""
        ...

    def norm(self, hidden: Tensor, norm: Norm) -> Tensor:
        """The normalised values over the last dimension."""
        ...

    def embed_pixels(self, pixels: Tensor, stem: Stem) -> Tensor:
        """The embedded patches `[B, H, W, C]` of uint8 pixels `[B, height, width, 3]`."""
        ...

    def mix(self, hidden: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
        """Convolve `[B, H, W, C]`; returns the residual with the next layer's bias, and the normalised values."""
        ...

    def window_attention(self, qkv: Tensor, heads: int, window: int) -> Tensor:
        """Attention inside windows of `[B, H, W, 3C]`, H and W multiples of `window`; returns `[B, H, W, C]`."""
        ...

    def channel_attention(self, qkv: Tensor, groups: int) -> Tensor:
        """Attention among the channels of each group over all tokens of `[B, N, 3C]`; returns `[B, N, C]`."""
        ...

    def linear(self, hidden: Tensor, linear: Linear) -> Tensor:
        """A linear layer."""
        ...

    def linear_gelu(self, hidden: Tensor, linear: Linear) -> Tensor:
        """A linear layer and GELU."""
        ...

    def add_norm(self, hidden: Tensor, residual: Tensor, norm: Norm) -> Tensor:
        """The normalised sum."""
        ...

    def encoder_attention(self, qkv: Tensor, heads: int, lengths: Tensor) -> Tensor:
        """Attention among the first `lengths[b]` tokens of `[B, S, 3C]`; returns `[B, S, C]`."""
        ...

    def self_attention(
        self, qkv: Tensor, keys: Tensor, values: Tensor, heads: int, positions: Tensor, ancestry: Tensor
    ) -> Tensor:
        """Attention of one token per row to itself and the tokens before it; keeps its keys and values.

        Args:
            qkv: query, key and value of the token, `[R, 3C]`.
            keys: `[R, T, C]`, filled before a row's position; this call fills the position.
            values: as `keys`.
            heads: of the attention.
            positions: int64 `[R]`, of each row's token.
            ancestry: int32 `[R, T]`; the row in `keys` and `values` that holds each position of a row's answer.

        Returns:
            `[R, C]`.
        """
        ...

    def most_likely(
        self, logits: Tensor, banned: Tensor, tokens: Tensor, positions: Tensor, ngram: int
    ) -> tuple[Tensor, Tensor]:
        """The most likely token of every row, int64 `[R]`, and whether its logits are no answer, bool `[R]`.

        Args:
            logits: `[R, vocabulary]`; may be changed.
            banned: bool `[R, vocabulary]`.
            tokens: int64 `[R, T]`, the answers so far, filled up to the row's position.
            positions: int64 `[R]`.
            ngram: no run of so many tokens comes twice; 0: any may.
        """
        ...

    def cross_attention(self, query: Tensor, keys: Tensor, values: Tensor, heads: int, lengths: Tensor) -> Tensor:
        """Attention of one token per row to its image.

        Args:
            query: `[R, C]`; the rows of one image follow one another.
            keys: `[B, S, C]`, finite; may be a view with strides.
            values: as `keys`.
            heads: of the attention.
            lengths: int32 `[B]`, of the images' tokens.

        Returns:
            `[R, C]`.
        """
        ...


class PortableOperations:
    """Plain torch, for CPUs and for comparison."""

    def prepare(self, linear: Linear) -> Linear:
        """See `Operations`."""
        return linear

    def norm(self, hidden: Tensor, norm: Norm) -> Tensor:
        """See `Operations`."""
        return norm(hidden)

    def embed_pixels(self, pixels: Tensor, stem: Stem) -> Tensor:
        """See `Operations`."""
        image = (pixels * stem.scale + stem.shift).to(stem.weight.dtype).permute(0, 3, 1, 2)
        embedded = functional.conv2d(image, stem.weight, stem.bias, stem.stride, stem.padding)
        return embedded.permute(0, 2, 3, 1).contiguous()

    def mix(self, hidden: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
        """See `Operations`."""
        image = hidden.permute(0, 3, 1, 2)
        mixed = functional.conv2d(image, mix.weight, mix.bias, padding=1, groups=image.shape[1])
        residual = mixed.permute(0, 2, 3, 1) + hidden
        normed = mix.norm(residual)
        return residual.add_(mix.next_bias), normed

    def window_attention(self, qkv: Tensor, heads: int, window: int) -> Tensor:
        """See `Operations`."""
        batch, height, width, triple = qkv.shape
        channels = triple // 3
        down, across, tokens = height // window, width // window, window * window
        windows = qkv.view(batch, down, window, across, window, 3, heads, channels // heads)
        # Query, key and value; image; window; head; token of the window; feature.
        query, key, value = (
            part.reshape(batch * down * across, heads, tokens, channels // heads)
            for part in windows.permute(5, 0, 1, 3, 6, 2, 4, 7)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = attended.view(batch, down, across, heads, window, window, channels // heads)
        return attended.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, channels)

    def channel_attention(self, qkv: Tensor, groups: int) -> Tensor:
        """See `Operations`."""
        batch, tokens, triple = qkv.shape
        size = triple // 3 // groups
        query, key, value = qkv.view(batch, tokens, 3, groups, size).permute(2, 0, 3, 1, 4)
        weights = (query.transpose(-1, -2) * tokens**-0.5) @ key
        attended = value @ weights.float().softmax(-1).to(value.dtype).transpose(-1, -2)
        return attended.transpose(1, 2).reshape(batch, tokens, groups * size)

    def linear(self, hidden: Tensor, linear: Linear) -> Tensor:
        """See `Operations`."""
        return linear(hidden)

    def linear_gelu(self, hidden: Tensor, linear: Linear) -> Tensor:
        """See `Operations`."""
        return functional.gelu(linear(hidden))

    def add_norm(self, hidden: Tensor, residual: Tensor, norm: Norm) -> Tensor:
        """See `Operations`."""
        return norm(hidden + residual)

    def encoder_attention(self, qkv: Tensor, heads: int, lengths: Tensor) -> Tensor:
        """See `Operations`."""
        batch, tokens, triple = qkv.shape
        query, key, value = qkv.view(batch, tokens, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, _mask(lengths, tokens))
        return attended.transpose(1, 2).reshape(batch, tokens, triple // 3)

    def self_attention(
        self, qkv: Tensor, keys: Tensor, values: Tensor, heads: int, positions: Tensor, ancestry: Tensor
    ) -> Tensor:
        """See `Operations`."""
        rows, triple = qkv.shape
        channels, length = triple // 3, int(positions.max()) + 1
        query, key, value = qkv.split(channels, -1)
        places = torch.arange(rows, device=qkv.device), positions
        keys[places], values[places] = key, value
        steps = torch.arange(length, device=qkv.device)
        own = ancestry[:, :length].long(), steps
        key, value = (part[own] for part in (keys, values))
        mask = None
        if int(positions.min()) + 1 < length:
            mask = steps <= positions[:, None]
            # Behind a row's position is anything: a weight of zero does not take away what is not finite.
            for part in (key, value):
                part.masked_fill_(~mask[:, :, None], 0)
            mask = mask[:, None, None]
        shape = (rows, length, heads, channels // heads)
        key, value = key.view(shape).transpose(1, 2), value.view(shape).transpose(1, 2)
        query = query.reshape(rows, heads, 1, -1)
        return functional.scaled_dot_product_attention(query, key, value, mask).reshape(rows, channels)

    def most_likely(
        self, logits: Tensor, banned: Tensor, tokens: Tensor, positions: Tensor, ngram: int
    ) -> tuple[Tensor, Tensor]:
        """See `Operations`."""
        scores, broken = allowed_scores(logits.float(), banned, tokens, positions, ngram)
        return scores.argmax(-1), broken

    def cross_attention(self, query: Tensor, keys: Tensor, values: Tensor, heads: int, lengths: Tensor) -> Tensor:
        """See `Operations`."""
        images, tokens = len(keys), int(lengths.max())
        rows, channels = query.shape
        size = channels // heads
        key, value = (part[:, :tokens].unflatten(-1, (heads, size)).transpose(1, 2) for part in (keys, values))
        asked = query.view(images, rows // images, heads, size).transpose(1, 2)
        attended = functional.scaled_dot_product_attention(asked, key, value, _mask(lengths, tokens))
        return attended.transpose(1, 2).reshape(rows, channels)


def allowed_scores(
    scores: Tensor, banned: Tensor, tokens: Tensor, positions: Tensor, ngram: int
) -> tuple[Tensor, Tensor]:
    """The scores, float32 `[R, vocabulary]`, minus infinity for tokens that the rules forbid; in place.

    Returns:
        The scores, and bool `[R]`: True where the scores are no answer, not finite or all forbidden.
    """
    scores = scores.masked_fill_(banned, -torch.inf)
    broken = ~torch.isfinite(scores.amax(-1))
    if 0 < ngram <= tokens.shape[1]:
        _ban_repetitions(scores, tokens, positions, ngram)
        broken |= torch.isneginf(scores.amax(-1))
    return scores, broken


def _ban_repetitions(scores: Tensor, tokens: Tensor, positions: Tensor, ngram: int) -> None:
    count = tokens.shape[1] - ngram + 1
    # A run that does not end at or before the row's position is compared with nothing.
    same = torch.arange(count, device=scores.device)[None] + ngram - 1 <= positions[:, None]
    for offset in range(ngram - 1):
        index = (positions - (ngram - 2) + offset).clamp(min=0)
        same = same & (tokens[:, offset : offset + count] == tokens.gather(1, index[:, None]))
    penalty = torch.full_like(same, torch.inf, dtype=scores.dtype).masked_fill_(same, -torch.inf)
    scores.scatter_reduce_(1, tokens[:, ngram - 1 :], penalty, "amin")


def _mask(lengths: Tensor, tokens: int) -> Tensor | None:
    """bool `[B, 1, 1, S]`, True for the tokens that count; None if all count."""
    if int(lengths.min()) == tokens:
        return None
    return (torch.arange(tokens, device=lengths.device) < lengths[:, None])[:, None, None]
