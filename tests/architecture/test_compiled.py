"""Kernels are compiled so that a cached one has the bits of a fresh one; see `compiled`."""

import importlib.util
import pkgutil
import shutil
import threading
from pathlib import Path

import numba as nb
import pytest
from numba.core.caching import IndexDataCacheFile

import sigprop.kernels
from sigprop.kernels import compiled
from sigprop.kernels.compiled import sources

MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(sigprop.kernels.__path__, "sigprop.kernels.")
]
KERNELS = {
    function.py_func.__module__ + "." + name: function
    for module in MODULES
    for name, function in vars(module).items()
    if isinstance(function, nb.core.dispatcher.Dispatcher)
}


def cached(function):
    return not isinstance(function._cache, nb.core.caching.NullCache)


def relaxed(function):
    flags = function.targetoptions.get("fastmath", False)
    return bool(flags if isinstance(flags, (bool, set)) else flags.flags)


def merged(function):
    return bool(function.targetoptions.get("forceinline"))


def callees(function):
    """Kernels that a kernel names, itself or as `module.kernel`."""
    space, names = function.py_func.__globals__, function.py_func.__code__.co_names
    found = [space.get(name) for name in names]
    found += [
        vars(space[name]).get(other)
        for name in names
        if name in space and hasattr(space[name], "__path__") is False
        if type(space[name]).__name__ == "module"
        for other in names
    ]
    return [f for f in found if isinstance(f, nb.core.dispatcher.Dispatcher)]


@pytest.mark.skipif(bool(nb.config.DISABLE_JIT), reason="nothing is compiled")
def test_only_what_python_calls_is_cached():
    assert KERNELS
    entries = {name for name, function in KERNELS.items() if cached(function)}
    called = {id(f) for function in KERNELS.values() for f in callees(function)}
    assert entries
    for name in entries:
        assert id(KERNELS[name]) not in called, f"{name} is cached and called by a kernel"
        assert not merged(KERNELS[name])


@pytest.mark.skipif(bool(nb.config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_relaxed_arithmetic_exists_in_one_copy(name):
    """A function that is not merged into its caller is strict, and so is all that it calls."""
    function = KERNELS[name]
    if relaxed(function):
        assert merged(function), f"{name} may round differently in each of its copies"
    if merged(function) or cached(function):
        return
    pending, seen = callees(function), set()
    while pending:
        callee = pending.pop()
        if id(callee) in seen:
            continue
        seen.add(id(callee))
        assert not relaxed(callee), f"{name} holds a copy of {callee.py_func.__qualname__}"
        pending += callees(callee)


@pytest.mark.skipif(bool(nb.config.DISABLE_JIT), reason="nothing is compiled")
def test_a_cached_kernel_is_as_fresh_as_all_that_is_merged_into_it():
    """Numba alone looks at the file of the entry, and would keep what another file gave it."""
    for name, function in KERNELS.items():
        if cached(function):
            stored = function._cache._cache_file
            assert stored._source_stamp == sources(), name
            assert {stored.save.__name__, stored.load.__name__} == {"locked"}, name


def shared(folder):
    """The cache of one kernel, as one of several processes sees it."""
    stored = IndexDataCacheFile(str(folder), filename_base="kernel", source_stamp="now")
    stored.save, stored.load = (compiled.alone(stored, f) for f in (stored.save, stored.load))
    return stored


def test_processes_that_compile_at_once_lose_none_of_their_kernels(tmp_path):
    """The second one comes when the first has read the index and not yet written it."""
    first, second = shared(tmp_path), shared(tmp_path)
    has_read, go_on = threading.Event(), threading.Event()
    read = first._load_index

    def slowly():
        index = read()
        has_read.set()
        go_on.wait(60)
        return index

    first._load_index = slowly
    savers = [
        threading.Thread(target=first.save, args=("one version", "its code")),
        threading.Thread(target=second.save, args=("another", "other code")),
    ]
    savers[0].start()
    assert has_read.wait(60)
    savers[1].start()
    savers[1].join(0.5)  # it would be done, if it did not have to wait
    go_on.set()
    for saver in savers:
        saver.join(60)
    first._load_index = read
    assert [second.load(key) for key in ("one version", "another")] == ["its code", "other code"]


def test_a_cache_to_read_only_is_read(tmp_path, monkeypatch):
    shared(tmp_path).save("a version", "its code")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(compiled, "open", refuse, raising=False)
    assert shared(tmp_path).load("a version") == "its code"


def test_the_stamp_changes_with_any_source(tmp_path):
    here = Path(compiled.__file__).parent
    folder = tmp_path / "kernels"
    shutil.copytree(here, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(here.parent / "activations", tmp_path / "activations")
    seen = {stamp(folder)}
    assert seen == {sources()}
    sources_of_one = [
        folder / "lanes.py",
        folder / "philox.py",
        folder / "chain/hidden.py",
        tmp_path / "activations/_codes.py",
    ]
    for changed in sources_of_one:
        changed.write_text(changed.read_text() + "# changed\n")
        seen.add(stamp(folder))
    assert len(seen) == 1 + len(sources_of_one)


def stamp(folder):
    """What the copy of `compiled` in another folder says of its neighbours."""
    spec = importlib.util.spec_from_file_location("copy_of_compiled", folder / "compiled.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sources()


def test_where_nothing_can_be_cached_kernels_are_compiled_all_the_same(monkeypatch):
    def nowhere(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, options)

    monkeypatch.setattr(compiled.nb, "njit", nowhere)
    function, options = compiled.entry(len)
    assert function is len and options["error_model"] == "numpy"


def test_the_test_would_see_a_relaxed_copy():
    relaxed_one = nb.njit(fastmath={"contract"})(lambda x: x * x + x)
    assert relaxed(relaxed_one) or nb.config.DISABLE_JIT
    assert not merged(relaxed_one)
