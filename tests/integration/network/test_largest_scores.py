"""The largest scores of each row, in blocks, against the plain way."""

import pytest
import torch
from torch import inf

from worker.engine.runtime.network.search import largest


@pytest.mark.parametrize("length", [6, 127, 128, 129, 1000, 51_289])
@pytest.mark.parametrize("allowed", [1, 5, 6, 10_000])
@torch.inference_mode()
def test_the_largest_scores_and_their_places(length: int, allowed: int) -> None:
    """As `topk`, in any block, with equal scores and where most are forbidden; each place is within the row."""
    torch.manual_seed(length)
    scores = torch.randn(9, length).round(decimals=1)
    rank = torch.rand(9, length).argsort(-1).argsort(-1)
    scores = scores.masked_fill(rank >= allowed, -inf)
    scores[0] = 0.5
    scores[1, -1] = 100
    values, places = largest(scores, 6)
    assert torch.equal(values, scores.topk(6, -1).values)
    assert int(places.min()) >= 0
    assert int(places.max()) < length
    found = values > -inf
    assert torch.equal(scores.gather(1, places)[found], values[found])
    for row, is_found in zip(places, found, strict=True):
        chosen = row[is_found].tolist()
        assert len(set(chosen)) == len(chosen)
