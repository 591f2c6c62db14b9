"""Gaussian mutual informations of a pair from its six correlations, in closed form.

Each mutual information is -1/2 ln of a conditional variance, which a Schur recursion gives from
the correlations. Determinants are never expanded: for nearly collinear series their terms
cancel and lose every digit, while the recursion loses half as many.

Everything here is written once for NumPy arrays and torch tensors; under torch it is
differentiable.
"""

import sys
from typing import Any, NamedTuple

from synatlas.decompose.lattice import moebius


class Correlations(NamedTuple):
    """The six correlations of pasts x, y and futures a, b; arrays or tensors of one shape."""

    xy: Any
    ab: Any
    xa: Any
    yb: Any
    xb: Any
    ya: Any


class Variances(NamedTuple):
    """Variances left after conditioning, in the order of :class:`Informations`, and the pivot.

    ``xy_ab`` is det(ab | xy) / det(ab). `pivot` is the least conditional variance that occurs:
    rounding errors of the informations are about 1e-16 / pivot.
    """

    xa: Any
    xb: Any
    ya: Any
    yb: Any
    xy_a: Any
    xy_b: Any
    x_ab: Any
    y_ab: Any
    xy_ab: Any
    pivot: Any


class Informations(NamedTuple):
    """Nine mutual informations in nats: past variables, underscore where needed, futures."""

    xa: Any
    xb: Any
    ya: Any
    yb: Any
    xy_a: Any
    xy_b: Any
    x_ab: Any
    y_ab: Any
    xy_ab: Any


def namespace(array: Any) -> Any:
    """The library that `array` belongs to: torch for tensors, else NumPy."""
    # A tensor exists only where torch was imported; importing it here would cost seconds.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return torch
    import numpy as np

    return np


def variances(r: Correlations) -> Variances:
    """Conditional variances of unit-variance variables with correlations `r`.

    With p = 1 - r_xy², q = 1 - r_ab², u = r_y. - r_xy r_x. and w = r_.b - r_ab r_.a:
    var(a | xy) = 1 - r_xa² - u_a² / p, and likewise the others;
    det(ab | xy) = var(a | xy) var(b | xy) - cov(a, b | xy)².
    Nothing is clamped: a variance of 0 or less says that the four variables are not in general
    position, and its logarithm is infinite or NaN.
    """
    xp = namespace(r.xy)
    p = (1 - r.xy) * (1 + r.xy)
    q = (1 - r.ab) * (1 + r.ab)
    e_xa = (1 - r.xa) * (1 + r.xa)
    e_xb = (1 - r.xb) * (1 + r.xb)
    e_ya = (1 - r.ya) * (1 + r.ya)
    e_yb = (1 - r.yb) * (1 + r.yb)
    u_a = r.ya - r.xy * r.xa
    u_b = r.yb - r.xy * r.xb
    u_a_p = u_a / p
    v_a = e_xa - u_a * u_a_p
    v_b = e_xb - u_b * u_b / p
    c = r.ab - r.xa * r.xb - u_b * u_a_p
    w_x = r.xb - r.ab * r.xa
    w_y = r.yb - r.ab * r.ya
    v_x = e_xa - w_x * w_x / q
    v_y = e_ya - w_y * w_y / q
    det = v_a * v_b - c * c
    least = xp.minimum(xp.minimum(p, q), xp.minimum(v_x, v_y))
    pivot = xp.minimum(least, det / xp.maximum(v_a, v_b))
    return Variances(e_xa, e_xb, e_ya, e_yb, v_a, v_b, v_x, v_y, det / q, pivot)


def informations(left: Variances) -> Informations:
    """-1/2 ln of each conditional variance, in nats."""
    xp = namespace(left.xa)
    return Informations(*(-0.5 * xp.log(variance) for variance in left[:9]))


def minimum_information(i: Informations) -> list[Any]:
    """The 16 knowns under MMI: every redundancy is the least of its informations [1]_.

    References
    ----------
    .. [1] Barrett (2015), Phys. Rev. E 91, 052802, arXiv:1411.2832.
    """
    low = namespace(i.xa).minimum
    xy_to_a, xy_to_b = low(i.xa, i.ya), low(i.xb, i.yb)
    ab_to_x, ab_to_y = low(i.xa, i.xb), low(i.ya, i.yb)
    return [
        *(low(xy_to_a, xy_to_b), xy_to_a, xy_to_b, low(i.x_ab, i.y_ab)),
        *(ab_to_x, i.xa, i.xb, i.x_ab),
        *(ab_to_y, i.ya, i.yb, i.y_ab),
        *(low(i.xy_a, i.xy_b), i.xy_a, i.xy_b, i.xy_ab),
    ]


def closed_form(r: Correlations) -> Any:
    """The 16 atoms of Gaussian variables with correlations `r`, under MMI redundancy.

    Parameters
    ----------
    r : six NumPy arrays or six torch tensors of one shape, each in (-1, 1) and together positive
        definite. Population correlations give population atoms.

    Returns
    -------
    array or tensor
        ``(..., past, future)`` in nats, of the type and precision of the input; their sum is
        I(xy; ab). Under torch, gradients flow except at ties of two informations, where that of
        the minimum is a subgradient. Singular correlations give NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1)
    >>> independent = Correlations(zero, zero, zero + 0.6, zero + 0.8, zero, zero)
    >>> bool(np.isclose(closed_form(independent)[0, 3, 3], -np.log(1 - 0.6**2)))
    True
    """
    xp = namespace(r.xy)
    atoms = moebius(minimum_information(informations(variances(r))))
    stacked = xp.moveaxis(xp.stack(atoms), 0, -1)
    return stacked.reshape(*stacked.shape[:-1], 4, 4)
