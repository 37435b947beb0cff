"""Residual nets of images from several initialisations: what the two figures of training share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from figures._style import PALETTE

if TYPE_CHECKING:
    from sigprop.modules.study import Case

__all__ = ["BLOCKS", "LABELS", "LOOKS", "case", "line", "net_told"]

# Option of the network -> what its blocks are.
BLOCKS = {"everywhere": "type C", "projection": "type B"}
LABELS = {"risotto": "RISOTTO", "fixup": "Fixup", "skipinit": "SkipInit", "he": "He"}
LOOKS = dict(zip(LABELS, PALETTE))

# RISOTTO is told that strides and pooling lose directions, and that normalisation, where it is
# kept as in the paper, loses the isometry.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {"risotto": {"lossy": True, "batch_norm": True}}


def line(effort: Mapping[str, Any], shortcut: str, norm: str) -> str:
    """The network, whose branches end in a trained scalar that starts at 1."""
    widths = "/".join(str(width) for width in effort["widths"])
    return (
        f"resnet:stages={len(effort['widths'])},blocks={effort['blocks']},widths={widths},"
        f"norm={norm},shortcut={shortcut},alpha=1"
    )


def case(network: str, scheme: str, **options: Any) -> Case:
    """The network initialised by a scheme of `LABELS`."""
    from sigprop.modules.initialised import initialised

    return initialised(network, scheme, **_OPTIONS.get(scheme, {}), **options)


def net_told(effort: Mapping[str, Any]) -> str:
    """The network, for the line under a title."""
    widths = "/".join(str(width) for width in effort["widths"])
    return (
        f"convolutional residual nets, ReLU, {effort['blocks']} basic blocks a stage, channels "
        f"{widths}, a trained scalar α on every branch"
    )
