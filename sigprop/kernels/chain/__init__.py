"""The O(1) chain: a few scalars a layer carry the joint law of norm, displacement, gradient.

With Gaussian weights and phi(u) = u (u > 0), s u (u <= 0), a branch sees of its input x
only the length |x|, and whatever comes back sees of a matrix only what the forward pass
has seen of it. So a layer is described by a binomial count of active units and a few
normals and chi-squares, at every width. In units where the state has length 1:

forward, hidden layer with n rows, T^2 = s_w^2 A^2 + s_b^2:
    m ~ Bin(n, 1/2),  P = T^2 X(m),  Q = T^2 X(n - m),  A_new^2 = P + s^2 Q;
output y of the branch: one normal along h, (with displacement) one along the rest of
    h_0's plane, a chi for the rest; h' = c h + a y.

backward, from q at the output of a matrix, with eta = u.q = F.g, e = eta / A, k = s_w |q|:
    |q_new|^2 = (ct e - sn w)^2 + Xp + s^2 ((sn e + ct w)^2 + Xm),
    w = k z,  Xp = k^2 X(m - 1),  Xm = k^2 X(n - m - 1),  ct^2 A^2 = P,  sn^2 A^2 = s^2 Q;
a bias turns eta into (1 - kappa) eta - s_b sqrt(1 - kappa) |q| z, kappa = s_b^2 / T^2.
On the trunk the gradient is (p_1, rest) with respect to h alone, or, jointly with the
displacement, (p_e, p_k, rest) with respect to the plane of h_0 and h: with fewer
coordinates the joint law would be wrong though every marginal is right.

Lengths are carried as logarithms, accumulated from log1p of the relative change, so that
neither a change of 1e-9 nor a growth to e^1000 is lost; the displacement and the gradient's
own displacement are carried as differences, never formed by subtraction.

One call walks `lanes.LANES` replicas abreast; every loop is over lanes, in single precision,
but for the accumulators.

================  ========================================================================
`hidden`          the draws of a layer, and one hidden layer ahead and back
`lengths`         logarithms of lengths, by what a layer adds to them
`by_norm`         a state and a gradient at one branch, where only their lengths are wanted
`by_frame`        the same with displacements: coordinates in the plane of h_0 and h
`residual_layer`  one whole layer of a residual net, ahead and back
`residual_net`    the entry `residual`: all layers, there and back again, and what is recorded
`plain_net`       the entry `plain`, for nets without skips
================  ========================================================================
"""

from sigprop.kernels.chain.plain_net import plain
from sigprop.kernels.chain.residual_net import residual

__all__ = ["plain", "residual"]
