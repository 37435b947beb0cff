"""Kernels are compiled so that a cached one has the bits of a fresh one; see `compiled`."""

import importlib
import pkgutil

import numba as nb
import pytest

import sigprop.kernels

MODULES = [
    importlib.import_module(f"sigprop.kernels.{info.name}")
    for info in pkgutil.iter_modules(sigprop.kernels.__path__)
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


def test_the_test_would_see_a_relaxed_copy():
    relaxed_one = nb.njit(fastmath={"contract"})(lambda x: x * x + x)
    assert relaxed(relaxed_one) or nb.config.DISABLE_JIT
    assert not merged(relaxed_one)
