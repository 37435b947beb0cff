"""Files: written whole or not at all, read back bit for bit, and refused with a reason."""

import io
import json
import os

import h5py
import numpy as np
import pytest
import xarray as xr

import sigprop
from sigprop import result as results
from sigprop.errors import ResultError, StorageError

ATTRS = {
    "schema": "sigprop-result",
    "schema_version": 1,
    "ensemble": "{}",
    "digest": "0" * 64,
    "seed": 2**64 - 1,
    "replicas": 10,
    "sampler": "chain",
    "sampler_version": 1,
    "block": 256,
}


def example():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4, 2))
    values[0] = np.nan, -np.inf
    dataset = xr.Dataset(
        {
            "log_norm_mean": (("layer", "input"), values, {"long_name": "mean", "units": "nat"}),
            "norm_moment_reliable": (("order", "layer"), generator.random((3, 4)) < 0.5),
            "replica_log_norm": (("replica", "layer"), generator.normal(size=(3000, 4))),
            "cosine_mean": (("layer", "pair"), generator.random((4, 1))),
        },
        {"layer": np.array([0, 1, 5, 9]), "order": [0.5, 1.0, 2.0], "pair": ["0-1"]},
        ATTRS,
    )
    state = {
        "norm.norm.moments.count": generator.integers(0, 9, (4, 2)),
        "norm.norm.powers.count": np.array(7, np.int64),
        "norm.norm.histogram.counts": generator.integers(0, 9, (4, 2, 1026)),
        "norm.norm.histogram.least": np.array([np.inf, -np.inf, 1.0, np.nan]),
    }
    return dataset, state


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "a.nc"
    dataset, state = example()
    results.save(dataset, state, path)
    return path, dataset, state


def test_what_is_read_is_what_was_written(stored):
    path, dataset, state = stored
    found, sums = results.read(path, state=True)
    xr.testing.assert_identical(found, dataset)
    for name in dataset.variables:
        assert found[name].dtype.kind == dataset[name].dtype.kind
    assert sums.keys() == state.keys()
    for name, values in state.items():
        assert sums[name].dtype == values.dtype and sums[name].shape == values.shape
        np.testing.assert_array_equal(sums[name], values)
    assert os.listdir(path.parent) == ["a.nc"]


def test_load_is_public_and_closes_the_file(stored):
    path, dataset, _ = stored
    found = sigprop.load(path)
    path.unlink()
    xr.testing.assert_identical(found, dataset)
    assert type(found.attrs["seed"]) is int and found.attrs["seed"] == 2**64 - 1


def test_plain_xarray_opens_the_root_and_the_state(stored):
    path, dataset, state = stored
    with xr.open_dataset(path) as found:
        xr.testing.assert_identical(found.load().assign_attrs(ATTRS), dataset)
    with xr.open_dataset(path, group="state") as found:
        np.testing.assert_array_equal(found["norm.norm.powers.count"], 7)
        assert set(found.data_vars) == set(state)


def test_every_dimension_has_a_number_of_its_own(stored):
    """netCDF-C finds dimensions by number across groups; a number used twice swaps them."""
    path, *_ = stored
    numbers = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: numbers.append(item.attrs.get("_Netcdf4Dimid")))
    numbers = [int(n) for n in numbers if n is not None]
    assert len(numbers) == len(set(numbers)) > 4


def test_attributes_of_any_length_are_kept(tmp_path):
    """A given network of a million numbers is in the attributes, too."""
    dataset, state = example()
    dataset.attrs["ensemble"] = json.dumps(list(range(300_000)))
    results.save(dataset, state, tmp_path / "long.nc")
    assert sigprop.load(tmp_path / "long.nc").attrs["ensemble"] == dataset.attrs["ensemble"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(stored, share):
    path, *_ = stored
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ResultError, match="truncated, damaged"):
        sigprop.load(path)


def test_a_damaged_number_is_refused(stored):
    path, dataset, _ = stored
    whole = bytearray(path.read_bytes())
    place = whole.find(dataset["cosine_mean"].values.tobytes())
    assert place > 0
    whole[place + 3] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ResultError, match="damaged"):
        sigprop.load(path)


def test_no_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(ResultError, match="does not exist"):
        sigprop.load(tmp_path / "none.nc")
    with pytest.raises(ResultError, match="is a directory"):
        sigprop.load(tmp_path)


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("schema", None, "no result of sigprop"),
        ("schema", "cmip6", "no result of sigprop"),
        ("schema", "sigprop-checkpoint", "has not ended"),
        ("schema_version", 2, "version 2"),
        ("digest", None, "lacks attribute 'digest'"),
        ("replicas", None, "lacks attribute 'replicas'"),
    ],
)
def test_a_foreign_file_is_refused_with_the_reason(tmp_path, attribute, value, says):
    dataset, state = example()
    dataset.attrs[attribute] = value
    if value is None:
        del dataset.attrs[attribute]
    results.save(dataset, state, tmp_path / "b.nc")
    with pytest.raises(ResultError, match=says):
        sigprop.load(tmp_path / "b.nc")


def test_a_result_without_measurements_is_refused(tmp_path):
    dataset, state = example()
    results.save(dataset[["norm_moment_reliable"]].isel(layer=0), state, tmp_path / "b.nc")
    with pytest.raises(ResultError, match="any variable over 'layer'"):
        sigprop.load(tmp_path / "b.nc")


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_what_stood_there(stored, monkeypatch, broken):
    """Whatever call fails, the old file is whole and nothing is left beside it."""
    path, dataset, state = stored
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    class FullFile(io.BytesIO):
        write = full

    if broken == "write":
        monkeypatch.setattr(results, "open", lambda *_: FullFile(), raising=False)
    else:
        monkeypatch.setattr(os, broken, full)
    with pytest.raises(StorageError, match="No space left"):
        results.save(dataset, state, path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["a.nc"]


def test_an_output_that_cannot_be_written_is_refused_beforehand(tmp_path):
    with pytest.raises(StorageError, match="no directory"):
        results.require_writable(tmp_path / "none" / "a.nc")
    with pytest.raises(StorageError, match="is a directory"):
        results.require_writable(tmp_path)
    with pytest.raises(StorageError, match="cannot be written"):
        results.require_writable(tmp_path / ("x" * 300))
    results.require_writable(tmp_path / "a.nc")
    assert not os.listdir(tmp_path)


def test_the_default_name_says_what_the_run_is():
    law = sigprop.Ensemble(sigprop.Network(depth=1000, width=100), sigprop.Fixup())
    assert results.default_name(law, 0) == f"fixup-res3-relu-d100-L1000-s0-{law.digest[:8]}.nc"
