"""Profiles over depth: layer means, and the numbers that describe their shape."""

import math
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from synatlas.inference import layer_orders

#: Random layer orders where not all orders are enumerated.
LAYER_ORDERS: Final = 9999

#: Fewer layers than this have no shape.
MIN_LAYERS: Final = 3

#: From this many layers on each of the two lines spans at least two steps of depth, because a
#: line through two layers follows their noise.
LAYERS_FOR_LONG_LINES: Final = 6


class Shape(NamedTuple):
    """Numbers that describe a profile, each with the profile's leading dims; NaN if undefined.

    The profile is scaled to 0..1 first. `curvature` is the leading coefficient of the least
    squares quadratic in depth (negative: an arch); `rise` and `fall` are the slopes of the two
    joined lines that fit best, which meet at depth `turn`; `mid_minus_ends` is the mean over
    the middle third of depth minus the mean over the rest.
    """

    curvature: Float[np.ndarray, "*draw"]
    rise: Float[np.ndarray, "*draw"]
    fall: Float[np.ndarray, "*draw"]
    turn: Float[np.ndarray, "*draw"]
    mid_minus_ends: Float[np.ndarray, "*draw"]


def layer_means(
    values: Float[np.ndarray, "*draw unit"],
    unit_layer: Int[np.ndarray, " unit"],
    layers: Int[np.ndarray, " layer"],
    counts: Float[np.ndarray, "*draw unit"] | None = None,
) -> Float[np.ndarray, "*draw layer"]:
    """Mean over the defined units of each layer, each unit counted `counts` times (default once).

    NaN where a layer has no defined unit.
    """
    member = (unit_layer[:, None] == layers).astype(float)
    finite = np.isfinite(values).astype(float)
    weight = finite if counts is None else finite * counts
    total = (np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) * weight) @ member
    mass = weight @ member
    return np.divide(total, mass, out=np.full(total.shape, np.nan), where=mass > 0)


def unit_counts(
    unit_layer: Int[np.ndarray, " unit"],
    layers: Int[np.ndarray, " layer"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw unit"]:
    """How often each unit is drawn when the units of every layer are resampled.

    From the n units of a layer n - 1 are drawn with replacement, which makes the variance of
    the layer mean unbiased (Rao, Wu 1988, https://doi.org/10.1080/01621459.1988.10478591).
    A layer's only unit is always drawn.
    """
    counts = np.zeros((draws, unit_layer.size))
    for layer in layers:
        members = np.flatnonzero(unit_layer == layer)
        n = members.size
        counts[:, members] = rng.multinomial(max(n - 1, 1), np.full(n, 1 / n), size=draws)
    return counts


def scaled(profile: Float[np.ndarray, "*draw layer"]) -> Float[np.ndarray, "*draw layer"]:
    """Profile scaled to 0..1 along depth; NaN where it is constant or undefined in a layer."""
    low = profile.min(axis=-1, keepdims=True)
    span = profile.max(axis=-1, keepdims=True) - low
    out = np.full(profile.shape, np.nan)
    # Differences at the level of rounding are no shape.
    tiny = 1e-12 * np.abs(profile).max(axis=-1, keepdims=True)
    np.divide(profile - low, span, out=out, where=np.broadcast_to(span > tiny, profile.shape))
    return out


def shape_of(
    profile: Float[np.ndarray, "*draw layer"], depth: Float[np.ndarray, " layer"]
) -> Shape:
    """Describe profiles over `depth`; layers that are undefined in every profile are left out."""
    usable = np.isfinite(profile).any(axis=tuple(range(profile.ndim - 1)))
    if usable.sum() < MIN_LAYERS:
        nothing = np.full(profile.shape[:-1], np.nan)
        return Shape(nothing, nothing, nothing, nothing, nothing)
    x, y = depth[usable], scaled(profile[..., usable])
    flat = y.reshape(-1, x.size)
    broken = _broken_stick(flat, x)
    parts = (
        flat @ curvature_weights(x),
        broken[0],
        broken[1],
        broken[2],
        flat @ middle_weights(x),
    )
    return Shape(*(part.reshape(profile.shape[:-1]) for part in parts))


def curvature_weights(depth: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """Weights whose product with a profile is the leading coefficient of its quadratic fit."""
    return np.linalg.pinv(np.vander(depth, 3))[0]


def middle_weights(depth: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """Weights whose product with a profile is its middle third's mean less that of the rest.

    NaN where all layers or none lie in the middle third of depth.
    """
    slack = 1e-9
    middle = (depth > 1 / 3 + slack) & (depth < 2 / 3 - slack)
    if not middle.any():
        middle = (depth > 1 / 3 - slack) & (depth < 2 / 3 + slack)
    if not middle.any() or middle.all():
        return np.full(depth.size, np.nan)
    return middle / middle.sum() - ~middle / (~middle).sum()


def _broken_stick(
    y: Float[np.ndarray, "draw layer"], x: Float[np.ndarray, " layer"]
) -> Float[np.ndarray, "3 draw"]:
    """First slope, second slope and joint of the two joined lines of least squares.

    The joint is searched over the inner layers, anew in every draw.
    """
    margin = 2 if x.size >= LAYERS_FOR_LONG_LINES else 1
    joints = x[margin : x.size - margin]
    designs = np.stack(
        [
            np.stack([np.ones_like(x), np.minimum(x - j, 0), np.maximum(x - j, 0)], axis=1)
            for j in joints
        ]
    )
    solve = np.linalg.pinv(designs)
    defined = np.isfinite(y).all(axis=1)
    out = np.full((3, y.shape[0]), np.nan)
    if not defined.any():
        return out
    target = y[defined]
    basis = np.linalg.qr(designs)[0]
    explained = (np.einsum("jlp,dl->jdp", basis, target) ** 2).sum(axis=-1)
    best = explained.argmax(axis=0)
    slopes = np.einsum("dpl,dl->dp", solve[best], target)
    out[:, defined] = np.stack([slopes[:, 1], slopes[:, 2], joints[best]])
    return out


def order_p(
    profile: Float[np.ndarray, " layer"],
    depth: Float[np.ndarray, " layer"],
    rng: np.random.Generator,
) -> float:
    """Share of layer orders that arch at least as much as `profile`: p if layers were exchangeable.

    All orders up to 7 layers, else the given one and 9999 random ones. Neighbouring layers are
    alike, so this p is too small on smooth profiles; it describes, and proves nothing.
    """
    usable = np.isfinite(profile)
    if usable.sum() < MIN_LAYERS:
        return math.nan
    y, weights = scaled(profile[usable]), curvature_weights(depth[usable])
    if not np.isfinite(y).all():
        return math.nan
    curvature = y[layer_orders(y.size, LAYER_ORDERS, rng)] @ weights
    return float((curvature <= y @ weights + 1e-12).mean())
