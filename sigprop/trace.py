"""Everything that a sampler may return, in one table.

A trace is a dict from field name to float64 array. Its first two axes are (replicas,
recorded layers); the third, where there is one, runs over the K inputs or over the
K (K - 1) / 2 pairs of them, in the order (0, 1), (0, 2), .., (1, 2), ...

Logarithms of exact zeros are -inf and mean what they say: a dead network, a state that
has not moved. NaN and +inf never mean anything but a failure, except where stated.

Singular values are many, and some of them may be out of reach: there NaN stands for a value
too small to be known, and +inf where there is no value, because the state at that layer is
narrower than the input.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIELDS", "Field"]


@dataclass(frozen=True)
class Field:
    """One quantity: what it is, and over what its third axis runs (``""``: none)."""

    name: str
    axis: str
    long_name: str


FIELDS: dict[str, Field] = {
    f.name: f
    for f in (
        Field("log_norm", "input", "log of |h_l| / |h_0|"),
        Field("log_displacement", "input", "log of |h_l - h_0| / |h_0|"),
        Field("log_gradient", "input", "log of |p_l| / |p_L|, p_l = dLoss/dh_l"),
        Field("log_gradient_displacement", "input", "log of |p_l - p_L| / |p_L|"),
        Field("alignment", "input", "p_l . h_l / (|p_l| |h_l|)"),
        Field("cosine", "pair", "cosine of the angle between two inputs' states"),
        Field("log_distance", "pair", "log of |h_l - h~_l| / |h_0 - h~_0|"),
        Field("effective_rank", "", "exp(entropy of the Gram eigenvalues over their sum)"),
        Field("log_alpha_norm", "input", "log of |h_l| / |h_0| in the norm of l_alpha"),
        # Of networks drawn from another law than the ensemble's, which their weights make good.
        Field("log_tilted_norm", "input", "log of |h_l| / |h_0| in a weighted network"),
        Field("log_weight", "input", "log of the weight of a network up to layer l"),
        # The branch that ends at layer l; layer 0 has none and holds NaN.
        Field("activity", "input", "fraction of active units in the branch that ends here"),
        Field("dead", "input", "number of dead branches up to here"),
        # Of states that are +/- pairs, in their looks-linear coordinates z; of a plain net at layer
        # 0, of the input itself.
        Field("looks_linear_cosine", "pair", "cosine of the angle between two inputs' z"),
        Field("log_looks_linear_distance", "pair", "log of |z_l - z~_l| / |z_0 - z~_0|"),
        Field("looks_linear_effective_rank", "", "effective rank of the z of all inputs"),
        # On request only; of the layer that ends here, so layer 0 has none and holds NaN.
        Field("branch_energy", "input", "|branch F(h)|^2 / |h|^2 in the layer that ends here"),
        Field("skip_energy", "input", "|skip h|^2 / |h|^2, or of S h, in the layer that ends here"),
        Field("diversity", "", "mean over units of 4 p (1-p), p: share of inputs that turn it on"),
        Field("log_first_step", "input", "log of |df| / (eta |h_0|^2 |p_L|^2), layers up to here"),
        # Descending, as many as the input has dimensions; given on request only.
        Field("log_singular", "singular", "log of singular values of dh_l / d(first input)"),
    )
}
