"""Arithmetic on many tensors: the compiled one is that of torch, and of numbers done by hand."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from sigprop.modules.block_arithmetic import CompiledBlocks, ListedBlocks, block_arithmetic

SHAPES = [(3, 5), (7,), (), (2, 3, 2, 2), (0, 4), (40, 9)]
PLACES = [0, 2, 3, 5]
SCALES = np.array([0.7, 1.3, 0.0, 1.9])
# Rounding of one number as it is written; sums are in float64 in both.
EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}


def tensors(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape in SHAPES]  # fmt: skip


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("kind", [CompiledBlocks, ListedBlocks])
def test_values_norms_steps_and_products_are_those_of_numbers_done_one_by_one(kind, dtype):
    start, g = tensors(1, dtype), tensors(2, dtype)
    g[0] = torch.empty(5, 3, dtype=dtype).t().copy_(g[0])  # not laid out as the tensor is
    blocks, scale = kind(start, PLACES), dict(zip(PLACES, SCALES))
    values = blocks.scaled(SCALES)
    theta = [scale.get(i, 1.0) * value.double() for i, value in enumerate(start)]
    close(values, theta, dtype)
    wide = torch.cat([part.double().reshape(-1) for part in g])
    assert blocks.norm(g, 1) == pytest.approx(float(wide.abs().sum()), rel=1e-14)
    assert blocks.norm(g, 2) == pytest.approx(float(wide.norm()), rel=1e-14)
    close(blocks.stepped(values, g, 0.1, 3.0), [a - 0.1 / 3 * b for a, b in pairs(theta, g)], dtype)
    signs = blocks.stepped(blocks.scaled(SCALES), g, 0.1, None)
    close(signs, [a - 0.1 * b.sign() for a, b in pairs(theta, g)], dtype)
    wanted = [float((g[i].double() * start[i].double()).sum()) for i in PLACES]
    np.testing.assert_allclose(blocks.products(g), wanted, rtol=0, atol=1e-13)


def pairs(theta, g):
    return [(a, b.double()) for a, b in zip(theta, g)]


def close(found, wanted, dtype):
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype is dtype and a.shape == b.shape
        assert (
            float((a.detach().double() - b).abs().max().item() if b.numel() else 0) < 8 * EPS[dtype]
        )


@pytest.mark.parametrize("kind", [CompiledBlocks, ListedBlocks])
def test_a_norm_whose_squares_single_precision_does_not_hold_is_right(kind):
    for size in (1e-42, 1e25):
        start = [torch.ones(2, 2), torch.ones(3)]
        g = [torch.full((2, 2), size), torch.full((3,), size)]
        exact = math.sqrt(7) * float(g[0][0, 0])
        blocks = kind(start, [0, 1])
        assert blocks.norm(g, 2) == pytest.approx(exact, rel=1e-12)
    # One step along a gradient of 1e-42 has the length of any other (its digits are few).
    g = [torch.full((2, 2), 1e-42), torch.full((3,), 1e-42)]
    found = blocks.stepped(blocks.scaled(np.ones(2)), g, 0.1, blocks.norm(g, 2))
    if kind is CompiledBlocks:
        np.testing.assert_allclose(found[0].detach(), 1 - 0.1 / math.sqrt(7), rtol=1e-6)


def test_the_compiled_arithmetic_takes_what_it_serves_and_no_more():
    one = torch.ones(2, 3)
    for other in (one.double(), one.half(), one.t(), one.to_sparse(), one.to("meta")):
        assert isinstance(block_arithmetic([one, other], [0]), ListedBlocks)
    kind = ListedBlocks if numba.config.DISABLE_JIT else CompiledBlocks
    assert isinstance(block_arithmetic([one, one.clone()], [0]), kind)


def test_what_was_asked_of_one_gradient_is_not_told_of_the_next():
    """Addresses are remembered from the norm to the step, and no longer."""
    blocks = CompiledBlocks([torch.ones(3)], [0])
    first, second = [torch.full((3,), 2.0)], [torch.full((3,), 5.0)]
    blocks.norm(first, 2)
    moved = blocks.stepped(blocks.scaled(np.ones(1)), second, 1.0, 1.0)
    assert moved[0].tolist() == [-4.0] * 3
    first[0] = torch.full((3,), 7.0)
    blocks.products(first)
    assert blocks.norm(first, 1) == 21.0
