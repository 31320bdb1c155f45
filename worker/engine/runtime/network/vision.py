"""DaViT, the vision tower of Florence-2, with the projection to the text model's width."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.engine.runtime.network.operations import Linear, Mix, Norm, Operations, Stem


def linear_of(module: nn.Linear) -> Linear:
    """The tensors of a linear layer."""
    return Linear(module.weight, module.bias)


def norm_of(module: nn.LayerNorm) -> Norm:
    """The tensors of a layer norm."""
    return Norm(module.weight, module.bias, module.eps)


def _mix_of(conv: nn.Conv2d, norm: nn.LayerNorm, following: nn.Linear) -> Mix:
    taps = conv.weight.flatten(1).T.contiguous()
    weight = conv.weight.contiguous(memory_format=torch.channels_last)
    bias, next_bias = conv.bias, following.bias
    if bias is None or next_bias is None:
        raise ValueError("a depthwise convolution or a projection of the checkpoint has no bias")
    return Mix(weight, bias, taps, norm_of(norm), next_bias)


def _stem_of(module: Any, scale: Tensor, shift: Tensor) -> Stem:
    weight = module.conv.weight
    flat = weight.permute(0, 2, 3, 1).flatten(1)
    flat = functional.pad(flat, (0, -flat.shape[1] % 16)).contiguous()
    return Stem(
        scale, shift, weight.contiguous(memory_format=torch.channels_last), module.conv.bias, flat, module.stride,
        module.padding,
    )  # fmt: skip


class _Embedding:
    """A convolution with a stride that begins a stage behind the first one; its norm is before or behind."""

    def __init__(self, module: Any, operations: Operations) -> None:
        self._do = operations
        self._weight = module.conv.weight.contiguous(memory_format=torch.channels_last)
        self._bias = module.conv.bias
        self._stride, self._padding = module.stride, module.padding
        self._norm, self._norm_is_before = norm_of(module.norm), bool(module.pre_norm)

    def __call__(self, hidden: Tensor) -> Tensor:
        if self._norm_is_before:
            hidden = self._do.norm(hidden, self._norm)
        image = hidden.permute(0, 3, 1, 2)
        embedded = functional.conv2d(image, self._weight, self._bias, self._stride, self._padding)
        hidden = embedded.permute(0, 2, 3, 1).contiguous()
        return hidden if self._norm_is_before else self._do.norm(hidden, self._norm)


@dataclass(frozen=True, slots=True)
class _Attention:
    qkv: Linear
    projection: Linear
    #: Heads of a window, or groups of channels.
    heads: int
    #: Tokens per side; 0: attention among channels.
    window: int


class _Block:
    """Attention, inside windows or among channels, then the feed-forward layers; each behind a convolution."""

    def __init__(self, module: Any, operations: Operations) -> None:
        self._do = operations
        spatial = hasattr(module, "window_attn")
        attention = module.window_attn if spatial else module.channel_attn
        self._attention = _Attention(
            operations.prepare(linear_of(attention.qkv)),
            linear_of(attention.proj),
            attention.num_heads if spatial else attention.groups,
            attention.window_size if spatial else 0,
        )
        self._mix_attention = _mix_of(module.conv1, module.norm1, attention.proj)
        self._mix_feed = _mix_of(module.conv2, module.norm2, module.ffn.fc2)
        self._widen, self._narrow = operations.prepare(linear_of(module.ffn.fc1)), linear_of(module.ffn.fc2)

    def __call__(self, hidden: Tensor) -> Tensor:
        residual, normed = self._do.mix(hidden, self._mix_attention)
        attended = self._in_windows(normed) if self._attention.window else self._among_channels(normed)
        self._attention.projection.add_to(residual, attended)
        residual, normed = self._do.mix(residual, self._mix_feed)
        self._narrow.add_to(residual, self._do.linear_gelu(normed, self._widen))
        return residual

    def _in_windows(self, normed: Tensor) -> Tensor:
        height, width = normed.shape[1:3]
        window = self._attention.window
        down, right = -height % window, -width % window
        if down or right:
            # The padding takes part in the attention, as it did in training.
            normed = functional.pad(normed, (0, 0, 0, right, 0, down))
        attended = self._do.window_attention(self._qkv(normed), self._attention.heads, window)
        return attended[:, :height, :width]

    def _among_channels(self, normed: Tensor) -> Tensor:
        return self._do.channel_attention(self._qkv(normed).flatten(1, 2), self._attention.heads)

    def _qkv(self, normed: Tensor) -> Tensor:
        return self._do.linear(normed, self._attention.qkv)


class VisionTower:
    """From pixels to the image tokens of the text model."""

    def __init__(self, model: Any, scale: Tensor, shift: Tensor, operations: Operations) -> None:
        """Take the tensors of a `Florence2Model`.

        Args:
            model: its `vision_tower` and `multi_modal_projector` are read.
            scale: float32 `[3]`; `pixels * scale + shift` are the values that the tower takes.
            shift: float32 `[3]`.
            operations: of the device.
        """
        tower, projector = model.vision_tower, model.multi_modal_projector
        first, *later = tower.convs
        if first.pre_norm:
            raise ValueError("the first norm of the vision tower is before the first convolution")
        self._do = operations
        self._stem, self._stem_norm = _stem_of(first, scale, shift), norm_of(first.norm)
        self._embeddings = [None, *(_Embedding(module, operations) for module in later)]
        self._stages = [
            [_Block(half, operations) for block in blocks for half in (block.spatial_block, block.channel_block)]
            for blocks in tower.blocks
        ]
        self._rows = projector.image_position_embed.row_embeddings.weight
        self._columns = projector.image_position_embed.column_embeddings.weight
        self._temporal = projector.visual_temporal_embed.pos_idx_to_embed[0].to(first.conv.weight.dtype)
        self._projection = operations.prepare(linear_of(projector.image_projection))
        self._norm = norm_of(projector.image_proj_norm)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Image tokens `[B, 1 + H·W, C]` of uint8 pixels `[B, size, size, 3]`; the first token is the mean."""
        hidden = self._do.norm(self._do.embed_pixels(pixels, self._stem), self._stem_norm)
        for embedding, blocks in zip(self._embeddings, self._stages, strict=True):
            hidden = embedding(hidden) if embedding else hidden
            for block in blocks:
                hidden = block(hidden)
        return self._project(hidden)

    def _project(self, hidden: Tensor) -> Tensor:
        _, height, width, _ = hidden.shape
        columns = self._columns[:width].expand(height, -1, -1)
        rows = self._rows[:height, None].expand(-1, width, -1)
        tokens = (hidden + (torch.cat([columns, rows], -1) + self._temporal)).flatten(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        return self._do.norm(self._do.linear(tokens, self._projection), self._norm)
