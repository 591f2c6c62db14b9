"""Local Gaussian informations as quadratic forms, so that their mean over partners is a product.

With unit variances, i(S; a) = -1/2 ln v + a² / 2 - e² / (2 v), where e is what is left of a after
regression on S and v its variance. Under MMI the same informations are selected at every step,
so a local atom of a pair is one quadratic form in x, y (pasts) and a, b (futures). For a fixed
unit, the sum over partners of the terms of each kind is a matrix product: coefficients of all
pairs times partners' series, of which no pair's series is ever formed.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from synatlas.decompose.gaussian import Correlations, Informations, informations, variances
from synatlas.decompose.lattice import moebius
from synatlas.decompose.windows import Windows

#: Coefficients of products of two of x, y, a, b; the key is the two letters in that order.
Form = dict[str, Any]

_ORDER: Final = "xyab"

#: Position in the grid of knowns -> the informations of which MMI selects the least.
_CHOICES: Final = {
    0: ("xa", "xb", "ya", "yb"),
    1: ("xa", "ya"),
    2: ("xb", "yb"),
    3: ("x_ab", "y_ab"),
    4: ("xa", "xb"),
    8: ("ya", "yb"),
    12: ("xy_a", "xy_b"),
}
_DIRECT: Final = {
    5: "xa", 6: "xb", 7: "x_ab", 9: "ya", 10: "yb", 11: "y_ab", 13: "xy_a", 14: "xy_b", 15: "xy_ab",
}  # fmt: skip

#: Share of each known (column) in each atom (row).
_INVERSE: Final = np.array(moebius(list(np.eye(16))))

#: Below this conditional variance coefficients are so great that their products lose digits.
THIN: Final = 1e-4


class Tile(NamedTuple):
    """Some prompts, some units, and some of their partners."""

    prompts: slice
    units: slice
    partners: slice


class Partners(NamedTuple):
    """Sums of a tile over its partners.

    `defined` excludes each unit itself, pairs with an undefined series, and thin pairs, which
    must be added from their windows.
    """

    sums: Float[np.ndarray, "atom prompt unit sample"]
    defined: Bool[np.ndarray, "prompt unit partner"]
    thin: Bool[np.ndarray, "prompt unit partner"]


def sum_over_partners(windows: Windows, tile: Tile, cells: tuple[int, ...]) -> Partners:
    """Sums over partners of local MMI atoms, in nats; `un1` is the unit, `un2` the partner.

    Parameters
    ----------
    windows : pasts and futures.
    tile : which units and partners.
    cells : positions of the atoms in the grid.
    """
    r, defined = _correlations(windows, tile)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = variances(r)
        thin = defined & ~(left.pivot >= THIN)
        if thin.any():
            defined = defined & ~thin
            r = Correlations(*(np.where(thin, 0.0, value) for value in r))
            left = variances(r)
    mean = informations(left)
    forms = _forms(r, left)
    selected = _select(mean)
    scale = np.sqrt(windows.shape[2] - 1)
    own = scale * windows.values[tile.prompts, :, tile.units]
    other = scale * windows.values[tile.prompts, :, tile.partners]
    sums = []
    for cell in cells:
        weight = _weights(cell, selected)
        total: Form = {}
        constant = np.zeros(r.xy.shape)
        for name, share in weight.items():
            constant += share * getattr(mean, name)
            for product, coefficient in getattr(forms, name).items():
                _add(total, product, share * coefficient)
        sums.append(_evaluate(total, constant, own, other))
    return Partners(np.stack(sums), defined, thin)


def _correlations(
    windows: Windows, tile: Tile
) -> tuple[Correlations, Bool[np.ndarray, "prompt unit partner"]]:
    """Six correlations of every unit with every partner, 0 where the pair is undefined."""
    prompts, units, partners = tile
    count, others = units.stop - units.start, partners.stop - partners.start
    samples = windows.shape[2]
    left = windows.values[prompts, :, units].reshape(-1, 2 * count, samples)
    right = windows.values[prompts, :, partners].reshape(-1, 2 * others, samples)
    table = np.matmul(left, right.transpose(0, 2, 1))
    fine, own = windows.reason[prompts] == 0, windows.self_correlation[prompts]
    defined = fine[:, units, None] & fine[:, None, partners]
    defined &= np.arange(units.start, units.stop)[:, None] != np.arange(
        partners.start, partners.stop
    )
    xa, yb = np.broadcast_arrays(own[:, units, None], own[:, None, partners])
    found = Correlations(
        xy=table[:, :count, :others],
        ab=table[:, count:, others:],
        xa=xa,
        yb=yb,
        xb=table[:, :count, others:],
        ya=table[:, count:, :others],
    )
    return Correlations(*(np.where(defined, value, 0.0) for value in found)), defined


def _select(mean: Informations) -> dict[int, dict[str, np.ndarray]]:
    """Known -> information -> 1 where it is the least of its known, else 0."""
    out: dict[int, dict[str, np.ndarray]] = {}
    for known, names in _CHOICES.items():
        values = [getattr(mean, name) for name in names]
        if len(names) == 2:
            first = (values[0] < values[1]).astype(np.float64)
            out[known] = {names[0]: first, names[1]: 1 - first}
        else:
            least = np.argmin(values, axis=0)
            out[known] = {name: (least == k).astype(float) for k, name in enumerate(names)}
    return out


def _weights(cell: int, selected: Mapping[int, Mapping[str, np.ndarray]]) -> Form:
    """Share of each information in an atom."""
    out: Form = {}
    for known in np.flatnonzero(_INVERSE[cell]).tolist():
        share = _INVERSE[cell, known]
        if known in _DIRECT:
            _add(out, _DIRECT[known], share)
        else:
            for name, one in selected[known].items():
                _add(out, name, share * one)
    return out


def _add(form: Form, key: str, value: Any) -> None:
    # Not in place: values may be shared between forms.
    form[key] = form[key] + value if key in form else value


def _forms(r: Correlations, left: Any) -> Informations:
    """Each information without its mean, as a quadratic form of x, y, a, b."""
    p, q = (1 - r.xy) * (1 + r.xy), (1 - r.ab) * (1 + r.ab)
    e_a = {"a": 1.0, "x": (r.xy * r.ya - r.xa) / p, "y": (r.xy * r.xa - r.ya) / p}
    e_b = {"b": 1.0, "x": (r.xy * r.yb - r.xb) / p, "y": (r.xy * r.xb - r.yb) / p}
    e_x = {"x": 1.0, "a": (r.ab * r.xb - r.xa) / q, "b": (r.ab * r.xa - r.xb) / q}
    e_y = {"y": 1.0, "a": (r.ab * r.yb - r.ya) / q, "b": (r.ab * r.ya - r.yb) / q}
    slope = (r.ab + e_a["x"] * r.xb + e_a["y"] * r.yb) / left.xy_a
    after = {
        "b": 1.0,
        "a": -slope,
        "x": e_b["x"] - slope * e_a["x"],
        "y": e_b["y"] - slope * e_a["y"],
    }
    xy_a = _explained("a", e_a, left.xy_a)
    # i(xy; ab) = i(xy; a) + i(xy; b | a)
    both = dict(xy_a)
    _add_square(both, {"b": 1.0, "a": -r.ab}, 0.5 / q)
    _add_square(both, after, -0.5 * left.xy_a / (left.xy_ab * q))
    return Informations(
        xa=_explained("a", {"a": 1.0, "x": -r.xa}, left.xa),
        xb=_explained("b", {"b": 1.0, "x": -r.xb}, left.xb),
        ya=_explained("a", {"a": 1.0, "y": -r.ya}, left.ya),
        yb=_explained("b", {"b": 1.0, "y": -r.yb}, left.yb),
        xy_a=xy_a,
        xy_b=_explained("b", e_b, left.xy_b),
        x_ab=_explained("x", e_x, left.x_ab),
        y_ab=_explained("y", e_y, left.y_ab),
        xy_ab=both,
    )


def _explained(target: str, residual: Mapping[str, Any], variance: np.ndarray) -> Form:
    """target² / 2 - residual² / (2 variance)."""
    form: Form = {target + target: 0.5}
    _add_square(form, residual, -0.5 / variance)
    return form


def _add_square(form: Form, linear: Mapping[str, Any], weight: Any) -> None:
    names = sorted(linear, key=_ORDER.index)
    for k, one in enumerate(names):
        scaled = weight * linear[one]
        _add(form, one + one, scaled * linear[one])
        for two in names[k + 1 :]:
            _add(form, one + two, 2 * scaled * linear[two])


def _evaluate(
    form: Form,
    constant: Float[np.ndarray, "prompt unit partner"],
    own: Float[np.ndarray, "prompt window unit sample"],
    other: Float[np.ndarray, "prompt window partner sample"],
) -> Float[np.ndarray, "prompt unit sample"]:
    """Sum over partners y, b of a form, for every unit's x and a."""
    x, a, y, b = own[:, 0], own[:, 1], other[:, 0], other[:, 1]
    out = np.zeros(x.shape)
    out += constant.sum(axis=-1)[..., None]
    for name, mine in {"xx": x**2, "xa": x * a, "aa": a**2}.items():
        if name in form:
            out += form[name].sum(axis=-1)[..., None] * mine
    for name, mine, theirs in (("xy", x, y), ("xb", x, b), ("ya", a, y), ("ab", a, b)):
        if name in form:
            out += mine * (form[name] @ theirs)
    for name, theirs in {"yy": y**2, "yb": y * b, "bb": b**2}.items():
        if name in form:
            out += form[name] @ theirs
    return out
