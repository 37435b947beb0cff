"""Looks-linear initialisation: a ReLU net whose units are pairs, so that it acts linearly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.spec import LayerTable, Network, Scheme, Structure, WeightLaw

__all__ = ["LooksLinear", "check_pairs", "check_stride", "pair_variance"]


@Scheme.family.register("looks_linear")
@dataclass(frozen=True, kw_only=True)
class LooksLinear(Scheme):
    r"""First matrix [U; -U], the others [[U, -U], [-U, U]], every U orthogonal.

    The state is :math:`[\varphi(z); \varphi(-z)]` with the ReLU, and z goes through the
    network as through the linear one of the matrices U: without loss, at any depth, as long
    as no layer is narrower than what it carries. With another law of the U (``law``) it is a
    deep linear network of that law.

    Parameters
    ----------
    lossy : bool
        Whether a layer may be narrower than what it carries, or of an image drop pixels by a
        stride (default False): then not an isometry but a projection.
    """

    formula: ClassVar[str] = (
        "units in +/- pairs: W_1 = [U; -U], W_l = [[U, -U], [-U, U]], U orthogonal; branch 1."
    )
    source: ClassVar[str] = (
        "Balduzzi, Frean, Leary, Lewis, Ma and McWilliams (2017), The shattered gradients "
        "problem, arXiv:1702.08591"
    )
    blocks: ClassVar[tuple[str, ...]] = ("plain",)
    default_block: ClassVar[str] = "plain"

    law: WeightLaw | str = "orthogonal"
    lossy: bool = False

    def layers(self, network: Network) -> LayerTable:
        self.check_block(network)
        check_pairs(self.kind, network, lossy=self.lossy)
        structure = np.full((network.depth, 1), Structure.LOOKS_LINEAR, np.int8)
        structure[0] = Structure.MIRRORED
        variance = pair_variance(*network.fans)
        variance[0] = 1 / max(int(network.fans[0][0, 0]), int(network.fans[1][0, 0]) // 2)
        return self.table(network, variance=variance, structure=structure, paired=True)


def pair_variance(fan_in: np.ndarray, fan_out: np.ndarray) -> np.ndarray:
    """Entry variance of the U of LL(U) for which it is orthogonal."""
    return 2 / np.maximum(fan_in, fan_out).astype(float)


def check_stride(scheme: str, network: Network) -> None:
    """Raise where a stride drops pixels; the text says what is lost with them."""
    if max(network.strides) == 1:
        return
    before, left = math.prod(network.images[0]), math.prod(network.images[-1])
    raise SpecError(
        f"scheme {scheme!r} is an isometry, and stride {max(network.strides)} drops pixels: a "
        f"delta kernel reads the central pixel alone, so of {before} pixels {left} are left, a "
        f"share of {1 - left / before:.3g} of the singular values becomes 0, and the norm falls to "
        f"about {math.sqrt(left / before):.2g} of what it was. Use stride 1, move pixels into "
        "channels beforehand, or say lossy = True (--lossy true) if you mean it."
    )


def check_pairs(scheme: str, network: Network, *, lossy: bool) -> None:
    """Raise unless the units of ``network`` can be pairs that carry the input without a loss."""
    phi = network.phi
    if phi.negative_slope != 0.0:
        raise Unsupported(
            f"scheme {scheme!r} needs the activation relu, got {phi.kind!r}: a pair "
            "phi(z), phi(-z) must have the length and the difference z. Use --activation relu."
        )
    stem = network.form.post
    widths = network.state_widths if stem else network.state_widths[1:]
    hidden = network.fans[1][:, : network.branch_matrices - 1] if stem else widths
    for name, n in (("width", widths), ("inner_width", hidden)):
        odd = n[n % 2 == 1]
        if odd.size:
            k = int(odd.flat[0])
            raise SpecError(
                f"scheme {scheme!r} needs an even {name}, got {k}: units come in pairs, one for "
                f"each sign. Use {max(k - 1, 2)} or {k + 1}."
            )
    if lossy:
        return
    check_stride(scheme, network)
    entering, first = network.input_channels, int(widths[0])
    if first < 2 * entering:
        shorter = f"input_width = {first // 2}"
        longer = "width" if stem or network.widths is None else "first layer"
        raise SpecError(
            f"scheme {scheme!r} needs a first layer of at least {2 * entering} units, got {first}: "
            f"{entering} inputs need {entering} pairs, or what does not fit is lost. Use a "
            f"{longer} of {2 * entering} beside input_width = {entering}, {shorter}, or "
            "lossy = True."
        )
    falls = np.flatnonzero(np.diff(widths) < 0)
    if falls.size:
        at = int(falls[0])
        raise SpecError(
            f"scheme {scheme!r} loses directions where the state narrows, from {widths[at]} to "
            f"{widths[at + 1]} units: singular values become 0. Use at least {widths[at]} units "
            "there, or lossy = True."
        )
