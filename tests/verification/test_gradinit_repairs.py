"""GradInit on deep networks of a wrong gain: both optimisers, both gains, ten seeds each."""

import numpy as np
import pytest
import torch

from tests.modules.repaired import GAMMA, assert_repaired

torch.set_num_threads(1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("gain", [1.5, 0.7])
def test_every_seed_is_repaired(optimizer, gain):
    """The ranges are printed (pytest -s)."""
    runs = [assert_repaired(optimizer, gain, seed) for seed in range(10)]
    columns = {
        "norm before": [before[0] for before, *_ in runs],
        "L1 before": [before[1] for before, *_ in runs],
        "norm/gamma after": [after[0] / GAMMA[optimizer] for _, after, _ in runs],
        "L1 after": [after[1] for _, after, _ in runs],
        "mean m": [mean for *_, mean in runs],
    }
    told = ", ".join(f"{name} {min(x):.4g}-{max(x):.4g}" for name, x in columns.items())
    print(f"\n{optimizer}, gain {gain}: {told}")
    fell = np.array(columns["L1 after"]) < np.array(columns["L1 before"])
    assert fell.sum() >= 8  # at gain 0.7 not in every seed
