"""Laws of weights. All are symmetric; all have variance 1 that have a variance.

========== ================ ============= =====================================
name       parameter        kurtosis      moments
========== ================ ============= =====================================
gaussian                    3             all
uniform                     9/5           all
rademacher                  1             all
student_t  dof > 0          3 + 6/(dof-4) below dof; unit scale if dof <= 2
stable     0 < stability <2 none          below stability; unit scale
orthogonal                  3 (large)     all; entries of a matrix dependent
========== ================ ============= =====================================
"""

from sigprop.laws.heavy import Stable, StudentT
from sigprop.laws.light import Gaussian, Rademacher, Uniform
from sigprop.laws.orthogonal import Orthogonal

__all__ = ["Gaussian", "Orthogonal", "Rademacher", "Stable", "StudentT", "Uniform"]
