"""The closed form against determinants, theorems, and finite differences."""

import numpy as np
import pytest
import torch
from time_series import var_covariance

from reference.phiid_reference import covariance_atoms
from synatlas.decompose.gaussian import Correlations, closed_form, variances


def correlations_of(covariance):
    scale = np.sqrt(np.diag(covariance))
    r = covariance / np.outer(scale, scale)
    return Correlations(r[0, 1], r[2, 3], r[0, 2], r[1, 3], r[0, 3], r[1, 2])


def random_covariances(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        factor = rng.normal(size=(4, 6))
        yield factor @ factor.T


def test_matches_determinants_and_the_explicit_lattice():
    for covariance in random_covariances(200):
        atoms = closed_form(Correlations(*map(np.asarray, correlations_of(covariance))))
        assert np.allclose(atoms, covariance_atoms(covariance), atol=1e-11, rtol=0)


def test_independent_memories_make_synergy_of_twice_the_lesser():
    """Two independent series have sts = 2 min(S_a, S_b), the reason for nulls."""
    rho = np.array([0.3, 0.6, 0.9])[:, None], np.array([[0.2, 0.6, 0.95]])
    one, two = np.broadcast_arrays(*rho)
    zero = np.zeros_like(one)
    atoms = closed_form(Correlations(zero, zero, one, two, zero, zero))
    least = np.minimum(-0.5 * np.log(1 - one**2), -0.5 * np.log(1 - two**2))
    assert np.allclose(atoms[..., 3, 3], 2 * least, atol=1e-12)
    assert np.allclose(atoms[..., 0, 0], 0.0, atol=1e-12)
    assert np.allclose(atoms[..., 0, 3], least, atol=1e-12)


def test_a_one_way_copy_is_transfer():
    """b is a noisy copy of x, a and y are noise: everything is un1 to un2."""
    zero = np.zeros(1)
    atoms = closed_form(Correlations(zero, zero, zero, zero, zero + 0.8, zero))[0]
    assert np.isclose(atoms[1, 2], -0.5 * np.log(1 - 0.8**2))
    assert np.isclose(np.abs(atoms).sum(), atoms[1, 2])


def test_time_reversal_transposes_the_grid():
    rng = np.random.default_rng(3)
    for _ in range(20):
        matrix = rng.normal(0, 0.4, (2, 2))
        matrix *= min(1.0, 0.9 / np.abs(np.linalg.eigvals(matrix)).max())
        r = correlations_of(var_covariance(matrix, np.array([[1.0, 0.3], [0.3, 1.0]])))
        back = Correlations(r.ab, r.xy, r.xa, r.yb, r.ya, r.xb)
        assert np.allclose(
            closed_form(Correlations(*map(np.asarray, r))),
            closed_form(Correlations(*map(np.asarray, back))).T,
            atol=1e-12,
        )


def test_torch_gives_the_same_atoms_and_gradients_match_finite_differences():
    r = np.array([correlations_of(c) for c in random_covariances(20, seed=5)]).T
    tensors = [torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in r]
    atoms = closed_form(Correlations(*tensors))
    assert np.allclose(atoms.detach().numpy(), closed_form(Correlations(*r)), atol=1e-13)
    atoms[:, 3, 3].sum().backward()
    step = 1e-6
    for k, tensor in enumerate(tensors):
        up, down = r.copy(), r.copy()
        up[k] += step
        down[k] -= step
        slope = closed_form(Correlations(*up)) - closed_form(Correlations(*down))
        assert tensor.grad is not None
        assert np.allclose(tensor.grad.numpy(), slope[:, 3, 3] / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
def test_pivot_is_the_least_conditional_variance(distance):
    """Nearly equal pasts: what is left of one after the other."""
    r = Correlations(*map(np.asarray, (1 - distance, 0.2, 0.1, 0.1, 0.1, 0.1)))
    assert np.isclose(variances(r).pivot, 1 - (1 - distance) ** 2, rtol=1e-6)
