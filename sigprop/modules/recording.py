"""What a module does to its input, operation by operation: a graph of one forward pass.

A `torch.overrides.TorchFunctionMode` sees every call of torch that a forward makes, whoever
wrote it; forward hooks say in which module. A node is one tensor that an operation left; its
parents are the tensors that the operation read. An operation in place gives its tensor a new
node. No tensor is kept.

Not seen: what happens inside scripted modules and custom C++ operations, and a change in place
through a view of the tensor that is read later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from sigprop.errors import SigpropError, SpecError, Unsupported

__all__ = ["ADDITIONS", "Graph", "Node", "record", "tensors_in", "undisturbed"]

ADDITIONS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})

# What changes a tensor and returns nothing.
_SETTERS = frozenset({"__setitem__"})


@dataclass(eq=False)
class Node:
    """One tensor, at one time.

    Attributes
    ----------
    index : int
        Its place in the order of execution.
    op : str
        Name of the function of torch; ``input`` or ``parameter`` where there was none.
    module : str
        Innermost module in whose forward it happened, as `named_modules` calls it.
    parents : tuple of Node
    ancestors : int
        Bit i is set where node i is an ancestor or the node itself; 0 unless it depends on the
        input.
    parameters : tuple of str
        Parameters that the operation read as they are.
    made_of : frozenset of str
        Parameters that it depends on but not through the input: of a weight that is computed.
    arguments, options
        What the function was called with, tensors replaced by their nodes.
    call : int
        The how many-th addition it is, counted from 0; -1 for other operations.
    shape : tuple of int
    floating : bool
    children : list of Node
    left_by : list of str
        Modules whose output it is, the innermost first.
    """

    index: int
    op: str
    module: str
    parents: tuple[Node, ...] = ()
    ancestors: int = 0
    parameters: tuple[str, ...] = ()
    made_of: frozenset[str] = frozenset()
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    call: int = -1
    shape: tuple[int, ...] = ()
    floating: bool = True
    children: list[Node] = field(default_factory=list)
    left_by: list[str] = field(default_factory=list)

    @property
    def moved(self) -> bool:
        """Whether it depends on the input."""
        return self.ancestors != 0

    def after(self, other: Node) -> bool:
        """Whether ``other`` is an ancestor of it, or it itself."""
        return bool(self.ancestors >> other.index & 1)


@dataclass
class Graph:
    """All nodes of one pass, in the order of execution."""

    nodes: list[Node] = field(default_factory=list)
    called: list[str] = field(default_factory=list)  # modules in the order of their calls


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested tuples, lists and dicts, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from tensors_in(entry)
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from tensors_in(entry)


def _copied(value: Any) -> Any:
    """The same with every tensor copied."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_copied(entry) for entry in value)
    return value


def record(model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Graph:
    """Run ``model(*inputs, **options)`` once and return its graph; the model is left as it was.

    The pass is one of evaluation, without gradients: no batch statistics are taken, nothing is
    dropped out.

    Raises
    ------
    SpecError
        If the forward fails: the message names the module and what torch said.
    Unsupported
        If a module is compiled by torch.jit.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise Unsupported(
                f"{_called(model, name)} is compiled by torch.jit, which hides the calls within "
                "it, so the module cannot be read. Give the module from which it was made."
            )
    inputs, options = _copied(inputs), _copied(options)  # it may begin with an operation in place
    graph = Graph()
    recorder = _Recorder(graph, model)
    with undisturbed(model), torch.no_grad():
        for module in model.modules():
            module.training = False
        with recorder.following(model):
            recorder.enter(inputs, options)
            try:
                with recorder:
                    model(*inputs, **options)
            except SigpropError:
                raise
            except Exception as error:
                raise SpecError(_failure(recorder, model, inputs, error)) from error
    return graph


def _failure(
    recorder: _Recorder, model: nn.Module, inputs: tuple[Any, ...], error: Exception
) -> str:
    where = recorder.stack[-1] if recorder.stack else ""
    shapes = ", ".join(str(tuple(x.shape)) for x in tensors_in(inputs)) or "no tensor"
    said = " ".join(str(error).split())
    return (
        f"{_called(model, where)} failed on an input of shape {shapes}, so the module cannot be "
        f"read ({type(error).__name__}: {said}). Give an example input of the shape, the type and "
        "the device that the module takes, with a batch axis."
    )


def _called(model: nn.Module, name: str) -> str:
    if not name:
        return f"the module {type(model).__name__}"
    return f"module {name!r} ({type(model.get_submodule(name)).__name__})"


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Give modes, buffers and the state of all random number generators back as they were."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, dict(module._buffers), {n: _copy(b) for n, b in module._buffers.items()})
        for module in model.modules()
    ]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(i for i in devices if i is not None)):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, held, values in buffers:
                module._buffers.clear()
                module._buffers.update(held)
                for name, buffer in held.items():
                    value = values[name]
                    if buffer is not None and value is not None and not _same(buffer, value):
                        buffer.copy_(value)


def _copy(buffer: torch.Tensor | None) -> torch.Tensor | None:
    return None if buffer is None else buffer.detach().clone()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether they are equal, NaN beside NaN."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


class _Recorder(TorchFunctionMode):
    """Writes the graph while it is entered."""

    def __init__(self, graph: Graph, model: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        self.stack: list[str] = []
        self.additions = 0
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.known: Any = WeakTensorKeyDictionary()

    @contextlib.contextmanager
    def following(self, model: nn.Module) -> Iterator[None]:
        """Note which module is at work, by hooks that are taken off again."""
        handles = []

        def before(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any) -> None:
                self.stack.append(name)
                self.graph.called.append(name)

            return hook

        def behind(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                self.stack.pop()
                for tensor in tensors_in(output):
                    if tensor in self.known:
                        self.known[tensor].left_by.append(name)

            return hook

        try:
            for name, module in model.named_modules():
                handles.append(module.register_forward_pre_hook(before(name)))
                handles.append(module.register_forward_hook(behind(name)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter(self, inputs: Any, options: Any) -> None:
        """Make nodes of the tensors that the model is given."""
        for tensor in tensors_in((inputs, options)):
            node = self._new("input", tensor)
            node.ancestors = 1 << node.index
            self.known[tensor] = node

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = [self._node(tensor) for tensor in tensors_in((args, kwargs))]
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        if name == "__get__":  # an attribute, such as T: the function belongs to its descriptor
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        written = list(tensors_in(args[0] if name in _SETTERS else result))
        if written:
            arguments = tuple(self._as_nodes(entry) for entry in args)
            options = {key: self._as_nodes(entry) for key, entry in kwargs.items()}
            call = -1
            if name in ADDITIONS:
                call, self.additions = self.additions, self.additions + 1
            for tensor in written:
                if tensor in self.known and self.known[tensor].op == "parameter":
                    continue  # a parameter that is handed on is itself
                node = self._new(name, tensor, tuple(dict.fromkeys(read)))
                node.arguments, node.options, node.call = arguments, options, call
                self.known[tensor] = node
        return result

    def _as_nodes(self, value: Any) -> Any:
        """The argument with every tensor replaced by its node."""
        if isinstance(value, torch.Tensor):
            return self._node(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._as_nodes(entry) for entry in value)
        return value

    def _node(self, tensor: torch.Tensor) -> Node:
        """The node of a tensor that is read; one is made for a parameter or a constant."""
        if tensor not in self.known:
            name = self.names.get(id(tensor))
            node = self._new("constant" if name is None else "parameter", tensor)
            if name is not None:
                node.parameters, node.made_of = (name,), frozenset({name})
            self.known[tensor] = node
        return self.known[tensor]

    def _new(self, op: str, tensor: torch.Tensor, parents: tuple[Node, ...] = ()) -> Node:
        node = Node(len(self.graph.nodes), op, self.stack[-1] if self.stack else "", parents)
        node.shape, node.floating = tuple(tensor.shape), tensor.is_floating_point()
        for parent in parents:
            parent.children.append(node)
            node.ancestors |= parent.ancestors
            if parent.op == "parameter":
                node.parameters += parent.parameters
            if not parent.moved:
                node.made_of |= parent.made_of
        if node.ancestors:
            node.ancestors |= 1 << node.index
        self.graph.nodes.append(node)
        return node
