"""A deep ReLU network of a wrong gain is repaired, whichever way it is wrong."""

import pytest
import torch

from tests.modules.repaired import assert_repaired

torch.set_num_threads(1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("gain", [1.5, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_the_gain_of_a_deep_network_is_undone(optimizer, gain, seed):
    """Ten seeds are in tests/verification."""
    assert_repaired(optimizer, gain, seed)
