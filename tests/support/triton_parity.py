"""Compares the Triton kernels with the portable operations: `python -m tests.support.triton_parity`.

On a GPU in bfloat16; without one with TRITON_INTERPRET=1, which runs the kernels on the CPU in float32. Exits with
an error at the first difference.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worker.engine.runtime.network.operations import Linear, Mix, Norm, PortableOperations, Stem
from worker.engine.runtime.network.triton_operations import TritonOperations

_ON_GPU = torch.cuda.is_available()
_DEVICE = torch.device("cuda" if _ON_GPU else "cpu")
_DTYPE = torch.bfloat16 if _ON_GPU else torch.float32
#: ‖found − expected‖ / ‖expected‖.
_LARGEST_ERROR = 1e-2 if _ON_GPU else 1e-5
_PORTABLE, _TRITON = PortableOperations(), TritonOperations()


def _random(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, device=_DEVICE) * scale).to(_DTYPE)


def _compare(name: str, call: Callable[[Any], Any]) -> None:
    """Call with both implementations; `call` returns a tensor or a tuple of tensors."""
    found, expected = call(_TRITON), call(_PORTABLE)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    for one, other in pairs:
        error = float((one.float() - other.float()).norm() / other.float().norm())
        print(f"{name} {tuple(one.shape)}: {error:.1e}")
        if not error <= _LARGEST_ERROR:
            raise SystemExit(f"{name}: the error is {error:.1e}, more than {_LARGEST_ERROR:.0e}")


def _norm(channels: int) -> Norm:
    return Norm(_random(channels), _random(channels), 1e-5)


def vision(batch: int, height: int, width: int, channels: int, heads: int, window: int) -> None:
    """The operations of the vision tower."""
    weight = _random(channels, 1, 3, 3, scale=0.3)
    taps = weight.flatten(1).T.contiguous()
    mix = Mix(weight, _random(channels), taps, _norm(channels), _random(channels))
    hidden, qkv = _random(batch, height, width, channels), _random(batch, height, width, 3 * channels)
    _compare("mix", lambda do: do.mix(hidden.clone(), mix))
    if height % window == 0 and width % window == 0:
        _compare("window_attention", lambda do: do.window_attention(qkv, heads, window))
    _compare("channel_attention", lambda do: do.channel_attention(qkv.flatten(1, 2), heads))
    norm = _norm(channels)
    _compare("norm", lambda do: do.norm(hidden, norm))


def stem(batch: int, size: int) -> None:
    """The embedding of pixels."""
    weight = _random(16, 3, 7, 7, scale=0.2)
    flat = torch.nn.functional.pad(weight.permute(0, 2, 3, 1).flatten(1), (0, 13)).contiguous()
    scale, shift = torch.rand(3, device=_DEVICE) / 50, torch.rand(3, device=_DEVICE) - 2
    first = Stem(scale, shift, weight, _random(16), flat, stride=4, padding=3)
    pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, device=_DEVICE)
    _compare("embed_pixels", lambda do: do.embed_pixels(pixels, first))


def text(images: int, tokens: int, channels: int, heads: int, beams: int, positions: int) -> None:
    """The operations of encoder and decoder."""
    lengths = torch.tensor([tokens - 3 * image for image in range(images)], dtype=torch.int32, device=_DEVICE)
    qkv, shortest = _random(images, tokens, 3 * channels), int(lengths.min())
    _compare("encoder_attention", lambda do: do.encoder_attention(qkv, heads, lengths)[:, :shortest])
    rows = images * beams
    keys, values = _random(images, tokens, 2 * channels).split(channels, -1)
    query = _random(rows, channels)
    _compare("cross_attention", lambda do: do.cross_attention(query, keys, values, heads, lengths))
    same = torch.full((rows,), positions - 2, device=_DEVICE)
    ancestry = torch.randint(0, rows, (rows, positions), dtype=torch.int32, device=_DEVICE)
    itself = torch.arange(rows, dtype=torch.int32, device=_DEVICE)[:, None]
    ancestry[:, positions - 2 :] = itself
    # Without beams, rows have positions and pasts of their own.
    apart = torch.tensor([max(1, positions - 2 - row) for row in range(rows)], device=_DEVICE)
    own, owned, token = (
        _random(rows, positions, channels),
        _random(rows, positions, channels),
        _random(rows, 3 * channels),
    )

    for last, past in ((same, ancestry), (apart, itself.repeat(1, positions))):

        def attend(do: Any, last: Tensor = last, past: Tensor = past) -> tuple[Tensor, ...]:
            caches = own.clone(), owned.clone()
            return do.self_attention(token, *caches, heads, last, past), *caches

        _compare("self_attention", attend)
    norm, linear = _norm(channels), Linear(_random(64, channels, scale=0.1), _random(64))
    _compare(
        "add_norm",
        lambda do: do.add_norm(
            qkv[..., :channels].contiguous(), query[:1].expand(images, tokens, -1).contiguous(), norm
        ),
    )
    _compare("linear_gelu", lambda do: do.linear_gelu(query, linear))
    _most_likely(rows, positions, apart)


def _most_likely(rows: int, positions: int, last: Tensor) -> None:
    logits, banned = _random(rows, 5000), torch.rand(rows, 5000, device=_DEVICE) < 0.5
    logits[:, :4] += 5
    tokens = torch.randint(0, 4, (rows, positions), device=_DEVICE)
    logits[0, 9], banned[0, 9] = torch.nan, True
    logits[-1, 7], banned[-1, 7] = torch.nan, False
    for ngram in (0, 2, 3):
        found, expected = (
            do.most_likely(logits.clone(), banned, tokens, last, ngram) for do in (_TRITON, _PORTABLE)
        )
        if found[1].tolist() != expected[1].tolist() or found[0][:-1].tolist() != expected[0][:-1].tolist():
            raise SystemExit(f"most_likely with runs of {ngram}: {found}, not {expected}")


def main() -> None:
    """All operations, in small shapes and, on a GPU, in those of Florence-2-base."""
    torch.manual_seed(0)
    vision(2, 8, 8, 16, heads=1, window=4)
    vision(1, 24, 12, 48, heads=3, window=6)
    vision(2, 7, 9, 16, heads=1, window=4)
    stem(1, 32)
    stem(3, 30)
    text(2, 20, 32, heads=2, beams=1, positions=9)
    text(3, 150, 96, heads=3, beams=3, positions=40)
    if _ON_GPU:
        vision(2, 48, 48, 512, heads=16, window=12)
        text(2, 590, 768, heads=12, beams=3, positions=100)
    print(f"the kernels agree on {_DEVICE.type}")


if __name__ == "__main__":
    main()
