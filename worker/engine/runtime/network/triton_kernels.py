"""The kernels of `TritonOperations`. Needs Triton.

Triton reads the bodies as a language of its own: pointers have no annotations, and capital letters name the values
that are known when a kernel is compiled. Sums, norms and softmax are float32; inputs and outputs have the model's
dtype.
"""

# ruff: noqa: ANN001, ANN201, ANN202, N803

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _normalised(sums, known, weight, shift, channels, epsilon, CHANNELS: tl.constexpr):
    mean = tl.sum(tl.where(known[None, :], sums, 0.0), 1) / CHANNELS
    centred = tl.where(known[None, :], sums - mean[:, None], 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 1) / CHANNELS + epsilon)
    scale = tl.load(weight + channels, known, 0.0).to(tl.float32)
    offset = tl.load(shift + channels, known, 0.0).to(tl.float32)
    return centred * deviation[:, None] * scale[None, :] + offset[None, :]


@triton.jit
def norm(
    hidden, weight, shift, out, rows, epsilon, CHANNELS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channels = tl.arange(0, BLOCK)
    known = channels < CHANNELS
    kept = (row < rows)[:, None] & known[None, :]
    offsets = row[:, None] * CHANNELS + channels[None, :]
    values = tl.load(hidden + offsets, kept, 0.0).to(tl.float32)
    result = _normalised(values, known, weight, shift, channels, epsilon, CHANNELS)
    tl.store(out + offsets, result.to(out.dtype.element_ty), kept)


@triton.jit
def mix(
    hidden, taps, bias, weight, shift, next_bias, residual, normed, height, width, epsilon,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # Two lines of pixels: four lines are read for them, where one line alone needs three.
    pairs = (height + 1) // 2
    image = (tl.program_id(0) // pairs).to(tl.int64)
    row = tl.program_id(0) % pairs * 2
    columns = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    channels = tl.arange(0, BLOCK)
    known = channels < CHANNELS
    upper = tl.zeros((PIXELS, BLOCK), tl.float32) + tl.load(bias + channels, known, 0.0).to(tl.float32)[None, :]
    lower = upper
    # One wide address per program; the offsets from it are 32 bits, which halves their registers.
    first = (image * height + row) * width * CHANNELS
    hidden += first
    for down in tl.static_range(4):
        for right in tl.static_range(3):
            there, line = columns + (right - 1), columns * 0 + (row + (down - 1))
            inside = (there >= 0) & (there < width) & (line >= 0) & (line < height)
            offsets = ((down - 1) * width + there)[:, None] * CHANNELS + channels[None, :]
            values = tl.load(hidden + offsets, inside[:, None] & known[None, :], 0.0).to(tl.float32)
            if down < 3:
                tap = tl.load(taps + (down * 3 + right) * CHANNELS + channels, known, 0.0).to(tl.float32)
                upper += values * tap[None, :]
            if down > 0:
                tap = tl.load(taps + ((down - 1) * 3 + right) * CHANNELS + channels, known, 0.0).to(tl.float32)
                lower += values * tap[None, :]
            if right == 1:
                if down == 1:
                    upper += values
                if down == 2:
                    lower += values
    added = tl.load(next_bias + channels, known, 0.0).to(tl.float32)[None, :]
    kept = (columns < width)[:, None] & known[None, :]
    offsets = columns[:, None] * CHANNELS + channels[None, :]
    residual += first
    normed += first
    result = _normalised(upper, known, weight, shift, channels, epsilon, CHANNELS)
    tl.store(residual + offsets, (upper + added).to(residual.dtype.element_ty), kept)
    tl.store(normed + offsets, result.to(normed.dtype.element_ty), kept)
    kept = kept & (columns * 0 + row + 1 < height)[:, None]
    offsets += width * CHANNELS
    result = _normalised(lower, known, weight, shift, channels, epsilon, CHANNELS)
    tl.store(residual + offsets, (lower + added).to(residual.dtype.element_ty), kept)
    tl.store(normed + offsets, result.to(normed.dtype.element_ty), kept)


@triton.jit
def patches(
    pixels, scale, shift, out, count, height, width, down_count, across,
    SIDE: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    PATCHES: tl.constexpr,
):  # fmt: skip
    patch = tl.program_id(0).to(tl.int64) * PATCHES + tl.arange(0, PATCHES)
    image = patch // (down_count * across)
    top = patch // across % down_count * STRIDE - PADDING
    left = patch % across * STRIDE - PADDING
    value = tl.arange(0, BLOCK)
    down, right, colour = value // (3 * SIDE), value // 3 % SIDE, value % 3
    row, column = top[:, None] + down[None, :], left[:, None] + right[None, :]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (value < 3 * SIDE * SIDE)[None, :]
    inside = inside & (patch < count)[:, None]
    offsets = ((image[:, None] * height + row) * width + column) * 3 + colour[None, :]
    read = tl.load(pixels + offsets, inside, 0).to(tl.float32)
    read = read * tl.load(scale + colour)[None, :] + tl.load(shift + colour)[None, :]
    # The padding is around the normalised image.
    read = tl.where(inside, read, 0.0).to(out.dtype.element_ty)
    kept = (patch < count)[:, None] & (value < COLUMNS)[None, :]
    tl.store(out + patch[:, None] * COLUMNS + value[None, :], read, kept)


@triton.jit
def _attend(
    query, keys, width, features, known, scale, largest, total, sums,
    CHANNELS: tl.constexpr, WINDOW: tl.constexpr, START: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    others = START + tl.arange(0, KEYS)
    there = others // WINDOW * width + others % WINDOW
    counted = others < WINDOW * WINDOW
    pointers = keys + there[:, None] * (3 * CHANNELS) + features[None, :]
    key = tl.load(pointers, counted[:, None] & known[None, :], 0.0)
    value = tl.load(pointers + CHANNELS, counted[:, None] & known[None, :], 0.0)
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    if START + KEYS > WINDOW * WINDOW:
        scores = tl.where(counted[None, :], scores, float("-inf"))
    larger = tl.maximum(largest, tl.max(scores, 1))
    shares = tl.exp2(scores - larger[:, None])
    faded = tl.exp2(largest - larger)
    total = total * faded + tl.sum(shares, 1)
    sums = tl.dot(shares.to(value.dtype), value, sums * faded[:, None], input_precision="ieee")
    return larger, total, sums


@triton.jit
def window_attention(
    qkv, out, height, width, scale,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, WINDOW: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, MORE_KEYS: tl.constexpr,
):  # fmt: skip
    across = width // WINDOW
    window = tl.program_id(0)
    image = window // (across * (height // WINDOW))
    top = (window // across) % (height // WINDOW) * WINDOW
    left = window % across * WINDOW
    origin = (image.to(tl.int64) * height + top) * width + left
    features = tl.arange(0, SIZE_BLOCK)
    known = features < SIZE
    qkv += origin * (3 * CHANNELS) + tl.program_id(1) * SIZE
    tokens = tl.program_id(2) * QUERIES + tl.arange(0, QUERIES)
    pixels = tokens // WINDOW * width + tokens % WINDOW
    asked = (tokens < WINDOW * WINDOW)[:, None] & known[None, :]
    query = tl.load(qkv + pixels[:, None] * (3 * CHANNELS) + features[None, :], asked, 0.0)
    largest = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    sums = tl.zeros((QUERIES, SIZE_BLOCK), tl.float32)
    keys, scale = qkv + CHANNELS, scale * _LOG2_E
    largest, total, sums = _attend(
        query, keys, width, features, known, scale, largest, total, sums, CHANNELS, WINDOW, 0, KEYS
    )
    if MORE_KEYS > 0:
        largest, total, sums = _attend(
            query, keys, width, features, known, scale, largest, total, sums, CHANNELS, WINDOW, KEYS, MORE_KEYS
        )
    result = sums / total[:, None]
    out += origin * CHANNELS + tl.program_id(1) * SIZE
    tl.store(out + pixels[:, None] * CHANNELS + features[None, :], result.to(out.dtype.element_ty), asked)


@triton.jit
def channel_products(
    qkv, partial, tokens, each,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image, group, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    features = tl.arange(0, SIZE_BLOCK)
    known = features < SIZE
    sums = tl.zeros((SIZE_BLOCK, SIZE_BLOCK), tl.float32)
    for start in range(split * each, (split + 1) * each, BLOCK):
        rows = start + tl.arange(0, BLOCK)
        counted = ((rows < tokens) & (rows < (split + 1) * each))[:, None] & known[None, :]
        pointers = qkv + (image * tokens + rows)[:, None] * (3 * CHANNELS) + group * SIZE + features[None, :]
        query = tl.load(pointers, counted, 0.0)
        key = tl.load(pointers + CHANNELS, counted, 0.0)
        sums = tl.dot(tl.trans(query), key, sums, input_precision="ieee")
    place = ((image * tl.num_programs(1) + group) * tl.num_programs(2) + split) * SIZE_BLOCK * SIZE_BLOCK
    tl.store(partial + place + features[:, None] * SIZE_BLOCK + features[None, :], sums)


@triton.jit
def channel_mixing(
    qkv, partial, out, tokens, scale,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    image, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    features = tl.arange(0, SIZE_BLOCK)
    known = features < SIZE
    place = (image * tl.num_programs(1) + group) * SPLITS * SIZE_BLOCK * SIZE_BLOCK
    pointers = partial + place + features[:, None] * SIZE_BLOCK + features[None, :]
    scores = tl.zeros((SIZE_BLOCK, SIZE_BLOCK), tl.float32)
    for split in tl.static_range(SPLITS):
        scores += tl.load(pointers + split * SIZE_BLOCK * SIZE_BLOCK)
    scores = tl.where(known[None, :], scores * (scale * _LOG2_E), float("-inf"))
    shares = tl.exp2(scores - tl.max(scores, 1)[:, None])
    shares = shares / tl.sum(shares, 1)[:, None]
    rows = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    kept = (rows < tokens)[:, None] & known[None, :]
    offsets = (image * tokens + rows)[:, None]
    value = tl.load(qkv + offsets * (3 * CHANNELS) + 2 * CHANNELS + group * SIZE + features[None, :], kept, 0.0)
    result = tl.dot(value, tl.trans(shares.to(value.dtype)), input_precision="ieee")
    tl.store(out + offsets * CHANNELS + group * SIZE + features[None, :], result.to(out.dtype.element_ty), kept)


@triton.jit
def add_norm(hidden, residual, weight, shift, out, epsilon, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * CHANNELS
    channels = tl.arange(0, BLOCK)
    known = channels < CHANNELS
    total = tl.load(hidden + row + channels, known, 0.0).to(tl.float32)
    total += tl.load(residual + row + channels, known, 0.0).to(tl.float32)
    mean = tl.sum(total, 0) / CHANNELS
    centred = tl.where(known, total - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 0) / CHANNELS + epsilon)
    scale = tl.load(weight + channels, known, 0.0).to(tl.float32)
    offset = tl.load(shift + channels, known, 0.0).to(tl.float32)
    tl.store(out + row + channels, (centred * deviation * scale + offset).to(out.dtype.element_ty), known)


@triton.jit
def encoder_attention(
    qkv, out, lengths, tokens, scale,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    head = tl.program_id(2) * SIZE
    length = tl.load(lengths + image)
    features = tl.arange(0, SIZE_BLOCK)
    known = features < SIZE
    rows = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    asked = (rows < tokens)[:, None] & known[None, :]
    base = qkv + image * tokens * (3 * CHANNELS) + head
    query = tl.load(base + rows[:, None] * (3 * CHANNELS) + features[None, :], asked, 0.0)
    largest = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    sums = tl.zeros((QUERIES, SIZE_BLOCK), tl.float32)
    for start in range(0, length, KEYS):
        others = start + tl.arange(0, KEYS)
        counted = others < length
        pointers = base + others[:, None] * (3 * CHANNELS) + features[None, :]
        key = tl.load(pointers + CHANNELS, counted[:, None] & known[None, :], 0.0)
        value = tl.load(pointers + 2 * CHANNELS, counted[:, None] & known[None, :], 0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * (scale * _LOG2_E)
        scores = tl.where(counted[None, :], scores, float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        shares = tl.exp2(scores - larger[:, None])
        faded = tl.exp2(largest - larger)
        total = total * faded + tl.sum(shares, 1)
        sums = tl.dot(shares.to(value.dtype), value, sums * faded[:, None], input_precision="ieee")
        largest = larger
    result = sums / total[:, None]
    places = out + (image * tokens + rows)[:, None] * CHANNELS + head + features[None, :]
    tl.store(places, result.to(out.dtype.element_ty), asked)


@triton.jit
def self_attention(
    qkv, keys, values, position, ancestry, out, positions, scale,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * SIZE
    length = tl.load(position + row).to(tl.int32)
    features = tl.arange(0, SIZE_BLOCK)
    known = features < SIZE
    own = qkv + row * (3 * CHANNELS) + head + features
    asked = tl.load(own, known, 0.0).to(tl.float32) * (scale * _LOG2_E)
    key = tl.load(own + CHANNELS, known, 0.0)
    value = tl.load(own + 2 * CHANNELS, known, 0.0)
    place = (row * positions + length) * CHANNELS + head + features
    tl.store(keys + place, key, known)
    tl.store(values + place, value, known)
    # The token itself first, from the registers; then the tokens before it.
    largest = tl.sum(key.to(tl.float32) * asked, 0)
    total = 1.0
    sums = value.to(tl.float32)
    for start in range(0, length, KEYS):
        others = start + tl.arange(0, KEYS)
        counted = others < length
        owners = tl.load(ancestry + row * positions + others, counted, 0).to(tl.int64)
        offsets = (owners * positions + others)[:, None] * CHANNELS + head + features[None, :]
        read = counted[:, None] & known[None, :]
        earlier = tl.load(keys + offsets, read, 0.0).to(tl.float32)
        scores = tl.where(counted, tl.sum(earlier * asked[None, :], 1), float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, 0))
        shares = tl.exp2(scores - larger)
        faded = tl.exp2(largest - larger)
        total = total * faded + tl.sum(shares, 0)
        earlier = tl.load(values + offsets, read, 0.0).to(tl.float32)
        sums = sums * faded + tl.sum(earlier * shares[:, None], 0)
        largest = larger
    tl.store(out + row * CHANNELS + head + features, (sums / total).to(out.dtype.element_ty), known)


@triton.jit
def cross_attention(
    query, keys, values, lengths, out, scale, stride_image, stride_token,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr, BEAMS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * SIZE
    length = tl.load(lengths + image)
    features = tl.arange(0, SIZE_BLOCK)
    known = features < SIZE
    rows = tl.arange(0, 16)
    asked = (rows < BEAMS)[:, None] & known[None, :]
    question = tl.load(query + (image * BEAMS + rows)[:, None] * CHANNELS + head + features[None, :], asked, 0.0)
    largest = tl.full((16,), float("-inf"), tl.float32)
    total = tl.zeros((16,), tl.float32)
    sums = tl.zeros((16, SIZE_BLOCK), tl.float32)
    for start in range(0, length, KEYS):
        others = start + tl.arange(0, KEYS)
        counted = others < length
        offsets = image * stride_image + others.to(tl.int64)[:, None] * stride_token + head + features[None, :]
        read = counted[:, None] & known[None, :]
        key = tl.load(keys + offsets, read, 0.0)
        value = tl.load(values + offsets, read, 0.0)
        scores = tl.dot(question, tl.trans(key), input_precision="ieee") * (scale * _LOG2_E)
        scores = tl.where(counted[None, :], scores, float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        shares = tl.exp2(scores - larger[:, None])
        faded = tl.exp2(largest - larger)
        total = total * faded + tl.sum(shares, 1)
        sums = tl.dot(shares.to(value.dtype), value, sums * faded[:, None], input_precision="ieee")
        largest = larger
    result = (sums / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + (image * BEAMS + rows)[:, None] * CHANNELS + head + features[None, :], result, asked)


@triton.jit
def ban(logits, tokens, position, positions, vocabulary, NGRAM: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    last = tl.load(position + row).to(tl.int32)
    answer = tokens + row * positions
    for start in range(0, last - NGRAM + 2, BLOCK):
        windows = start + tl.arange(0, BLOCK)
        # Behind the last window that ends at or before `position`, nothing is compared.
        same = windows + NGRAM - 1 <= last
        for offset in tl.static_range(NGRAM - 1):
            there = tl.load(answer + windows + offset, same, -1)
            same = same & (there == tl.load(answer + last - (NGRAM - 2) + offset))
        repeated = tl.load(answer + windows + (NGRAM - 1), same, 0)
        tl.store(logits + row * vocabulary + repeated, float("-inf"), same)


@triton.jit
def best(logits, banned, values, places, broken, vocabulary, each, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    place = tl.full((BLOCK,), 0, tl.int32)
    wrong = tl.full((BLOCK,), 0, tl.int32)
    for start in range(part * each, part * each + each, BLOCK):
        token = start + tl.arange(0, BLOCK)
        inside = (token < vocabulary) & (token < part * each + each)
        allowed = inside & (tl.load(banned + row * vocabulary + token, inside, 1) == 0)
        value = tl.load(logits + row * vocabulary + token, allowed, float("-inf")).to(tl.float32)
        wrong = tl.where((value != value) | (value == float("inf")), 1, wrong)
        better = value > best
        best, place = tl.where(better, value, best), tl.where(better, token, place)
    largest = tl.max(best, 0)
    # Of equal logits, the first token.
    first = tl.min(tl.where(best == largest, place, vocabulary), 0)
    out = row * tl.num_programs(1) + part
    tl.store(values + out, largest)
    tl.store(places + out, first)
    tl.store(broken + out, tl.max(wrong, 0))
