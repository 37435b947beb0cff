"""What a run may take of a disk is never less than it takes, nor many times as much."""

from __future__ import annotations

import importlib
import os

import pytest

import sigprop
from sigprop import disk
from sigprop.errors import StorageError
from sigprop.inputs import Pair, Point
from sigprop.laws import StudentT

simulate = importlib.import_module("sigprop.simulate")  # the name is that of its function

RES3 = sigprop.Network(depth=40, width=20)
PLAIN = sigprop.Network(depth=30, width=20, block="plain")
RUNS = {
    "sums alone": (RES3, sigprop.Power(beta=0.5), Point(), {"replicas": 700}),
    "pairs": (RES3, sigprop.Power(beta=0.5), Pair(), {"replicas": 400}),
    "all kept": (RES3, sigprop.Power(beta=0.5), Point(), {"replicas": 1000, "keep": range(41)}),
    "the end kept": (RES3, sigprop.Power(beta=0.5), Point(), {"replicas": 20_000, "keep": [40]}),
    "heavy tails": (PLAIN, sigprop.He(law=StudentT(dof=1.2)), Point(), {"replicas": 3000}),
    "few layers": (PLAIN, sigprop.He(), Point(), {"replicas": 300, "layers": [0, 30]}),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_bound_is_above_what_is_written_and_not_far_above(name, tmp_path, monkeypatch):
    """Seen whenever a file takes the place of another, when old and new are both there."""
    network, scheme, inputs, run = RUNS[name]
    most, said = [], []

    def replace(source, target, of=os.replace):
        if os.path.dirname(target) == str(tmp_path):
            most.append(sum(entry.stat().st_size for entry in os.scandir(tmp_path)))
        of(source, target)

    def bound(request, of=disk.of_request):
        said.append(of(request))
        return said[-1]

    monkeypatch.setattr(simulate, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(disk, "of_request", bound)
    monkeypatch.setattr(os, "replace", replace)
    sigprop.simulate(
        sigprop.Ensemble(network, scheme, inputs), seed=0, out=tmp_path / "a.nc", **run
    )
    assert len(most) > 1 and len(said) == 1
    assert max(most) <= said[0] <= 3 * max(most), (max(most), said)


def test_a_run_that_may_not_fit_is_told_the_most_that_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 2**20}))
    law = sigprop.Ensemble(RES3, sigprop.Power(beta=0.5), Point())
    with pytest.raises(StorageError, match=r"may take up to \d+\.\d MiB .* has 1\.0 MiB left"):
        sigprop.simulate(law, replicas=1000, out=tmp_path / "a.nc")
    assert not os.listdir(tmp_path)
