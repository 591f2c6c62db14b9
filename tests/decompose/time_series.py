"""Series with known structure for the tests of this room."""

import numpy as np


def var_series(rng, steps, units, *, coupling=0.15, drive=0.5):
    """A stable sparse VAR(1) with a common autocorrelated drive and an offset: (step, unit)."""
    own = rng.uniform(0.15, 0.7, units)
    matrix = np.diag(own) + rng.normal(0, coupling, (units, units)) * (
        rng.random((units, units)) < 3 / units
    )
    matrix *= min(1.0, 0.95 / np.abs(np.linalg.eigvals(matrix)).max())
    loading = rng.normal(0, drive, units)
    values, common = np.zeros((steps + 50, units)), 0.0
    for t in range(1, steps + 50):
        common = 0.7 * common + rng.normal()
        values[t] = matrix @ values[t - 1] + loading * common + rng.normal(size=units)
    return values[50:] + 3.0


def ar_series(rng, steps, coefficients):
    """Independent AR(1) series, stationary from the first step: (step, unit)."""
    rho = np.asarray(coefficients, dtype=float)
    values = np.empty((steps, rho.size))
    values[0] = rng.normal(size=rho.size) / np.sqrt(1 - rho**2)
    for t in range(1, steps):
        values[t] = rho * values[t - 1] + rng.normal(size=rho.size)
    return values


def var_covariance(matrix, noise):
    """Population covariance of (x_t, x_t+1) of a VAR(1) with innovation covariance `noise`."""
    size = matrix.shape[0]
    flat = np.linalg.solve(np.eye(size**2) - np.kron(matrix, matrix), np.ravel(noise))
    same = flat.reshape(size, size)
    return np.block([[same, same @ matrix.T], [matrix @ same, same]])


def recording_of(activity, *, n_steps=None, tokens=None):
    """A Recording of given activity (prompt, step, unit), four units to a layer."""
    import xarray as xr

    from synatlas.artifact import finish
    from synatlas.record.recording import RECORDING

    prompts, steps, units = activity.shape
    n_steps = np.full(prompts, steps) if n_steps is None else np.asarray(n_steps)
    tokens = np.arange(steps) + np.zeros((prompts, 1)) if tokens is None else tokens
    sizes = {"prompt": prompts, "step": steps, "unit": units, "position": 3}
    values = {
        "activity": activity,
        "token": tokens,
        "n_steps": n_steps,
        "prompt": [f"p{k:02d}" for k in range(prompts)],
        "unit": [f"L{k // 4:02d}H{k % 4:02d}" for k in range(units)],
        "layer": np.arange(units) // 4,
        "index": np.arange(units) % 4,
    }

    def filled(name, declared):
        shape = tuple(sizes[dim] for dim in declared.dims)
        if name in values:
            return declared.dims, np.asarray(
                values[name], dtype=str if declared.dtype == "str" else declared.dtype
            )
        if declared.dtype == "str":
            return declared.dims, np.full(shape, "text")
        return declared.dims, np.zeros(shape, dtype=declared.dtype)

    dataset = xr.Dataset(
        {name: filled(name, v) for name, v in RECORDING.variables.items() if v.required},
        coords={name: filled(name, v) for name, v in RECORDING.coords.items() if v.required},
        attrs=dict.fromkeys(RECORDING.attrs, "made for a test") | {"n_layers": units // 4},
    )
    return finish(dataset, RECORDING, fingerprint="0" * 32)


def planted_series(rng, rows, *, samples):
    """Two series whose first half is the past x, y and whose second is the future a, b.

    `rows` mixes independent Gaussian sources into x, y, a, b. The sample covariance is exactly
    that of the mixture, so atoms at ``lag=samples`` are those of the population: (step, unit).
    """
    noise = rng.normal(size=(samples, rows.shape[1]))
    orthogonal, _ = np.linalg.qr(noise - noise.mean(axis=0))
    x, y, a, b = rows @ orthogonal.T
    return np.stack([np.concatenate([x, a]), np.concatenate([y, b])], axis=1)
