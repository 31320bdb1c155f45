"""BART, the text model of Florence-2: the encoder, and the decoder one token at a time over static caches."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worker.engine.runtime.network.operations import Linear, Operations
from worker.engine.runtime.network.vision import linear_of, norm_of

#: Of BART's table of positions: its first rows are unused.
_POSITION_OFFSET = 2


def _joined(*modules: Any) -> Linear:
    """Linear layers with one input as one layer."""
    return Linear(torch.cat([module.weight for module in modules]), torch.cat([module.bias for module in modules]))


def _scale_of(embedding: Any) -> float:
    return float(getattr(embedding, "embed_scale", 1.0))


class _EncoderLayer:
    def __init__(self, module: Any, operations: Operations) -> None:
        attention = module.self_attn
        self._do = operations
        self._heads: int = attention.num_heads
        prepare = operations.prepare
        self._qkv = prepare(_joined(attention.q_proj, attention.k_proj, attention.v_proj))
        self._out, self._norm = prepare(linear_of(attention.out_proj)), norm_of(module.self_attn_layer_norm)
        # The prepared form of the second layer is slower than the plain one at the tokens of one image.
        self._widen, self._narrow = prepare(linear_of(module.fc1)), linear_of(module.fc2)
        self._last_norm = norm_of(module.final_layer_norm)

    def __call__(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        attended = self._do.encoder_attention(self._do.linear(hidden, self._qkv), self._heads, lengths)
        hidden = self._do.add_norm(self._do.linear(attended, self._out), hidden, self._norm)
        wide = self._do.linear_gelu(hidden, self._widen)
        return self._do.add_norm(self._do.linear(wide, self._narrow), hidden, self._last_norm)


class Encoder:
    """Reads the image tokens and the tokens of the prompt."""

    def __init__(self, encoder: Any, operations: Operations) -> None:
        self._do = operations
        self._embeddings: Tensor = encoder.embed_tokens.weight
        self._scale = _scale_of(encoder.embed_tokens)
        self._positions: Tensor = encoder.embed_positions.weight[_POSITION_OFFSET:]
        self._norm = norm_of(encoder.layernorm_embedding)
        self._layers = [_EncoderLayer(layer, operations) for layer in encoder.layers]

    def __call__(self, image: Tensor, prompts: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states `[B, S, C]`.

        Args:
            image: image tokens, `[B, N, C]`.
            prompts: int64 `[B, S - N]`, padded with any token.
            lengths: int32 `[B]`; the tokens of image and prompt without the padding.
        """
        words = self._embeddings[prompts] * self._scale if self._scale != 1 else self._embeddings[prompts]
        hidden = torch.cat([image, words], 1)
        hidden = self._do.norm(hidden + self._positions[: hidden.shape[1]], self._norm)
        for layer in self._layers:
            hidden = layer(hidden, lengths)
        return hidden


@dataclass(frozen=True, slots=True)
class Caches:
    """The keys and values of a decoder, one tensor per layer."""

    #: Keys and values of the tokens generated so far, `[R, T, C]`.
    keys: list[Tensor]
    values: list[Tensor]
    #: Keys, then values, of the image and the prompt, `[B, S, 2C]`.
    cross: list[Tensor]
    #: int32 `[B]`, of the second dimension of `cross`.
    lengths: Tensor
    #: int32 `[R, T]`; the row of `keys` that holds a position of a row's answer.
    ancestry: Tensor


class _DecoderLayer:
    def __init__(self, module: Any, operations: Operations) -> None:
        own, cross = module.self_attn, module.encoder_attn
        self._do = operations
        self._heads: int = own.num_heads
        prepare = operations.prepare
        self._qkv = prepare(_joined(own.q_proj, own.k_proj, own.v_proj))
        self._out, self._norm = prepare(linear_of(own.out_proj)), norm_of(module.self_attn_layer_norm)
        self._cross_query, self._cross_out = prepare(linear_of(cross.q_proj)), prepare(linear_of(cross.out_proj))
        self._cross_norm = norm_of(module.encoder_attn_layer_norm)
        self.cross_keys_and_values = prepare(_joined(cross.k_proj, cross.v_proj))
        self._widen, self._narrow = prepare(linear_of(module.fc1)), prepare(linear_of(module.fc2))
        self._last_norm = norm_of(module.final_layer_norm)

    def __call__(self, hidden: Tensor, positions: Tensor, caches: Caches, layer: int) -> Tensor:
        channels = hidden.shape[-1]
        attended = self._do.self_attention(
            self._do.linear(hidden, self._qkv),
            caches.keys[layer],
            caches.values[layer],
            self._heads,
            positions,
            caches.ancestry,
        )
        hidden = self._do.add_norm(self._do.linear(attended, self._out), hidden, self._norm)
        image_keys, image_values = caches.cross[layer].split(channels, -1)
        attended = self._do.cross_attention(
            self._do.linear(hidden, self._cross_query), image_keys, image_values, self._heads, caches.lengths
        )
        hidden = self._do.add_norm(self._do.linear(attended, self._cross_out), hidden, self._cross_norm)
        wide = self._do.linear_gelu(hidden, self._widen)
        return self._do.add_norm(self._do.linear(wide, self._narrow), hidden, self._last_norm)


class Decoder:
    """Writes an answer, one token of every row at a time."""

    def __init__(self, decoder: Any, head: Any, operations: Operations) -> None:
        self._do = operations
        self._embeddings: Tensor = decoder.embed_tokens.weight
        self._scale = _scale_of(decoder.embed_tokens)
        self._positions: Tensor = decoder.embed_positions.weight[_POSITION_OFFSET:]
        self._norm = norm_of(decoder.layernorm_embedding)
        self._layers = [_DecoderLayer(layer, operations) for layer in decoder.layers]
        self._head = operations.prepare(linear_of(head))

    @property
    def layers(self) -> int:
        """The number of layers."""
        return len(self._layers)

    def read(self, encoded: Tensor, slots: Tensor, cross: list[Tensor]) -> None:
        """Keep the keys and values of the encoder's hidden states.

        Args:
            encoded: `[B, S, C]`.
            slots: int64 `[B]`, the place of each in `cross`.
            cross: one `[slots, S or more, 2C]` per layer.
        """
        tokens = encoded.shape[1]
        for layer, out in zip(self._layers, cross, strict=True):
            out[:, :tokens].index_copy_(0, slots, self._do.linear(encoded, layer.cross_keys_and_values))

    def step(self, tokens: Tensor, positions: Tensor, caches: Caches) -> Tensor:
        """Logits `[R, vocabulary]` behind the tokens, int64 `[R]`, at their positions `[R]`; fills the caches."""
        return self._do.linear(self.fill(tokens, positions, caches), self._head)

    def fill(self, tokens: Tensor, positions: Tensor, caches: Caches) -> Tensor:
        """Hidden states `[R, C]` of the tokens; fills the caches at the positions."""
        words = self._embeddings[tokens] * self._scale if self._scale != 1 else self._embeddings[tokens]
        hidden = self._do.norm(words + self._positions.index_select(0, positions), self._norm)
        for number, layer in enumerate(self._layers):
            hidden = layer(hidden, positions, caches, number)
        return hidden
