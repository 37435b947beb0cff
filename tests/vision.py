"""Networks of torchvision, on a machine whose torchvision cannot load its compiled half.

The wheel of torchvision on PyPI belongs to the CUDA build of torch; beside the CPU build its
compiled operators do not load, and importing it fails where it describes two of them. No model
needs either, so they are declared here, without a meaning, when they are missing.
"""

from __future__ import annotations

import types

import torch

_DECLARED: list[torch.library.Library] = []


def models() -> types.ModuleType:
    """``torchvision.models``; no weights are ever downloaded."""
    try:
        import torchvision
    except RuntimeError:  # operator torchvision::nms does not exist
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        _DECLARED.append(library)  # a library that is collected takes its operators along
        import torchvision
    return torchvision.models
