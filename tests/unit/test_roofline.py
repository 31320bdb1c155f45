"""The share of the machine's rate that the engine reaches."""

import pytest
import torch

from benchmarks.roofline import ProductRate, product_rate, work_gflop


def test_the_share_is_the_work_by_the_time_by_the_mean_rate() -> None:
    """Two images a second of 12 tokens, where the machine does 1,000 and 1,400 GFLOP/s."""
    assert work_gflop(12) == pytest.approx(425.16)
    assert ProductRate(1000, 1400).share(2, 12) == pytest.approx(2 * 425.16 / 1200)


def test_the_rate_is_measured_in_the_dtype_that_is_asked_for() -> None:
    """A rate of some GFLOP/s, on whatever machine runs the tests."""
    rate = product_rate(torch.device("cpu"), torch.float32)
    assert 0.1 < rate < 100_000
